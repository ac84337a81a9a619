"""What is trained on, as a file: how it reaches processes that are started for a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.files import write_table
from star_rft.types import Example, Ranking

_IDS = pa.list_(pa.int32())
_EXAMPLES = pa.schema([("prompt_ids", _IDS), ("completion_ids", _IDS), ("weight", pa.float64())])
_RANKINGS = pa.schema([("prompt_ids", _IDS), ("completion_ids", pa.list_(_IDS)), ("scores", pa.list_(pa.float64()))])


def write_items(path: Path, items: Sequence[Example] | Sequence[Ranking]) -> None:
    schema = _RANKINGS if items and isinstance(items[0], Ranking) else _EXAMPLES
    write_table(path, pa.Table.from_pylist([asdict(item) for item in items], schema=schema))


def read_examples(path: Path) -> list[Example]:
    rows = pq.read_table(path, schema=_EXAMPLES).to_pylist()
    return [Example(tuple(row["prompt_ids"]), tuple(row["completion_ids"]), row["weight"]) for row in rows]


def read_rankings(path: Path) -> list[Ranking]:
    rows = pq.read_table(path, schema=_RANKINGS).to_pylist()
    return [
        Ranking(tuple(row["prompt_ids"]), tuple(tuple(ids) for ids in row["completion_ids"]), tuple(row["scores"]))
        for row in rows
    ]
