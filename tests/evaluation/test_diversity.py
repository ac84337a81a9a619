"""Diversity figures, by hand and at scale."""

from __future__ import annotations

from math import log
from pathlib import Path

import pytest

from star_rft.evaluation.diversity import diversity
from star_rft.ledger import Ledger
from tests.small_ledgers import commit, ledger_of, sample, verdict


def figures(folder: Path, *pairs: object, **options: int) -> dict[str, float]:
    return diversity(ledger_of(folder, pairs).connect(), **{"round_index": 1, **options})  # type: ignore[arg-type]


def right(problem: str, sample_index: int, text: str, **options: object) -> object:
    return sample(problem, sample_index, text, **options), verdict(answer="2")  # type: ignore[arg-type]


def wrong(problem: str, sample_index: int, text: str, answer: str | None) -> object:
    return sample(problem, sample_index, text), verdict("incorrect", answer)


def test_a_round_without_samples_has_no_figures(tmp_path: Path) -> None:
    assert diversity(Ledger(tmp_path, is_writer=True).connect(), round_index=1) == {}


def test_ways_are_distinct_equation_lists_of_correct_samples(tmp_path: Path) -> None:
    found = figures(
        tmp_path,
        right("a", 0, "1 + 1 = 2"),
        right("a", 1, "so 1 + 1 = 2"),
        right("a", 2, "4 - 2 = 2"),
        wrong("a", 3, "5 - 2 = 3", "3"),
        wrong("b", 0, "5 - 2 = 3", "3"),
        wrong("b", 1, "5 - 2 = 3", "3"),
    )
    assert found["distinct_solutions"] == (2 + 0) / 2
    assert found["distinct_solutions_per_correct"] == pytest.approx(2 / 3)
    assert (found["problems"], found["samples"], found["tokens"]) == (2, 6, 3)


def test_entropy_is_of_the_answers_given_with_right_ones_as_one(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        [
            (sample("a", 0), verdict(answer="2")),
            (sample("a", 1), verdict(answer="2.0")),
            (sample("a", 2), verdict("incorrect", "3")),
            (sample("a", 3), verdict("incorrect", "correct")),
            (sample("a", 4), verdict("incorrect", None, "no_answer")),
            (sample("b", 0), verdict("incorrect", None, "no_answer")),
        ],
    )
    expected = -(0.5 * log(0.5) + 2 * 0.25 * log(0.25))
    assert diversity(ledger.connect(), round_index=1)["answer_entropy"] == pytest.approx(expected)


def test_one_answer_has_no_entropy(tmp_path: Path) -> None:
    assert figures(tmp_path, right("a", 0, "x"), right("a", 1, "y"))["answer_entropy"] == 0


def test_saturated_problems_are_all_right_or_all_wrong_and_unknown_is_neither(tmp_path: Path) -> None:
    found = figures(
        tmp_path,
        *[right("a", i, "x") for i in range(2)],
        *[wrong("b", i, "x", "9") for i in range(2)],
        right("c", 0, "x"),
        wrong("c", 1, "x", "9"),
        *[(sample("d", i), verdict("unknown")) for i in range(2)],
    )
    assert (found["all_correct_share"], found["all_incorrect_share"], found["saturated_share"]) == (0.25, 0.25, 0.5)


def test_distinct_n_grams_count_a_repeated_phrase_once(tmp_path: Path) -> None:
    same = "one two three four five"  # two 4-grams
    assert figures(tmp_path / "same", *[right("a", i, same) for i in range(4)])["distinct_ngrams"] == 2 / 8
    found = figures(tmp_path / "other", right("a", 0, same), right("a", 1, "Six  seven\neight nine"))
    assert found["distinct_ngrams"] == 1


def test_texts_of_few_words_have_no_n_grams(tmp_path: Path) -> None:
    found = figures(tmp_path, right("a", 0, "one two three"), right("b", 0, ""))
    assert "distinct_ngrams" not in found
    assert found["ngram_problems"] == 0


def test_n_grams_are_of_a_seeded_part(tmp_path: Path) -> None:
    pairs = [right(f"p{i}", a, " ".join(["w"] * (4 + i))) for i in range(30) for a in range(3)]
    ledger = ledger_of(tmp_path, pairs)  # type: ignore[arg-type]
    parts = [diversity(ledger.connect(), round_index=1, problems=5, samples=1, seed=s) for s in (0, 0, 1)]
    assert parts[0] == parts[1]
    assert parts[0]["distinct_ngrams"] != parts[2]["distinct_ngrams"]
    assert parts[0]["ngram_problems"] == 5
    assert parts[0]["problems"] == 30


def test_other_rounds_splits_and_hints_do_not_count(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [right("a", 0, "1 + 1 = 2")])  # type: ignore[list-item]
    alone = diversity(ledger.connect(), round_index=1)
    others = [
        right("a", 1, "3 - 1 = 2 and much more", round_index=2),
        right("a", 0, "3 - 1 = 2 and much more", split="dev"),
        right("a", 2, "3 - 1 = 2 and much more", hinted=True),
    ]
    commit(ledger, "u1", others)  # type: ignore[arg-type]
    assert diversity(ledger.connect(), round_index=1) == alone


def test_figures_do_not_depend_on_how_many_threads_add(tmp_path: Path) -> None:
    pairs = [
        (
            sample(f"p{i}", a, f"{a % 3} + {i} = {a % 3 + i} and so on and on {a}"),
            verdict("correct" if (i + a) % 3 else "incorrect", str(a % 5)),
        )
        for i in range(700)
        for a in range(7)
    ]
    ledger = ledger_of(tmp_path, pairs)
    found = []
    for threads in (1, 4, 4):
        con = ledger.connect()
        con.execute(f"set threads to {threads}")
        found.append(diversity(con, round_index=1))
    assert found[0] == found[1] == found[2]
