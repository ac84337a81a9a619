r"""Suspected label errors: references that the samples contradict far beyond what chance explains.

A vote is the one answer of a sample of any round, model or temperature that was judged right or wrong, and not
hinted. A problem has n of them: g for the reference, v for the most frequent other answer, and w = n - g that are wrong
if the reference is right. Two stories tell how they came about:

    the reference is right:  R(g; n) · BB(v-1; w-1, c, d)
    the reference is wrong:  R(v; n) · BB(g; n-v, 1/2, 19/2)

R(k; n) is the probability of k right ones among n, and BB the beta-binomial one. Given the first wrong vote, (c, d) say
how many of the other wrong ones repeat it. If the reference is wrong, the other answer is right as often as answers
are, and the reference gets stray votes only. Bayes' rule with a prior share of wrong references gives the probability
that the reference is wrong.

R and (c, d) are fitted to the run itself, by expectation maximisation over which references are wrong (Dempster,
Laird, Rubin 1977): where a model's wrong answers often agree, more votes are needed. R takes any shape: the density of
pass rates is a mixture of Bernstein's polynomials, Beta(j, J + 1 - j) for j = 1..J (Petrone 1999). For what counts most
is how many problems nothing gets right, and a single Beta has too few of them. Weak priors hold the fit in small runs.

Votes need not be whole: a round counts half of the next one in which the problem was sampled, and the newest always
counts 1, whenever it was. So a suspect that is no longer sampled stays one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from star_rft.frontier.history import DISCOUNT
from star_rft.statistics import Floats

if TYPE_CHECKING:
    import duckdb

Shape = tuple[float, float]

SUSPECTS = pa.schema(
    [
        ("problem_id", pa.string()),
        ("answer", pa.string()),
        ("votes", pa.int32()),
        ("reference_votes", pa.int32()),
        ("all_votes", pa.int32()),
        ("probability", pa.float64()),
    ]
)
# What one may expect of a data set that nobody has gone over; an argument where more is known.
PRIOR = 0.05
# Chosen on seeds 0 to 2 of benchmarks/label_errors.py, so that nine in ten flags are right, and nine in ten of the
# wrong references are found whose right answer half of the samples give. A flagged problem is left out of training
# until
# it is reviewed.
FLAG_AT = 0.7
# Fewer agree by accident, whatever a fitted model says of its own tails.
MIN_VOTES = 5
# The column `answer` of these verifiers says what was wrong with a sample, not what it answered.
COMPLAINING = ("code", "json_schema", "steps")
# A reference that is wrong gets 1 in 20 of the other votes, most often none.
STRAY: Shape = (0.5, 9.5)
# Before there are data, all pass rates are as probable, as if (1/4 a shape) five problems had been seen; and a wrong
# answer is repeated by 1 in 5 of the other wrong ones, give or take a factor e ** 1.5 in c and d.
SHAPES, SEEN = 20, 0.25
REPEATED, SPREAD = (0.5, 2.0), 1.5
# A few parameters are settled by far fewer problems than this; ids are hashes, so every n-th problem is a random one.
FIT_ON = 5_000
STEPS, STEPS_OF_RATES, SETTLED = 50, 10, 1e-3

_VOTES = """
with ballots as (
  select problem_id, round, answer, count(*) filter (status = 'correct') as good,
    count(*) filter (status = 'incorrect') as bad
  from samples join verdicts using (sample_id)
  where split = 'train' and round <= $through_round and not hinted and answer is not null
    and (status = 'correct' or reason = 'mismatch') and not list_contains($complaining::varchar[], verifier)
  group by all
),
newest as (select problem_id, max(round) as round from ballots group by all),
answers as (
  select problem_id, {answer} as key, min(answer) as answer, sum(good + bad)::int as votes, sum(good) > 0 as is_right,
    sum((good + bad) * $discount ** (newest.round - ballots.round)) as weight
  from ballots join newest using (problem_id) group by problem_id, key
),
stated as (
  select problem_id, {reference} as key from (
    select problem_id, coalesce(json_extract_string(reference, '$.answer'), json_extract_string(reference, '$')) as text
    from problems where split = 'train'
  )
),
parties as (
  select answers.*, is_right or coalesce(answers.key = stated.key, false) as is_reference
  from answers left join stated using (problem_id)
)
select problem_id,
  arg_max(answer, row(weight, key)) filter (not is_reference) as answer,
  arg_max(votes, row(weight, key)) filter (not is_reference) as votes,
  coalesce(sum(votes) filter (is_reference), 0)::int as reference_votes,
  sum(votes)::int as all_votes,
  coalesce(sum(weight) filter (is_reference), 0)::double as g,
  coalesce(max(weight) filter (not is_reference), 0)::double as v,
  coalesce(sum(weight) filter (not is_reference), 0)::double as w
from parties group by problem_id order by problem_id
"""


@dataclass(frozen=True, slots=True)
class Votes:
    """Discounted votes, an entry a problem: for the reference, for the first of the others, for all others."""

    reference: Floats
    other: Floats
    wrong: Floats

    @property
    def all(self) -> Floats:
        return self.reference + self.wrong

    def __getitem__(self, chosen: slice) -> Votes:
        return Votes(self.reference[chosen], self.other[chosen], self.wrong[chosen])


@dataclass(frozen=True, slots=True)
class Population:
    """How the samples of a run answer: shares of problems over the shapes of R, and (c, d) of the module's
    docstring.
    """

    rates: tuple[float, ...] = (1 / SHAPES,) * SHAPES
    repeated: Shape = REPEATED


def find_label_errors(con: duckdb.DuckDBPyConnection, *, through_round: int, prior: float = PRIOR) -> pa.Table:
    """Return `SUSPECTS`: one row a train problem with votes for another answer than the reference, by their ids.

    `votes`, `reference_votes` and `all_votes` are whole counts over the rounds; `probability` is that the reference is
    wrong. Answers count as one that are the same number in another spelling, and as the reference if the
    reference is spelt so or one of them was found correct: where a verifier contradicts itself, the reference is not
    what is suspect.
    """
    query = _VOTES.format(answer=_key("ballots.answer"), reference=_key("text"))
    params = {"through_round": through_round, "discount": DISCOUNT, "complaining": list(COMPLAINING)}
    table = con.sql(query, params=params).to_arrow_table()
    votes = Votes(*(table[name].to_numpy() for name in ("g", "v", "w")))
    probability_P = error_probability(votes, fit(votes, prior=prior), prior=prior)
    told = table.append_column("probability", pa.array(probability_P)).select(SUSPECTS.names).cast(SUSPECTS)
    return told.filter(told["answer"].is_valid())


def error_probability(votes: Votes, population: Population, *, prior: float = PRIOR) -> Floats:
    """Return the probability that the reference is wrong, a problem."""
    from scipy.special import expit

    repeats, others = _repeats(votes)
    log_right = log_rate(votes.reference, votes.all, population.rates)
    log_right += log_beta_binomial(repeats, others, *population.repeated)
    log_wrong = log_rate(votes.other, votes.all, population.rates)
    log_wrong += log_beta_binomial(votes.reference, votes.all - votes.other, *STRAY)
    return np.asarray(expit(np.log(prior) - np.log1p(-prior) + log_wrong - log_right))


def fit(votes: Votes, *, prior: float = PRIOR) -> Population:
    """Return the population that explains these votes best (maximum a posteriori, by expectation maximisation)."""
    votes = votes[:: max(1, -(-len(votes.reference) // FIT_ON))]
    repeats, others = _repeats(votes)
    k, n = np.concatenate([votes.reference, votes.other]), np.concatenate([votes.all, votes.all])
    odds_V_J = np.exp(_log_shapes(k, n, SHAPES))
    population = Population()
    is_wrong_P = np.zeros_like(votes.reference)
    for _ in range(STEPS):
        weight_V = np.concatenate([1 - is_wrong_P, is_wrong_P])
        population = Population(
            rates=_fitted_rates(odds_V_J, weight_V, start=population.rates),
            repeated=_fitted_shape(repeats, others, 1 - is_wrong_P, around=REPEATED, start=population.repeated),
        )
        before, is_wrong_P = is_wrong_P, error_probability(votes, population, prior=prior)
        if np.abs(is_wrong_P - before).max(initial=0.0) < SETTLED:
            break
    return population


def log_rate(k: Floats, n: Floats, rates: tuple[float, ...]) -> Floats:
    """Return log R(k; n); what occurs often is computed once."""
    from scipy.special import logsumexp

    pairs, where = np.unique(k + 1j * n, return_inverse=True)
    log_shapes = _log_shapes(pairs.real, pairs.imag, len(rates))
    return np.asarray(logsumexp(log_shapes + np.log(rates), axis=1))[where]


def log_beta_binomial(k: Floats, n: Floats, a: float | Floats, b: float | Floats) -> Floats:
    """Return log C(n, k) B(k + a, n - k + b) / B(a, b); k and n need not be whole."""
    from scipy.special import betaln, gammaln

    choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.asarray(choose + betaln(k + a, n - k + b) - betaln(a, b))


def _log_shapes(k: Floats, n: Floats, shapes: int) -> Floats:
    """Return the log probability of k of n where the rate is drawn from each shape (V, J)."""
    j = np.arange(1.0, shapes + 1)
    return log_beta_binomial(k[:, None], n[:, None], j, shapes + 1 - j)


def _repeats(votes: Votes) -> tuple[Floats, Floats]:
    """Return how many of the wrong votes but the first repeat it, and how many those are."""
    others = np.maximum(votes.wrong - 1, 0.0)
    return np.minimum(np.maximum(votes.other - 1, 0.0), others), others


def _fitted_rates(odds_V_J: Floats, weight_V: Floats, *, start: tuple[float, ...]) -> tuple[float, ...]:
    """Return the shares of the shapes that make these votes most probable, some steps on from `start`."""
    rates_J = np.asarray(start)
    for _ in range(STEPS_OF_RATES):
        joint_V_J = odds_V_J * rates_J
        counts_J = weight_V @ (joint_V_J / joint_V_J.sum(axis=1, keepdims=True)) + SEEN
        rates_J = counts_J / counts_J.sum()
    return tuple(rates_J.tolist())


def _fitted_shape(k: Floats, n: Floats, weight: Floats, *, around: Shape, start: Shape) -> Shape:
    """Return the most probable (a, b), with a normal prior on their logarithms around `around`."""
    from scipy.optimize import minimize
    from scipy.special import betaln, digamma

    centre = np.log(around)

    def loss(logs: Floats) -> tuple[float, Floats]:
        a, b = np.exp(logs)
        off = (logs - centre) / SPREAD
        value = float(weight @ (betaln(k + a, n - k + b) - betaln(a, b))) - float(off @ off) / 2
        of_both = digamma(a + b) - digamma(n + a + b)
        slope_a = a * float(weight @ (digamma(k + a) - digamma(a) + of_both))
        slope_b = b * float(weight @ (digamma(n - k + b) - digamma(b) + of_both))
        return -value, off / SPREAD - np.array([slope_a, slope_b])

    # Within e ** -7 and e ** 7 nothing over- or underflows, and no rate of a finite run is told apart beyond.
    found = minimize(loss, np.log(start), jac=True, method="L-BFGS-B", bounds=[(-7.0, 7.0)] * 2)
    a, b = np.exp(found.x)
    return float(a), float(b)


def _key(column: str) -> str:
    """SQL: numbers by value (1,000 and $1000. and 1000.0 are one), other text without space, dollar sign and case."""
    bare = f"rtrim(lower(regexp_replace({column}, '[\\s$\\\\]', '', 'g')), '.')"
    is_grouped = f"regexp_full_match({bare}, '[-+]?\\d{{1,3}}(,\\d{{3}})+(\\.\\d+)?')"
    plain = f"case when {is_grouped} then replace({bare}, ',', '') else {bare} end"
    # Most answers are numbers as they stand, and never come to the slower spellings.
    return f"coalesce({_number(column)}, {_number(plain)}, {bare})"


def _number(text: str) -> str:
    """SQL: a number's value, null for other text and for more digits than the 15 that a double holds exactly."""
    return f"case when length({text}) <= 15 then try_cast({text} as double)::varchar end"
