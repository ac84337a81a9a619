r"""Suspected label errors: reference answers that the samples contradict more often than chance explains.

A vote is the answer of a sample, of any round, model or temperature, that was drawn without a hint and judged correct
or incorrect. A problem has n votes: g for the reference, v for the most frequent other answer, and w = n - g in all
that are wrong if the reference is right. Two hypotheses explain them:

    the reference is right:  R(g; n) · BB(v-1; w-1, c, d)
    the reference is wrong:  R(v; n) · BB(g; n-v, 1/2, 19/2)

R(k; n) is the probability that k of n votes are right, BB the beta-binomial probability. If the reference is right, the
first wrong vote is given, and Beta(c, d) is the distribution of how many of the other wrong votes repeat it. If the
reference is wrong, the other answer is right, as often as right answers are, and the reference gets stray votes only.
Bayes' rule with a prior share of wrong references gives the probability that the reference is wrong.

R and (c, d) are fitted to all problems of the run, by expectation maximisation over which references are wrong
(Dempster, Laird, Rubin 1977): where the wrong answers of a model often agree, more votes are needed for a suspicion.
The density of pass rates in R is a mixture of Bernstein polynomials, Beta(j, J + 1 - j) for j = 1..J (Petrone 1999). A
single Beta distribution would have too few problems that nothing solves, which matter most here. Weak priors keep the
fit sensible in small runs.

Votes have weights: each earlier round in which the problem was sampled counts half of the next one, and the newest
such round counts 1, however long ago it was. So a suspected problem that is no longer sampled stays suspected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from star_rft.frontier.history import DISCOUNT
from star_rft.statistics import Floats, fitted_beta

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
# Share of wrong references to expect in a data set that nobody has checked.
PRIOR = 0.05
# Probability from which a reference is suspected. Chosen on seeds 0 to 2 of benchmarks/label_errors.py: nine in ten
# suspicions are right, and nine in ten wrong references are found where half of the samples give the right answer.
FLAG_AT = 0.7
# Fewer votes for the other answer are no evidence, whatever the tails of the fitted model say.
MIN_VOTES = 5
# Verifiers whose column `answer` says what was wrong with a sample instead of what it answered.
COMPLAINING = ("code", "json_schema", "steps")
# Of votes for a wrong reference among those that the right answer did not get: 1 in 20, most often none.
STRAY: Shape = (0.5, 9.5)
# Priors: all pass rates are equally probable, with the weight of five problems (1/4 a shape); a wrong answer is
# repeated by 1 in 5 of the other wrong votes, with a deviation of 1.5 of log c and log d.
SHAPES, SEEN = 20, 0.25
REPEATED, SPREAD = (0.5, 2.0), 1.5
# Of log c and log d: within e ** -7 and e ** 7 nothing over- or underflows, and no finite run tells rates apart beyond.
LOG_BOUNDS = (-7.0, 7.0)
# Problems that are enough for the few parameters. Ids are hashes, so every m-th problem in their order is a random one.
FIT_ON = 5_000
STEPS, STEPS_OF_RATES = 50, 10  # of expectation maximisation at most, and of the mixture's shares in each
SETTLED = 1e-3  # it ends when no probability changes by more

# ballots: votes of each problem, round and answer as it is written, correct (good) and incorrect (bad).
# newest: the last round in which each problem has votes.
# answers: votes of each problem and answer, spellings of one number together, plain and weighted by round.
# stated: the reference of each train problem, spelt as the answers are; a reference may be JSON {"answer": ...}.
# parties: which answers count as the reference: that spelling, and every answer that a verdict called correct.

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
    """Weighted votes of each problem: g for the reference, w for other answers, v for the most frequent of those."""

    reference: Floats
    other: Floats
    wrong: Floats

    @property
    def all(self) -> Floats:
        """Return all votes (n)."""
        return self.reference + self.wrong

    def __getitem__(self, chosen: slice) -> Votes:
        return Votes(self.reference[chosen], self.other[chosen], self.wrong[chosen])


@dataclass(frozen=True, slots=True)
class Population:
    """The fitted model of a run: `rates` are the shares of the J shapes of R, and `repeated` is (c, d)."""

    rates: tuple[float, ...] = (1 / SHAPES,) * SHAPES
    repeated: Shape = REPEATED


def find_label_errors(con: duckdb.DuckDBPyConnection, *, through_round: int, prior: float = PRIOR) -> pa.Table:
    """Return the votes of each train problem and the probability that its reference is wrong.

    Different spellings of a number are one answer. An answer counts as the reference if the reference is spelt so, or
    if a verdict called one such sample correct: where verdicts contradict each other, the verifier is at fault.

    Args:
        con: A connection of `Ledger.connect`.
        through_round: The last round that counts.
        prior: Share of wrong references that is expected before any sample was seen.

    Returns:
        The table SUSPECTS, one row a problem with votes for another answer than the reference, ordered by problem id.
        `votes` (for that answer), `reference_votes` and `all_votes` are whole counts over the rounds.
    """
    query = _VOTES.format(answer=_key("ballots.answer"), reference=_key("text"))
    params = {"through_round": through_round, "discount": DISCOUNT, "complaining": list(COMPLAINING)}
    table = con.sql(query, params=params).to_arrow_table()
    votes = Votes(*(table[name].to_numpy() for name in ("g", "v", "w")))
    probability_P = error_probability(votes, fit(votes, prior=prior), prior=prior)
    told = table.append_column("probability", pa.array(probability_P)).select(SUSPECTS.names).cast(SUSPECTS)
    return told.filter(told["answer"].is_valid())


def error_probability(votes: Votes, population: Population, *, prior: float = PRIOR) -> Floats:
    """Return the probability that the reference of each problem is wrong, by Bayes' rule over the two hypotheses."""
    from scipy.special import expit

    repeats, others = _repeats(votes)
    log_right = log_rate(votes.reference, votes.all, population.rates)
    log_right += log_beta_binomial(repeats, others, *population.repeated)
    log_wrong = log_rate(votes.other, votes.all, population.rates)
    log_wrong += log_beta_binomial(votes.reference, votes.all - votes.other, *STRAY)
    return np.asarray(expit(np.log(prior) - np.log1p(-prior) + log_wrong - log_right))


def fit(votes: Votes, *, prior: float = PRIOR) -> Population:
    """Return the model that explains the votes best: maximum a posteriori, by expectation maximisation."""
    votes = votes[:: max(1, -(-len(votes.reference) // FIT_ON))]
    repeats, others = _repeats(votes)
    # Under the one hypothesis the votes for the reference are the right ones, under the other those for the other
    # answer: every problem is in the fit of R twice, weighted by the probability of each.
    k, n = np.concatenate([votes.reference, votes.other]), np.concatenate([votes.all, votes.all])
    likelihood_2P_J = np.exp(_log_shapes(k, n, SHAPES))
    population = Population()
    is_wrong_P = np.zeros_like(votes.reference)
    for _ in range(STEPS):
        weight_2P = np.concatenate([1 - is_wrong_P, is_wrong_P])
        population = Population(
            rates=_fitted_rates(likelihood_2P_J, weight_2P, start=population.rates),
            repeated=fitted_beta(
                repeats,
                others,
                1 - is_wrong_P,
                around=REPEATED,
                spread=SPREAD,
                bounds=LOG_BOUNDS,
                start=population.repeated,
            ),
        )
        before, is_wrong_P = is_wrong_P, error_probability(votes, population, prior=prior)
        if np.abs(is_wrong_P - before).max(initial=0.0) < SETTLED:
            break
    return population


def log_rate(k: Floats, n: Floats, rates: tuple[float, ...]) -> Floats:
    """Return log R(k; n) of each pair; equal pairs are computed once."""
    from scipy.special import logsumexp

    pairs, where = np.unique(k + 1j * n, return_inverse=True)
    log_shapes = _log_shapes(pairs.real, pairs.imag, len(rates))
    return np.asarray(logsumexp(log_shapes + np.log(rates), axis=1))[where]


def log_beta_binomial(k: Floats, n: Floats, a: float | Floats, b: float | Floats) -> Floats:
    """Return log C(n, k) B(k + a, n - k + b) / B(a, b), the beta-binomial probability; k and n need not be whole."""
    from scipy.special import betaln, gammaln

    choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.asarray(choose + betaln(k + a, n - k + b) - betaln(a, b))


def _log_shapes(k: Floats, n: Floats, shapes: int) -> Floats:
    """Return the log probability of k of n under each shape, one row an entry of k and n."""
    j = np.arange(1.0, shapes + 1)
    return log_beta_binomial(k[:, None], n[:, None], j, shapes + 1 - j)


def _repeats(votes: Votes) -> tuple[Floats, Floats]:
    """Return how many of the wrong votes after the first repeat its answer, and how many there are after the first."""
    others = np.maximum(votes.wrong - 1, 0.0)
    return np.minimum(np.maximum(votes.other - 1, 0.0), others), others


def _fitted_rates(likelihood_2P_J: Floats, weight_2P: Floats, *, start: tuple[float, ...]) -> tuple[float, ...]:
    """Return the shares of the shapes after `STEPS_OF_RATES` steps of expectation maximisation from `start`."""
    rates_J = np.asarray(start)
    for _ in range(STEPS_OF_RATES):
        joint_2P_J = likelihood_2P_J * rates_J
        counts_J = weight_2P @ (joint_2P_J / joint_2P_J.sum(axis=1, keepdims=True)) + SEEN
        rates_J = counts_J / counts_J.sum()
    return tuple(rates_J.tolist())


def _key(column: str) -> str:
    """Return SQL for one spelling of an answer.

    Numbers become their value, so that 1,000 and $1000. and 1000.0 are one; other text loses spaces, dollar signs,
    backslashes, a full stop at the end and case.
    """
    bare = f"rtrim(lower(regexp_replace({column}, '[\\s$\\\\]', '', 'g')), '.')"
    is_grouped = f"regexp_full_match({bare}, '[-+]?\\d{{1,3}}(,\\d{{3}})+(\\.\\d+)?')"
    plain = f"case when {is_grouped} then replace({bare}, ',', '') else {bare} end"
    # Most answers are plain numbers, for which the slower regular expressions are not evaluated.
    return f"coalesce({_number(column)}, {_number(plain)}, {bare})"


def _number(text: str) -> str:
    """Return SQL for the value of a number; null for other text and for more than the 15 digits that a double holds."""
    return f"case when length({text}) <= 15 then try_cast({text} as double)::varchar end"
