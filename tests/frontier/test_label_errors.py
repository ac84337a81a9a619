from __future__ import annotations

from dataclasses import replace
from math import comb, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import beta
from scipy.stats import betabinom

from star_rft.data import write_problems
from star_rft.frontier.label_errors import (
    COMPLAINING,
    FLAG_AT,
    PRIOR,
    SUSPECTS,
    Population,
    Votes,
    error_probability,
    find_label_errors,
    fit,
    log_beta_binomial,
    log_rate,
)
from star_rft.ledger import Ledger
from star_rft.types import Problem, Sample
from tests.small_ledgers import ledger_of, sample, verdict
from verifiers.types import Verdict


def votes_of(*problems: tuple[float, float, float]) -> Votes:
    """Each is (reference, other, wrong)."""
    return Votes(*(np.array(column, dtype=np.float64) for column in zip(*problems, strict=True)))


def cast(
    problem: str, reference: str, answers: str, *, round_index: int = 1, **more: Any
) -> list[tuple[Sample, Verdict]]:
    """One sample for each of the answers, which a space parts."""
    return [
        (
            sample(problem, i, round_index=round_index, **more),
            verdict("correct" if answer == reference else "incorrect", answer),
        )
        for i, answer in enumerate(answers.split())
    ]


def row_of(folder: Path, pairs: list[tuple[Sample, Verdict]], *, through_round: int = 9) -> dict[str, Any]:
    (row,) = find_label_errors(ledger_of(folder, pairs).connect(), through_round=through_round).to_pylist()
    assert isinstance(row, dict)
    return row


def population(
    rng: np.random.Generator, *, problems: int, wrong: int, n: int = 16
) -> tuple[Votes, np.ndarray[Any, Any]]:
    """Prompts that differ in how often they are right and how much errors agree; no sample gives a wrong reference."""
    right = rng.binomial(n, rng.beta(1.5, 1.0, problems))
    repeated = rng.binomial(np.maximum(n - right - 1, 0), rng.beta(1.0, 6.0, problems))
    other = np.minimum(repeated + 1, n - right)
    is_wrong = np.arange(problems) < wrong
    reference = np.where(is_wrong, 0, right)
    most_wrong = np.where(is_wrong, np.maximum(right, other), other)
    return Votes(reference.astype(float), most_wrong.astype(float), (n - reference).astype(float)), is_wrong


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.05, 50), st.floats(0.05, 50))
def test_the_beta_binomial_is_that_of_the_books(k: int, more: int, a: float, b: float) -> None:
    n = k + more
    ours = log_beta_binomial(np.array([float(k)]), np.array([float(n)]), a, b)
    assert ours[0] == pytest.approx(betabinom.logpmf(k, n, a, b), abs=1e-6)


@given(st.integers(1, 40))
def test_equal_shares_of_all_shapes_make_every_number_of_right_votes_as_probable(n: int) -> None:
    k = np.arange(n + 1.0)
    assert np.exp(log_rate(k, np.full(n + 1, float(n)), (0.25,) * 4)) == pytest.approx(1 / (n + 1))


def test_the_probability_is_bayes_rule_over_the_two_stories() -> None:
    def bb(k: int, n: int, a: float, b: float) -> float:
        return float(comb(n, k) * beta(k + a, n - k + b) / beta(a, b))

    def right(k: int, n: int) -> float:
        return 0.25 * bb(k, n, 1, 2) + 0.75 * bb(k, n, 2, 1)

    gold_right = right(1, 10) * bb(4, 8, 1, 4)
    gold_wrong = right(5, 10) * bb(1, 5, 0.5, 9.5)
    found = error_probability(votes_of((1, 5, 9)), Population(rates=(0.25, 0.75), repeated=(1, 4)), prior=0.1)
    assert found[0] == pytest.approx(0.1 * gold_wrong / (0.1 * gold_wrong + 0.9 * gold_right))


def test_half_a_vote_lies_between_none_and_one() -> None:
    found = error_probability(votes_of((0, 8, 10), (0.5, 8, 9.5), (1, 8, 9)), Population(repeated=(1, 6)))
    assert found[0] > found[1] > found[2]


@settings(max_examples=50)
@given(st.integers(2, 64), st.floats(0.1, 3), st.floats(2, 30))
def test_a_probability_is_one_for_any_votes(n: int, c: float, d: float) -> None:
    problems = [(g, v, n - g) for g in range(n + 1) for v in range(min(1, n - g), n - g + 1)]
    found = error_probability(votes_of(*problems), Population(repeated=(c, d)))
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_the_fit_finds_the_population_again_and_the_wrong_references_in_it() -> None:
    votes, is_wrong = population(np.random.default_rng(0), problems=4000, wrong=200)
    drawn_of_16 = np.arange(17.0), np.full(17, 16.0)
    found = fit(votes)
    assert found.repeated == pytest.approx((1.0, 6.0), rel=0.2)
    assert np.exp(log_rate(*drawn_of_16, found.rates)) == pytest.approx(
        betabinom.pmf(drawn_of_16[0], 16, 1.5, 1.0), abs=0.01
    )
    probability = error_probability(votes, found)
    flagged = probability >= FLAG_AT
    assert is_wrong[flagged].mean() > 0.9
    assert flagged[is_wrong & (votes.other >= 12)].mean() > 0.9


def test_the_probabilities_are_true_to_their_word() -> None:
    """Of references to which it gives about p, about p are wrong: over all of them the sums agree."""
    votes, is_wrong = population(np.random.default_rng(1), problems=20_000, wrong=1000)
    probability = error_probability(votes, fit(votes))
    assert probability.sum() == pytest.approx(is_wrong.sum(), rel=0.25)


def test_where_wrong_answers_always_agree_it_takes_more_to_be_suspect() -> None:
    """Where a model misreads in one way only, its one wrong answer is a habit and proves little."""
    mixed = [(g, max(1, (16 - g) // 4), 16 - g) for g in range(16)] * 20
    of_habit = [(g, round((16 - g) * share), 16 - g) for g in range(16) for share in (0.4, 0.6, 0.8, 1.0)] * 5
    suspect = (0, 12, 16)
    low, high = (
        error_probability(votes_of(suspect), fit(votes_of(suspect, *others)))[0] for others in (of_habit, mixed)
    )
    assert low < 0.5 < FLAG_AT < high


def test_a_run_of_one_problem_can_be_fitted() -> None:
    assert 0 < error_probability(votes_of((0, 8, 8)), fit(votes_of((0, 8, 8))))[0] < 1
    assert fit(votes_of((8, 0, 0))).rates[-1] > fit(votes_of((0, 1, 8))).rates[-1]
    assert fit(Votes(np.zeros(0), np.zeros(0), np.zeros(0))).rates == pytest.approx(Population().rates)


def test_the_most_frequent_other_answer_is_counted_against_the_reference(tmp_path: Path) -> None:
    row = row_of(tmp_path, cast("a", "7", "7 9 9 8 9"))
    assert [row[name] for name in ("answer", "votes", "reference_votes", "all_votes")] == ["9", 3, 1, 5]


def test_one_number_in_other_spellings_is_one_answer(tmp_path: Path) -> None:
    row = row_of(tmp_path, cast("a", "7", "1,000 $1000 1000.0 1000. 8 8"))
    assert (row["votes"], row["all_votes"]) == (4, 6)


def test_a_list_with_a_comma_is_no_number(tmp_path: Path) -> None:
    assert row_of(tmp_path, cast("a", "7", "1,2 12 12"))["votes"] == 2


def test_long_numbers_that_differ_in_the_last_digit_are_two_answers(tmp_path: Path) -> None:
    assert row_of(tmp_path, cast("a", "7", "90071992547409931 90071992547409932"))["votes"] == 1


def test_an_answer_that_was_found_correct_once_is_never_held_against_the_reference(tmp_path: Path) -> None:
    """A verifier that contradicts itself is not a wrong reference."""
    pairs = [*cast("a", "7", "7"), *cast("a", "-", "7.0 7.0 7.0 8", round_index=2)]
    row = row_of(tmp_path, pairs)
    assert [row[name] for name in ("answer", "votes", "reference_votes")] == ["8", 1, 4]


def test_an_answer_spelt_like_the_reference_is_never_held_against_it(tmp_path: Path) -> None:
    problems = [Problem(id="a", prompt="?", reference="1,000", verifier="v")]
    problems += [Problem(id="b", prompt="?", reference={"answer": "B", "options": {}}, verifier="v")]
    write_problems(tmp_path / "problems.parquet", {"train": problems})
    pairs = [*cast("a", "-", "1000 1000 3"), *cast("b", "-", "b b A")]
    rows = find_label_errors(ledger_of(tmp_path, pairs).connect(), through_round=1).to_pylist()
    assert [(row["answer"], row["votes"], row["reference_votes"]) for row in rows] == [("3", 1, 2), ("A", 1, 2)]


def test_hinted_truncated_and_unknown_samples_have_no_vote(tmp_path: Path) -> None:
    pairs = [
        *cast("a", "7", "9"),
        *cast("a", "7", "9 9", round_index=2, hinted=True),
        (sample("a", 0, round_index=4), verdict("incorrect", "9", "truncated")),
        (sample("a", 1, round_index=4), verdict("unknown", "9")),
        (sample("a", 2, round_index=4), verdict("incorrect", None, "no_answer")),
        (sample("a", 3, round_index=4), verdict("incorrect", "9, 8", "ambiguous")),
    ]
    assert row_of(tmp_path, pairs)["all_votes"] == 1


@pytest.mark.parametrize("verifier", COMPLAINING)
def test_what_a_verifier_complains_of_is_no_answer(verifier: str, tmp_path: Path) -> None:
    """Programs that all fail in the same assert do not prove its test wrong."""
    pairs = [(s, replace(v, verifier=verifier)) for s, v in cast("a", "7", "failed failed failed failed failed")]
    assert find_label_errors(ledger_of(tmp_path, pairs).connect(), through_round=1).num_rows == 0


def test_other_models_and_temperatures_have_a_vote(tmp_path: Path) -> None:
    other = [(replace(s, model="other", decode_id="cold"), v) for s, v in cast("a", "7", "9 9")]
    assert row_of(tmp_path, [*cast("a", "7", "9"), *other])["votes"] == 3


def test_the_newest_round_counts_most(tmp_path: Path) -> None:
    """The same votes, but in one the policy has come from 9 to the reference, in the other from it to 9."""
    to_reference = [*cast("a", "7", "9 9 9 9 9 9 9 9"), *cast("a", "7", "7 7 7 7 7 7 7 7", round_index=2)]
    from_reference = [*cast("b", "7", "7 7 7 7 7 7 7 7"), *cast("b", "7", "9 9 9 9 9 9 9 9", round_index=2)]
    found = find_label_errors(
        ledger_of(tmp_path, [*to_reference, *from_reference]).connect(), through_round=2
    ).to_pylist()
    assert found[0]["probability"] < found[1]["probability"]


def test_a_problem_that_is_no_longer_sampled_stays_as_suspect_as_it_was(tmp_path: Path) -> None:
    con = ledger_of(tmp_path, cast("a", "7", "9 9 9 9 9 9")).connect()
    first, later = (find_label_errors(con, through_round=r) for r in (1, 5))
    assert first.equals(later)


def test_ties_are_broken_the_same_way_whatever_the_order_of_samples(tmp_path: Path) -> None:
    pairs = cast("a", "7", "9 8 3 9 8 3")
    found = [row_of(tmp_path / str(i), order)["answer"] for i, order in enumerate((pairs, pairs[::-1]))]
    assert found[0] == found[1]


def test_no_ledger_no_label_errors(tmp_path: Path) -> None:
    found = find_label_errors(Ledger(tmp_path, is_writer=True).connect(), through_round=1)
    assert found.num_rows == 0
    assert found.schema == SUSPECTS


def test_no_evidence_leaves_the_prior() -> None:
    """By one vote that is wrong, nothing is known but how rare such votes are under either story."""
    found = error_probability(votes_of((0, 1, 1)), Population(repeated=(1, 1)), prior=PRIOR)
    assert log(found[0] / (1 - found[0])) == pytest.approx(log(PRIOR / (1 - PRIOR)))
