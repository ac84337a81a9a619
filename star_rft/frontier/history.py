"""The history of each train problem: its counts, the policy's pass rate, and its last transition.

Only the policy's own samples without a hint tell its pass rate; hinted ones and those of foreign models are counted
apart. All of it is one DuckDB query over columns and a few numpy calls, linear in the traces.

The pass rate has the posterior Beta(1/2 + c, 1/2 + m) from Jeffreys' prior, with c correct and m incorrect samples;
what is unknown counts as neither. A round r counts `DISCOUNT ** (through_round - r)`, so a problem that has not been
sampled for some rounds becomes uncertain again. `pass_rate_at_most` is the one-sided 95% upper bound (Clopper and
Pearson 1934) over all rounds alike; after 0 of k it is near 3/k.
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

# From the last round but one in which the problem was sampled to the last: the first correct sample ever; correct again
# after none; correct in both; none after some; none in both.
Transition = Literal["newly_solved", "regained", "still_solved", "lost", "still_unsolved"]

# Every round trains another policy. With 1/2 all earlier rounds together weigh less than the newest one
# (1/2 + 1/4 + ... < 1) where each drew as many, and a few samples a round still add up.
DISCOUNT = 0.5
# Jeffreys' prior: its intervals cover a binomial rate well, at 0 of k too (Brown, Cai, DasGupta 2001).
PRIOR = 0.5
CONFIDENCE = 0.95


# DuckDB reads the ledger once for the counts and once, correct samples only, for the keys.
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
    """Return `HISTORY`, one row a train problem with a sample of any kind, in the order of their ids.

    `through_round` is the last round that counts (None: the newest); `own` are the samples that the policy draws
    (None: all), those beyond are foreign models'. `transition` and the rates are null where the policy itself was never
    asked. The columns `*_now` are counts after the discount.
    """
    found = _bindings(con, through_round, own)
    table = con.sql(_COUNTS + "select * from told order by problem_id", params=found).to_arrow_table()
    return _with_rates(table).select(HISTORY.names).cast(HISTORY)


def newest_round(con: duckdb.DuckDBPyConnection) -> int:
    """Return the newest round with train samples; 0 without any."""
    ((newest,),) = con.sql("select coalesce(max(round), 0) from samples where split = 'train'").fetchall()
    return int(newest)


def beta_interval(alpha: Floats, beta: Floats, *, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Return the central interval of each Beta(alpha, beta); what occurs often is computed once."""
    from scipy.special import betaincinv

    pairs, where = np.unique(alpha + 1j * beta, return_inverse=True)
    tail = (1 - confidence) / 2
    return betaincinv(pairs.real, pairs.imag, tail)[where], betaincinv(pairs.real, pairs.imag, 1 - tail)[where]


def _bindings(con: duckdb.DuckDBPyConnection, through_round: int | None, own: range | None) -> dict[str, Any]:
    through = newest_round(con) if through_round is None else through_round
    own = range(2**31) if own is None else own
    return {"through_round": through, "first": own.start, "stop": own.stop, "discount": DISCOUNT}


def _with_rates(table: pa.Table) -> pa.Table:
    """Add the columns of the pass rate; null where there is no sample to tell it."""
    samples_P, correct_P, unknown_P = (table[name].to_numpy() for name in ("samples", "correct", "unknown"))
    now = {name: table[f"{name}_now"].to_numpy() for name in ("samples", "correct", "unknown")}
    alpha_P = PRIOR + now["correct"]
    # A sum of fractions that were taken apart again can be below 0 in its last bit.
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
    """Return `upper_bound` of each problem; only as often as there are different pairs of counts."""
    pairs, where = np.unique(correct_P + 1j * judged_P, return_inverse=True)
    bounds = [upper_bound(int(pair.real), int(pair.imag)) for pair in pairs]
    return np.asarray(bounds, dtype=np.float64)[where]
