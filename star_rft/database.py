"""DuckDB in memory with the same behaviour in a script, a terminal and a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def in_memory() -> duckdb.DuckDBPyConnection:
    """Open an empty database whose queries draw no progress bar.

    In a notebook `duckdb.connect()` gives a connection that draws its bars with ipywidgets, and that refuses every
    change of `enable_progress_bar`, even to false, where ipywidgets is not installed. In an interactive Python it
    draws them into standard output. A cursor is a connection of its own to the same database, without that bar.
    """
    import duckdb

    return duckdb.connect().cursor()
