from __future__ import annotations

from collections import Counter

import pytest

import verifiers
from star_rft import config as configs
from star_rft.data import load
from star_rft.data.generators.addition import generate, question, worked
from star_rft.data.readers import DataError
from tests.paths import ROOT

THREE_DIGITS = """<scratch>
6 2 4 + 2 5 9 , C: 0
2 + 5 , 3 C: 1
6 + 2 , 8 3 C: 0
, 8 8 3 C: 0
0 8 8 3
</scratch>
#### 8 8 3"""


def test_a_scratchpad_is_worked_as_in_the_paper() -> None:
    assert worked(624, 259) == THREE_DIGITS
    assert worked(7, 8) == "<scratch>\n7 + 8 , C: 0\n, 5 C: 1\n1 5\n</scratch>\n#### 1 5"


def test_sums_are_distinct_even_over_digits_and_apart_between_splits() -> None:
    train, dev = (list(generate(500, split=split, seed=1)) for split in ("train", "dev"))
    assert len({item.question for item in train}) == 500
    assert not {item.question for item in train} & {item.question for item in dev}
    counts = Counter(item.digits for item in train)
    assert set(counts) == {1, 2, 3, 4, 5}
    assert counts[3] == counts[4] == 100  # the one-digit sums run out, and more digits take their place
    assert list(generate(20, split="train", seed=1)) == train[:20]


def test_a_list_says_how_many_sums_of_each_number_of_digits() -> None:
    found = list(generate([5, 20, 0, 3], split="train", digits=(2, 5)))
    assert Counter(item.digits for item in found) == {2: 5, 3: 20, 5: 3}


def test_a_share_of_the_questions_shows_the_answer_as_a_hint_does() -> None:
    plain, hinted = (list(generate(200, split="train", hinted=share)) for share in (0.0, 0.25))
    shown = [item for item in hinted if not item.question.endswith("Target:")]
    assert all(item.question.endswith(f"Target: {item.answer.split('#### ')[1]}") for item in shown)
    assert 30 <= len(shown) <= 70
    assert {item.digits for item in shown} == {1, 2, 3, 4, 5}
    assert [item.answer for item in plain] == [item.answer for item in hinted]


def test_a_hinted_question_is_what_the_recipe_asks_when_it_rationalizes() -> None:
    rationalize = configs.load(ROOT / "configs" / "star_addition.yaml").rationalize
    assert rationalize is not None
    assert rationalize.template is not None
    plain, shown = question(29, 57), question(29, 57, is_hinted=True)
    assert rationalize.template.replace("{question}", plain).replace("{answer}", "8 6") == shown


def test_without_a_scratchpad_the_answer_stands_alone() -> None:
    (item,) = generate([0, 1], split="train", digits=(1, 2), scratchpad=False)
    assert item.answer.startswith("#### ")
    assert "\n" not in item.answer


@pytest.mark.parametrize("scratchpad", [True, False])
def test_the_reference_solution_is_correct(scratchpad: bool) -> None:
    options = {"n": 40, "digits": [1, 5], "hinted": 0.5, "scratchpad": scratchpad}
    problems = load("addition", verifier="exact", split="dev", options=options)
    pairs = [(problem.solution or "", problem.reference) for problem in problems]
    assert all(verdict.is_correct for verdict in verifiers.verify_many("exact", pairs, workers=1))
    assert {problem.meta["digits"] for problem in problems} <= {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"digits": [0, 3]}, "digits is"),
        ({"digits": [1, 1], "n": 80}, "distinct sums of 1 to 1 digits"),
        ({"n": [10, 10]}, "one for each of 1 to 5 digits"),
        ({"hinted": 2}, "hinted is 2"),
        ({"steps": [1, 2]}, "no option 'steps'"),
    ],
)
def test_what_cannot_be_added_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load("addition", verifier="exact", split="train", options=options)
