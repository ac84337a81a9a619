"""Data sets in memory as the sources of a config, with a digest that tells one from another."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from star_rft.build import settle
from star_rft.config import Config
from star_rft.errors import UserError
from star_rft.types import Problem, digest

Row = Mapping[str, Any]
Data = Iterable[Row | Problem]
IN_MEMORY = "in memory"


def rows_of(data: Data, *, name: str) -> list[Row | Problem]:
    """Return data in memory as a list. Raises UserError if it is neither mappings nor problems; `name` is for that."""
    if isinstance(data, str | Path):
        raise UserError(f"{name} holds rows; name a file in the config: {str(data)!r}")
    rows = list(data)
    is_problem = [isinstance(row, Problem) for row in rows]
    wrong = next((row for row in rows if not isinstance(row, Mapping | Problem)), None)
    if wrong is not None:
        kind = type(wrong).__name__
        raise UserError(f"{name} must hold mappings or problems, not {kind}; of a data frame df.to_dict('records')")
    if any(is_problem) and not all(is_problem):
        raise UserError(f"{name} holds problems and mappings: give one kind")
    return rows


def with_rows(settled: Config, rows: Mapping[str, Sequence[Row | Problem]], given: Row) -> Config:
    """Return a config whose sources name rows in memory by a digest, so that a run is not resumed with other rows.

    Of the source that rows replace, only the keys that describe its columns are kept. `given` are the caller's
    overrides, which apply to the new sources too.
    """
    raw = settled.model_dump(mode="json", by_alias=True)
    for split, found in rows.items():
        source = raw["data"][split]
        kept = {name: source[name] for name in ("preset", "columns") if source[name] is not None}
        if kept.get("preset"):
            kept["options"] = source["options"]
        if any(isinstance(row, Problem) for row in found):
            kept = {}
            verifier = verifier_of_problems(found)
            if verifier != settled.verifier.name:
                raise UserError(
                    f"data.{split}: the problems are of the verifier {verifier!r}, and the config says"
                    f" {settled.verifier.name!r}: give verifier.name"
                )
        raw["data"][split] = {**kept, "source": f"{IN_MEMORY} ({len(found):,} rows, {_digest_of(found)})"}
    of_sources = {key: value for key, value in given.items() if key.startswith("data.") and not key.endswith(".source")}
    return settle(raw, of_sources)


def verifier_of_problems(rows: Sequence[Row | Problem]) -> str | None:
    """Return the verifier that problems name, or None for mappings. Raises UserError if they name several."""
    names = sorted({row.verifier for row in rows if isinstance(row, Problem)})
    if len(names) > 1:
        raise UserError(f"the problems are of several verifiers: {', '.join(names)}; take those of one")
    return names[0] if names else None


def _digest_of(rows: Sequence[Row | Problem]) -> str:
    plain = [
        asdict(row) if isinstance(row, Problem) else {str(key): value for key, value in row.items()} for row in rows
    ]
    try:
        return digest(json.dumps(plain, default=_plain, sort_keys=True))
    except TypeError as error:
        raise UserError(f"data in memory: {error}") from None


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value, the same in every process."""
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime.date | Decimal):
        return str(value)
    raise TypeError(f"a row holds a value of type {type(value).__name__}, which is no text, number, list or mapping")
