"""The history of each train problem: counts of its samples, the policy's pass rate, and its last transition.

The pass rate is estimated from the policy's own samples without a hint; hinted samples and those of foreign models are
counted separately. It has the posterior Beta(1/2 + c, 1/2 + m) from Jeffreys' prior, with c correct and m incorrect
samples; unknown verdicts count as neither. A sample of round r has the weight `DISCOUNT ** (through_round - r)`, so the
interval of a problem that has not been sampled for some rounds becomes wide again. `pass_rate_at_most` is the one-sided
95% upper bound (Clopper and Pearson 1934) with all rounds weighted alike; after 0 of k it is near 3/k.

All of it is one DuckDB query and a few numpy calls, linear in the number of traces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from star_rft.ledger.schemas import HISTORY
from star_rft.statistics import Floats, upper_bound

if TYPE_CHECKING:
    import duckdb

# What changed between the last two rounds in which the problem was sampled: the first correct sample ever; correct
# again after a round without; correct in both; none after a round with some; none in both.
Transition = Literal["newly_solved", "regained", "still_solved", "lost", "still_unsolved"]

# Every round trains another policy. With 1/2, all earlier rounds together weigh less than the newest one
# (1/2 + 1/4 + ... < 1) where each drew as many samples, and a few samples a round still add up.
DISCOUNT = 0.5
# Jeffreys' prior, Beta(1/2, 1/2): its intervals cover a binomial rate well, at 0 of k too (Brown, Cai, DasGupta 2001).
PRIOR = 0.5
CONFIDENCE = 0.95


# asked: samples of train problems with their verdicts; `is_own` are the policy's, without a hint.
# by_round: counts of each problem and round, with the weight of the round.
# counted: sums over rounds, plain and weighted; `newest` and `solved` are the last two rounds with samples and with
#   correct ones, newest first, from which the transition follows.
# keys: number of distinct lists of equations among the policy's correct samples.
_COUNTS = """
with asked as (
  select *, not (sample_index >= $first and sample_index < $stop) as is_foreign, not hinted and not is_foreign as is_own
  from samples join verdicts using (sample_id) where split = 'train' and round <= $through_round
),
by_round as (
  select problem_id, round,
    count(*) filter (is_own)::int as samples,
    count(*) filter (is_own and status = 'correct')::int as correct,
    count(*) filter (is_own and status = 'unknown')::int as unknown,
    count(*) filter (is_own and reason = 'truncated')::int as truncated,
    sum(tokens) as tokens,
    count(*) filter (hinted) as hinted,
    count(*) filter (hinted and status = 'correct') as hinted_correct,
    count(*) filter (is_foreign and not hinted) as of_foreign,
    count(*) filter (is_foreign and not hinted and status = 'correct') as foreign_correct,
    $discount ** ($through_round - round) as weight
  from asked group by problem_id, round
),
counted as (
  select problem_id,
    sum(samples)::int as samples, sum(correct)::int as correct, sum(unknown)::int as unknown,
    sum(truncated)::int as truncated, sum(tokens)::bigint as tokens, sum(hinted)::int as hinted,
    sum(hinted_correct)::int as hinted_correct, sum(of_foreign)::int as of_foreign,
    sum(foreign_correct)::int as foreign_correct,
    sum(samples * weight)::double as samples_now, sum(correct * weight)::double as correct_now,
    sum(unknown * weight)::double as unknown_now, sum(truncated * weight)::double as truncated_now,
    max(round, 2) filter (samples > 0) as newest, max(round, 2) filter (correct > 0) as solved,
    min(round) filter (correct > 0) as first_solved
  from by_round group by problem_id
),
keys as (
  select problem_id, count(distinct hash(equation_key))::int as of_keys
  from asked where is_own and status = 'correct' group by problem_id
),
told as (
  select problem_id, samples, correct, unknown, truncated, coalesce(of_keys, 0) as "distinct", tokens, hinted,
    hinted_correct, of_foreign as "foreign", foreign_correct,
    case
      when samples = 0 then null
      when first_solved = newest[1] then 'newly_solved'
      when solved = newest then 'still_solved'
      when solved[1] = newest[1] then 'regained'
      when solved[1] = newest[2] then 'lost'
      else 'still_unsolved'
    end as transition,
    samples_now, correct_now, unknown_now, truncated_now
  from counted left join keys using (problem_id)
)
"""


def counts(con: duckdb.DuckDBPyConnection, *, through_round: int | None = None, own: range | None = None) -> pa.Table:
    """Return the history of each train problem that has samples.

    Args:
        con: A connection of `Ledger.connect`.
        through_round: The last round that counts; None: the newest.
        own: Sample indices of the policy (None: all); those beyond are samples of foreign models.

    Returns:
        The table HISTORY, ordered by problem id. The columns `*_now` are weighted counts. `transition` and the rates
        are null where the policy has not sampled the problem.
    """
    found = _bindings(con, through_round, own)
    table = con.sql(_COUNTS + "select * from told order by problem_id", params=found).to_arrow_table()
    return _with_rates(table).select(HISTORY.names).cast(HISTORY)


def newest_round(con: duckdb.DuckDBPyConnection) -> int:
    """Return the newest round with train samples; 0 where there are none."""
    ((newest,),) = con.sql("select coalesce(max(round), 0) from samples where split = 'train'").fetchall()
    return int(newest)


def beta_interval(alpha: Floats, beta: Floats, *, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Return the bounds of the central interval of each Beta(alpha, beta).

    Equal pairs are computed once: as complex numbers, np.unique finds them much faster than as rows.
    """
    from scipy.special import betaincinv

    pairs, where = np.unique(alpha + 1j * beta, return_inverse=True)
    tail = (1 - confidence) / 2
    return betaincinv(pairs.real, pairs.imag, tail)[where], betaincinv(pairs.real, pairs.imag, 1 - tail)[where]


def _bindings(con: duckdb.DuckDBPyConnection, through_round: int | None, own: range | None) -> dict[str, Any]:
    through = newest_round(con) if through_round is None else through_round
    own = range(2**31) if own is None else own
    return {"through_round": through, "first": own.start, "stop": own.stop, "discount": DISCOUNT}


def _with_rates(table: pa.Table) -> pa.Table:
    """Add the columns of the pass rate; null where the policy has no samples."""
    samples_P, correct_P, unknown_P = (table[name].to_numpy() for name in ("samples", "correct", "unknown"))
    now = {name: table[f"{name}_now"].to_numpy() for name in ("samples", "correct", "unknown")}
    alpha_P = PRIOR + now["correct"]
    # The difference of sums of fractions can be below 0 in its last bit.
    beta_P = PRIOR + np.maximum(now["samples"] - now["unknown"] - now["correct"], 0.0)
    low_P, high_P = beta_interval(alpha_P, beta_P)
    rates = {
        "pass_mean": alpha_P / (alpha_P + beta_P),
        "pass_low": low_P,
        "pass_high": high_P,
        "pass_rate_at_most": _upper_bounds(correct_P, samples_P - unknown_P),
    }
    for name, values in rates.items():
        table = table.append_column(name, pa.array(values, mask=samples_P == 0))
    return table


def _upper_bounds(correct_P: npt.NDArray[Any], judged_P: npt.NDArray[Any]) -> Floats:
    """Return `upper_bound` of each problem; equal pairs of counts are computed once."""
    pairs, where = np.unique(correct_P + 1j * judged_P, return_inverse=True)
    bounds = [upper_bound(int(pair.real), int(pair.imag)) for pair in pairs]
    return np.asarray(bounds, dtype=np.float64)[where]
