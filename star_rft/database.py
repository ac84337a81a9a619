"""DuckDB in memory with the same behaviour in a script, a terminal and a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def in_memory() -> duckdb.DuckDBPyConnection:
    """Open an empty in-memory database whose queries show no progress bar.

    In a notebook the connection of `duckdb.connect()` shows bars with ipywidgets and, where ipywidgets is not
    installed, refuses every change of `enable_progress_bar`, even to false. In an interactive Python it writes bars to
    standard output. A cursor is a connection of its own to the same database, without bars.
    """
    import duckdb

    return duckdb.connect().cursor()
