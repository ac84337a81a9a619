from __future__ import annotations

from pathlib import Path

from star_rft.ledger import Ledger, compaction
from tests.small_ledgers import commit, everything, sample, verdict


def ledger_of_units(folder: Path, count: int, *, rows: int = 3) -> Ledger:
    ledger = Ledger(folder, is_writer=True)
    for unit in range(count):
        commit(ledger, f"u{unit:03d}", [(sample(f"p{unit}", sample_index), verdict()) for sample_index in range(rows)])
    return ledger


def parts(ledger: Ledger) -> list[str]:
    return sorted(path.name for path in ledger.folder.glob("samples/*.parquet"))


def test_many_small_parts_become_one_and_every_row_and_unit_stays(tmp_path: Path) -> None:
    ledger = ledger_of_units(tmp_path, 40)
    before, units = everything(ledger), ledger.units()
    ledger.compact()
    assert everything(ledger) == before
    assert ledger.units() == units
    again = Ledger(tmp_path, is_writer=True)
    assert everything(again) == before
    assert again.units() == units
    assert parts(again) == ["compacted-000000.parquet"]


def test_what_was_replaced_stays_until_the_next_call_for_those_who_are_reading_it(tmp_path: Path) -> None:
    ledger = ledger_of_units(tmp_path, 40)
    reading = Ledger(tmp_path).connect()
    ledger.compact()
    assert len(reading.execute("select * from samples").fetchall()) == 120
    assert len(parts(ledger)) == 41
    ledger.compact()
    assert len(parts(ledger)) == 1


def test_a_few_small_parts_are_left_alone(tmp_path: Path) -> None:
    ledger = ledger_of_units(tmp_path, compaction.ENOUGH - 1)
    ledger.compact()
    assert len(parts(ledger)) == compaction.ENOUGH - 1


def test_what_is_large_enough_is_never_touched_again(tmp_path: Path) -> None:
    ledger = ledger_of_units(tmp_path, 9)
    compaction.compact(ledger._manifest, small=6)
    assert [line["of"] for line in ledger._manifest.lines if "compacted" in line] == [
        ["u000", "u001"],
        ["u002", "u003"],
        ["u004", "u005"],
        ["u006", "u007"],
    ]
    written = len(ledger._manifest.lines)
    compaction.compact(ledger._manifest, small=6)
    assert len(ledger._manifest.lines) == written


def test_later_units_join_what_is_still_small(tmp_path: Path) -> None:
    ledger = ledger_of_units(tmp_path, 40)
    ledger.compact()
    for unit in range(40, 80):
        commit(ledger, f"u{unit:03d}", [(sample(f"p{unit}", 0), verdict())])
    ledger.compact()
    ledger.compact()
    assert parts(ledger) == ["compacted-000001.parquet"]
    assert len(everything(ledger)) == 40 * 3 + 40


def test_later_verdicts_still_supersede_after_their_samples_were_put_together(tmp_path: Path) -> None:
    ledger = ledger_of_units(tmp_path, 40)
    first = sample("p0", 0)
    ledger.supersede("v", [(first.id, first.text, verdict("incorrect"))])
    ledger.compact()
    (row,) = ledger.connect().execute("select status from traces where sample_id = ?", [first.id]).fetchall()
    assert row == ("incorrect",)


def test_a_crash_before_the_line_of_the_manifest_leaves_a_file_that_nothing_names(tmp_path: Path) -> None:
    ledger = ledger_of_units(tmp_path, 40)
    lines = ledger.manifest.read_bytes()
    ledger.compact()
    ledger.manifest.write_bytes(lines)
    again = Ledger(tmp_path, is_writer=True)
    assert len(parts(again)) == 40
    assert len(everything(again)) == 120
