from __future__ import annotations

import os
from pathlib import Path

import pytest

from star_rft.ledger import Ledger, parts
from tests.small_ledgers import commit, sample, verdict


def ledger_of_two(folder: Path) -> Ledger:
    ledger = Ledger(folder, is_writer=True)
    for unit in ("u0", "u1"):
        commit(ledger, unit, [(sample(unit, sample_index), verdict()) for sample_index in range(2)])
    return ledger


def flip_a_byte(path: Path, *, keeps_time: bool = False) -> None:
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    if keeps_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("table", ["samples", "verdicts"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [(flip_a_byte, "another SHA-256"), (truncate, "bytes instead of"), (Path.unlink, "is missing")],
)
def test_a_damaged_part_is_set_aside_and_only_its_unit_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, table: str, damage: object, says: str
) -> None:
    ledger = ledger_of_two(tmp_path)
    path = ledger.folder / table / "u0.parquet"
    assert callable(damage)
    damage(path)
    again = Ledger(tmp_path, is_writer=True)
    assert list(again.units()) == ["u1"]
    assert list(again.lost()) == ["u0"]
    assert says in caplog.text
    assert str(path) in caplog.text
    assert not path.exists()
    assert any((again.folder / "damaged").iterdir())
    commit(again, "u0", [(sample("u0", sample_index), verdict()) for sample_index in range(2)])
    assert Ledger(tmp_path, is_writer=True).lost() == {}
    ((count,),) = Ledger(tmp_path).connect().execute("select count(*) from traces").fetchall()
    assert count == 4


def test_a_damaged_part_stays_given_up_when_the_process_ends_at_once(tmp_path: Path) -> None:
    ledger = ledger_of_two(tmp_path)
    truncate(ledger.folder / "samples" / "u0.parquet")
    Ledger(tmp_path, is_writer=True)
    again = Ledger(tmp_path, is_writer=True)
    assert list(again.lost()) == ["u0"]


def test_a_part_with_the_size_and_time_of_its_writing_is_believed_until_all_is_read(tmp_path: Path) -> None:
    ledger = ledger_of_two(tmp_path)
    flip_a_byte(ledger.folder / "verdicts" / "u1.parquet", keeps_time=True)
    assert parts.damaged(ledger._manifest) == []
    (found,) = parts.damaged(ledger._manifest, reads_all=True)
    assert found.part == "verdicts/u1.parquet"


def test_a_copied_run_is_whole(tmp_path: Path) -> None:
    ledger = ledger_of_two(tmp_path)
    for path in ledger.folder.glob("*/*.parquet"):
        os.utime(path)
    assert list(Ledger(tmp_path, is_writer=True).units()) == ["u0", "u1"]


def test_all_units_of_a_part_that_holds_many_are_given_up(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, is_writer=True)
    for unit in range(40):
        commit(ledger, f"u{unit}", [(sample(f"p{unit}", 0), verdict())])
    ledger.compact()
    commit(ledger, "later", [(sample("later", 0), verdict())])
    truncate(ledger.folder / "samples" / "compacted-000000.parquet")
    again = Ledger(tmp_path, is_writer=True)
    assert len(again.lost()) == 40
    assert list(again.units()) == ["later"]


def test_a_later_verdict_whose_part_is_damaged_gives_way_to_the_earlier_one(tmp_path: Path) -> None:
    ledger = ledger_of_two(tmp_path)
    first = sample("u0", 0)
    ledger.supersede("v", [(first.id, first.text, verdict("incorrect"))])
    truncate(ledger.folder / "verdicts" / "v.parquet")
    again = Ledger(tmp_path, is_writer=True)
    (row,) = again.connect().execute("select status from traces where sample_id = ?", [first.id]).fetchall()
    assert row == ("correct",)
    assert {"u0", "u1"} <= again.units().keys()


def test_of_two_writers_of_one_unit_the_first_counts(tmp_path: Path) -> None:
    from star_rft.ledger import write_unit

    ledger = Ledger(tmp_path, is_writer=True)
    pairs = [(sample("a", 0), verdict())]
    lines = [write_unit(ledger.folder, "u0", pairs, seconds={}, tag=tag) for tag in ("-x", "-y")]
    assert [ledger.adopt(line) for line in lines] == [True, False]
    assert [path.name for path in ledger.folder.glob("samples/*")] == ["u0-x.parquet"]
    assert ledger.adopt(lines[0]) is False
    ((count,),) = Ledger(tmp_path).connect().execute("select count(*) from traces").fetchall()
    assert count == 1
