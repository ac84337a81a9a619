"""Ledgers as older versions wrote them: made from today's by taking away what those did not have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from star_rft.errors import RunError
from star_rft.files import write_table
from star_rft.ledger import SCHEMA, Ledger
from star_rft.ledger.parts import marks, sha256
from tests.small_ledgers import commit, everything, sample, verdict

GONE = {
    1: {"samples": ["leaks_hint", "ids_are_sampled"], "verdicts": ["program_key", "invalid_steps"]},
    2: {"samples": ["ids_are_sampled"]},
    3: {"samples": ["ids_are_sampled"]},
}


def as_written_by(schema: int, folder: Path) -> list[Any]:
    """Make a ledger, return its traces, and turn it into one of an older schema."""
    ledger = Ledger(folder, is_writer=True)
    for unit in ("u0", "u1"):
        commit(ledger, unit, [(sample(unit, 0, "1 + 1 = 3"), verdict("incorrect"))])
    row = sample("u0", 0, "1 + 1 = 3")
    ledger.supersede("v", [(row.id, row.text, verdict())])
    traces = everything(ledger)
    lines = [json.loads(line) for line in ledger.manifest.read_text().splitlines()]
    for line in lines[1:]:
        for table, part in line["parts"].items():
            if table in GONE[schema]:
                path = ledger.folder / part
                pq.write_table(pq.read_table(path).drop_columns(GONE[schema][table]), path)
                line["sha256"][table] = sha256(path)
        line |= marks(ledger.folder, line["parts"])
        if schema < 3:
            del line["bytes"], line["mtime_ns"]
    lines[0] = {"schema": schema}
    ledger.manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return traces


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_an_older_ledger_is_brought_up_to_date_without_loss(tmp_path: Path, schema: int) -> None:
    traces = as_written_by(schema, tmp_path)
    ledger = Ledger(tmp_path, is_writer=True)
    assert set(ledger.units()) == {"u0", "u1", "v"}
    assert everything(Ledger(tmp_path)) == traces
    assert json.loads(ledger.manifest.read_text().splitlines()[0]) == {"schema": SCHEMA}
    assert Ledger(tmp_path, is_writer=True).lost() == {}


def test_who_only_reads_is_told_what_to_do_with_columns_that_are_missing(tmp_path: Path) -> None:
    as_written_by(3, tmp_path)
    with pytest.raises(RunError, match="star-rft ledger"):
        Ledger(tmp_path)


def test_ids_of_a_sample_without_a_log_probability_were_not_sampled(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, is_writer=True)
    pairs = [(replace(sample("p", i), logprob=logprob), verdict()) for i, logprob in enumerate([-1.0, None])]
    commit(ledger, "u", pairs)
    (path,) = (ledger.folder / "samples").glob("*.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["ids_are_sampled"]), path)
    line = json.loads(ledger.manifest.read_text().splitlines()[-1])
    line |= marks(ledger.folder, line["parts"])
    ledger.manifest.write_text(json.dumps({"schema": 3}) + "\n" + json.dumps(line) + "\n")
    Ledger(tmp_path, is_writer=True)
    found = Ledger(tmp_path).connect().execute("select ids_are_sampled from samples order by sample_index").fetchall()
    assert found == [(True,), (False,)]


def test_a_migration_that_was_killed_half_way_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = as_written_by(1, tmp_path)
    written: list[Path] = []

    def dies_at_the_third(path: Path, table: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write_table(path, table)

    monkeypatch.setattr("star_rft.ledger.migration.write_table", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path, is_writer=True)
    monkeypatch.undo()
    Ledger(tmp_path, is_writer=True)
    assert everything(Ledger(tmp_path)) == traces


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_a_part_that_was_damaged_before_is_found_after(tmp_path: Path, schema: int) -> None:
    as_written_by(schema, tmp_path)
    path = tmp_path / "ledger" / "samples" / "u1.parquet"
    path.write_bytes(path.read_bytes()[:-9] + b"corrupted")
    ledger = Ledger(tmp_path, is_writer=True)
    assert set(ledger.lost()) == {"u1"}


def test_a_ledger_of_the_future_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, is_writer=True)
    ledger.manifest.write_text(json.dumps({"schema": SCHEMA + 1}) + "\n")
    with pytest.raises(RunError, match="a newer one wrote it"):
        Ledger(tmp_path)
