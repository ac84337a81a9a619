from __future__ import annotations

import json
from pathlib import Path

import pytest

from star_rft.errors import RunError
from star_rft.files import locked
from star_rft.ledger import SCHEMA, Ledger
from star_rft.types import Decoding
from tests.small_ledgers import commit, ledger_of, sample, verdict


def count(ledger: Ledger, view: str) -> int:
    row = ledger.connect().execute(f"select count(*) from {view}").fetchone()
    assert row is not None
    return int(row[0])


def test_an_empty_run_answers_queries_with_no_rows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for view in ("problems", "samples", "verdicts", "traces", "selection", "rounds", "decodings"):
        assert count(ledger, view) == 0


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    ledger_of(tmp_path, [(sample("a", 0), verdict()), (sample("a", 1), verdict("unknown", None))])
    rows = (
        Ledger(tmp_path)
        .connect()
        .execute(
            "select problem_id, sample_index, seed, token_ids, status, score, reason from traces order by sample_index"
        )
    )
    assert rows.fetchall() == [
        ("a", 0, 2**63, [0, 1, 2], "correct", 1.0, "match"),
        ("a", 1, 2**63 + 1, [0, 1, 2], "unknown", None, "fault"),
    ]


def test_a_part_counts_only_once_the_manifest_names_it(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict())])
    orphan = ledger.folder / "samples" / "u9.parquet"
    orphan.write_bytes((ledger.folder / "samples" / "u0.parquet").read_bytes())
    (ledger.folder / "verdicts" / ".u9.parquet.tmp").write_bytes(b"torn")
    assert count(Ledger(tmp_path), "samples") == 1
    Ledger(tmp_path, is_writer=True)
    assert not orphan.exists()
    assert [p.name for p in (ledger.folder / "verdicts").iterdir()] == ["u0.parquet"]


def test_a_torn_last_line_of_the_manifest_is_as_if_never_written(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict())])
    whole = ledger.manifest.read_bytes()
    ledger.manifest.write_bytes(whole + b'{"unit": "u1", "par')
    reopened = Ledger(tmp_path, is_writer=True)
    assert list(reopened.units()) == ["u0"]
    commit(reopened, "u1", [(sample("b", 0), verdict())])
    assert count(Ledger(tmp_path), "samples") == 2


def test_newer_verdicts_supersede_and_the_old_ones_stay(tmp_path: Path) -> None:
    row = sample("a", 0)
    ledger = ledger_of(tmp_path, [(row, verdict("incorrect"))])
    ledger.supersede("v", [(row.id, row.text, verdict("correct"))])
    assert count(ledger, "traces where status = 'correct'") == 1
    assert count(ledger, "all_verdicts") == 2


def test_each_decoding_is_recorded_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, is_writer=True)
    for _ in range(2):
        ledger.record_decoding(Decoding(temperature=0.7, max_tokens=9, stop=("\n",)))
    rows = Ledger(tmp_path).connect().execute("select temperature, top_k, max_tokens, stop from decodings")
    assert rows.fetchall() == [(0.7, 0, 9, ["\n"])]


def test_a_ledger_of_another_schema_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, is_writer=True)
    ledger.manifest.write_text('{"schema": 99}\n')
    with pytest.raises(RunError, match="schema is 99"):
        Ledger(tmp_path)


def test_a_run_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_verdict_of_a_fork_is_newer_than_those_that_it_began_with(tmp_path: Path) -> None:
    first = sample("a", 0)
    ledger = ledger_of(tmp_path / "source", [(first, verdict()), (sample("b", 0), verdict())])
    for number in range(3):
        ledger.supersede(f"again-{number}", [(first.id, first.text, verdict())])
    names = {"u0", "again-2"}
    ledger.fork(tmp_path / "fork/ledger", keeps_unit=names.__contains__, keeps_row=lambda round_index, split: True)
    fork = Ledger(tmp_path / "fork", is_writer=True)
    fork.supersede("mine", [(first.id, first.text, verdict("incorrect"))])
    rows = fork.connect().execute("select problem_id, status from traces order by problem_id").fetchall()
    assert rows == [("a", "incorrect"), ("b", "correct")]


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA + 1, "five", None])
@pytest.mark.parametrize("is_writer", [False, True])
def test_a_ledger_of_another_version_is_refused_and_left_alone(tmp_path: Path, schema: object, is_writer: bool) -> None:
    ledger = Ledger(tmp_path, is_writer=True)
    line = json.dumps({"schema": schema}) + "\n"
    ledger.manifest.write_text(line)
    with pytest.raises(RunError, match=f"reads {SCHEMA} only: another version wrote it"):
        Ledger(tmp_path, is_writer=is_writer)
    assert ledger.manifest.read_text() == line
