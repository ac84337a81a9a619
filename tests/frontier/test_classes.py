from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from star_rft.data import write_problems
from star_rft.frontier.classes import CLASSES, classify
from star_rft.ledger import Ledger
from star_rft.ledger.schemas import FRONTIER
from star_rft.types import Problem, Sample
from tests.small_ledgers import ledger_of, sample, verdict
from verifiers.types import Verdict

VERDICTS = {
    "c": verdict("correct", "2"),
    "i": verdict("incorrect", None, "no_answer"),
    "u": verdict("unknown", None),
    "t": verdict("incorrect", None, "truncated"),
    "9": verdict("incorrect", "9"),
}


def drawn(problem: str, outcomes: str, *, round_index: int = 1, **more: Any) -> list[tuple[Sample, Verdict]]:
    """One sample a letter: c correct, i without an answer, u unknown, t truncated, 9 that answer."""
    return [(sample(problem, i, round_index=round_index, **more), VERDICTS[o]) for i, o in enumerate(outcomes)]


def rows_of(folder: Path, pairs: Sequence[tuple[Sample, Verdict]], *, through_round: int = 1) -> dict[str, Any]:
    table = classify(ledger_of(folder, pairs).connect(), through_round=through_round)
    return {row["problem_id"]: row for row in table.to_pylist()}


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("cccc", "solved"),
        ("ccc", "learnable"),
        ("ccccccci", "solved"),
        ("ccccccii", "learnable"),
        ("ciiiiiii", "hard"),
        ("cciiiiii", "learnable"),
        ("i", "no_survivors"),
        ("iiiiiiii", "no_survivors"),
        ("uuuuui", "unverifiable"),
        ("uuuuuccc", "unverifiable"),
        ("uuuccc", "learnable"),
        ("tttttiii", "truncated"),
        ("ttttiiii", "no_survivors"),
        ("cttttttt", "truncated"),
        ("ccccccct", "solved"),
        ("cccccctt", "learnable"),
    ],
)
def test_a_class_follows_from_the_samples(outcomes: str, expected: str, tmp_path: Path) -> None:
    assert rows_of(tmp_path, drawn("a", outcomes))["a"]["class"] == expected


def test_every_train_problem_has_a_row_also_one_that_was_never_sampled(tmp_path: Path) -> None:
    problems = [Problem(id=name, prompt=f"{name}?", reference="2", verifier="v") for name in "abc"]
    write_problems(tmp_path / "problems.parquet", {"train": problems[:2], "dev": problems[2:]})
    rows = rows_of(tmp_path, [*drawn("b", "cccc"), *drawn("c", "cc", split="dev")])
    assert [(name, row["class"], row["samples"]) for name, row in rows.items()] == [
        ("a", "unseen", 0),
        ("b", "solved", 4),
    ]
    assert [rows["a"][name] for name in ("correct", "tokens", "hinted", "foreign")] == [0] * 4
    assert [rows["a"][name] for name in ("pass_mean", "transition", "other_answer")] == [None] * 3


def test_a_problem_that_was_only_asked_with_a_hint_is_unseen(tmp_path: Path) -> None:
    row = rows_of(tmp_path, drawn("a", "cc", hinted=True))["a"]
    assert (row["class"], row["hinted"], row["hinted_correct"]) == ("unseen", 2, 2)


def healthy(problems: int = 60) -> list[tuple[Sample, Verdict]]:
    """Prompts of all pass rates whose wrong answers seldom agree, as where references are right."""
    return [
        (sample(f"h{i:02d}", k), VERDICTS["c"] if k < i % 17 else verdict("incorrect", str(100 + k)))
        for i in range(problems)
        for k in range(16)
    ]


def test_one_voice_against_the_reference_is_suspect_and_says_which_answer(tmp_path: Path) -> None:
    row = rows_of(tmp_path, [*healthy(), *drawn("a", "9" * 12 + "iiii")])["a"]
    assert row["class"] == "label_error"
    assert [row[name] for name in ("other_answer", "other_votes", "reference_votes", "all_votes")] == ["9", 12, 0, 12]
    assert row["label_error_probability"] > 0.95


def test_a_handful_of_votes_is_needed_whatever_their_unity(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [*healthy(), *drawn("a", "9999"), *drawn("b", "99999")])
    assert rows["a"]["class"] == "no_survivors"
    assert rows["a"]["label_error_probability"] > 0.5


def test_a_problem_with_some_right_samples_is_not_suspect(tmp_path: Path) -> None:
    assert rows_of(tmp_path, [*healthy(), *drawn("a", "9" * 10 + "c" * 6)])["a"]["class"] == "learnable"


def test_a_healthy_run_has_no_suspects(tmp_path: Path) -> None:
    assert {row["class"] for row in rows_of(tmp_path, healthy()).values()} == {
        "solved",
        "learnable",
        "hard",
        "no_survivors",
    }


def test_only_what_was_known_after_a_round_makes_its_classes(tmp_path: Path) -> None:
    con = ledger_of(tmp_path, [*drawn("a", "iiii"), *drawn("a", "c" * 12, round_index=2)]).connect()
    first, second = (classify(con, through_round=r) for r in (1, 2))
    assert [(t["class"][0].as_py(), t["in_round"][0].as_py()) for t in (first, second)] == [
        ("no_survivors", 1),
        ("solved", 2),
    ]
    assert second["transition"][0].as_py() == "newly_solved"


def test_what_was_solved_long_ago_is_asked_again_in_time(tmp_path: Path) -> None:
    con = ledger_of(tmp_path, drawn("a", "cccccccc")).connect()
    found = [classify(con, through_round=r)["class"][0].as_py() for r in range(1, 5)]
    assert found == ["solved", "solved", "learnable", "learnable"]


def test_foreign_samples_do_not_solve_a_prompt(tmp_path: Path) -> None:
    from dataclasses import replace

    pairs = [
        *drawn("a", "iiii"),
        *((replace(s, sample_index=s.sample_index + 4), v) for s, v in drawn("a", "cccccccc")),
    ]
    con = ledger_of(tmp_path, pairs).connect()
    row = classify(con, through_round=1, own=range(4)).to_pylist()[0]
    assert (row["class"], row["foreign"], row["foreign_correct"]) == ("no_survivors", 8, 8)


def test_the_table_has_its_schema_and_the_same_rows_each_time(tmp_path: Path) -> None:
    con = ledger_of(tmp_path, [*healthy(20), *drawn("a", "ttt")]).connect()
    first = classify(con, through_round=1)
    assert first.schema == FRONTIER
    assert first.equals(classify(con, through_round=1))
    assert set(first["class"].to_pylist()) <= set(CLASSES)
    empty = classify(Ledger(tmp_path / "empty", is_writer=True).connect(), through_round=1)
    assert (empty.num_rows, empty.schema) == (0, FRONTIER)


def test_a_reference_that_earlier_samples_gave_is_no_suspect(tmp_path: Path) -> None:
    """A policy that has unlearned an answer says nothing about the reference, however sure its newest samples are."""
    lost = [*healthy(60), *drawn("a", "c" * 8)]
    for round_index in range(2, 6):
        lost += drawn("a", "9" * 6, round_index=round_index)
    row = rows_of(tmp_path, lost, through_round=5)["a"]
    assert (row["reference_votes"], row["other_votes"]) == (8, 24)
    assert row["label_error_probability"] > 0.7
    assert row["class"] == "hard"
