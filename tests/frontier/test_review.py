"""The frontier as it is shown: where problems went, and one problem in full."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from star_rft.errors import UserError
from star_rft.frontier import review
from star_rft.frontier.classes import CLASSES, classify
from star_rft.ledger import Ledger
from star_rft.ledger.schemas import FRONTIER
from tests.small_ledgers import ledger_of, sample, verdict


def two_rounds(folder: Path) -> Ledger:
    """Problem a is solved in round 2, b never, c from the first."""
    right, wrong = verdict(), verdict("incorrect")
    pairs = [(sample("a", i), wrong) for i in range(8)] + [(sample("a", i, round_index=2), right) for i in range(16)]
    for round_index in (1, 2):
        pairs += [(sample("b", i, round_index=round_index), wrong) for i in range(8)]
        pairs += [(sample("c", i, round_index=round_index), right) for i in range(8)]
    return ledger_of(folder, pairs)


def test_where_the_problems_that_are_unsolved_went(tmp_path: Path) -> None:
    con = two_rounds(tmp_path).connect()
    first, now = classify(con, through_round=1), classify(con, through_round=2)
    con.register("recorded", pa.concat_tables([first, now]))
    con.execute("create or replace view frontier as select * from recorded")
    assert review.class_counts(con, now) == {"solved": 2, "no_survivors": 1}
    assert review.classes_by_round(con) == {"no_survivors": [2, 1], "solved": [1, 2]}
    assert review.moved(con, now, was="no_survivors") == (1, {"no_survivors": 1, "solved": 1})


def test_problems_come_class_by_class_with_their_rounds(tmp_path: Path) -> None:
    con = two_rounds(tmp_path).connect()
    now = classify(con, through_round=2)
    rows = list(review.problems(con, now, classes=["no_survivors", "solved"], most=2))
    assert [row["problem_id"] for row in rows] == ["b", "a"]
    assert rows[1]["rounds"] == [{"round": 1, "samples": 8, "correct": 0}, {"round": 2, "samples": 16, "correct": 16}]
    assert set(FRONTIER.names) <= rows[0].keys()


def test_one_problem_in_full_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    con = ledger_of(tmp_path, [(sample(name, 0), verdict()) for name in ("ab1", "ab2", "c")]).connect()
    now = classify(con, through_round=1)
    assert [a["sample_index"] for a in review.problem_in_full(con, now, "c")["traces"]] == [0]
    with pytest.raises(UserError, match="'ab' could be ab1, ab2"):
        review.problem_in_full(con, now, "ab")
    with pytest.raises(UserError, match="begins the id of no train problem"):
        review.problem_in_full(con, now, "x")


@pytest.mark.parametrize("plan", ["fixed", "adaptive"])
def test_every_class_has_a_remedy_in_words(plan: str) -> None:
    found = review.remedies(plan=plan, most=8, models=2, has_hints=True, has_quarantine=True)
    assert set(found) == set(CLASSES)
    assert "hint" in found["no_survivors"]
    assert ("another model" in found["no_survivors"]) == (plan == "adaptive")
