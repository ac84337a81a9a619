"""Counts of samples by problem, from the ledger, as budgets read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from star_rft.frontier.history import DISCOUNT
from star_rft.statistics import Flags, Floats, Ints

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class ProblemCounts:
    """What the ledger holds of each problem, one entry a problem in every array.

    `samples`, `correct` and `tokens` are this round's samples of the policy, without hints. `distinct` are the distinct
    correct traces that count towards the cap, among `distinct_of` correct ones: of this round, or of every round where
    selection uses all. `past_samples` and `past_correct` are earlier rounds', discounted. A quarantined
    problem gets its first `probe` samples and no more. `order` is any number a problem, such as a hash with the run's
    seed: where a budget does not reach everyone, equals are served by it.
    """

    samples_N: Ints
    correct_N: Ints
    distinct_N: Ints
    distinct_of_N: Ints
    tokens_N: Ints
    past_samples_N: Floats
    past_correct_N: Floats
    is_quarantined_N: Flags
    order_N: Ints

    def __post_init__(self) -> None:
        sizes = {field.name: getattr(self, field.name).shape for field in fields(self)}
        if len(set(sizes.values())) > 1 or self.samples_N.ndim != 1:
            raise ValueError(f"every array has one entry a problem: {sizes}")


def count_samples(
    con: duckdb.DuckDBPyConnection,
    problem_ids: Sequence[str],
    *,
    round_index: int,
    sample_indices: range,
    key: str,
    rounds: str,
    seed: int,
    quarantines: bool,
) -> ProblemCounts:
    """Count what these problems have come to with the source that draws these samples.

    Distinct traces are told apart by the column `key`, over the rounds that selection uses (`rounds`: all or last), and
    by whichever model: they all count towards the cap. Where tokens are short equals are served in an order that is
    another one every round. With `quarantines`, label errors of the round before are left out.
    """
    ids = pa.table({"problem_id": pa.array(problem_ids, pa.string()), "place": np.arange(len(problem_ids))})
    con.register("planned_problems", ids)
    usable = "status = 'correct' and s.finish_reason = 'stop'"
    span = "true" if rounds == "all" else "s.round = $round"
    asked = f"s.sample_index between {sample_indices.start} and {sample_indices.stop - 1}"
    earlier, now = f"s.round < $round and {asked}", f"s.round = $round and {asked}"
    found = con.sql(
        "with counts as (select s.problem_id,"
        f" count(*) filter ({now}) as samples,"
        f" count(*) filter ({now} and status = 'correct') as correct,"
        f" sum(s.tokens) filter ({now}) as tokens,"
        f" count(distinct {key}) filter ({usable} and {span}) as distinct_keys,"
        f" count(*) filter ({usable} and {span}) as distinct_of,"
        f" sum(pow({DISCOUNT}, $round - s.round)) filter ({earlier}) as past_samples,"
        f" sum(pow({DISCOUNT}, $round - s.round)) filter ({earlier} and status = 'correct') as past_correct"
        " from samples s join verdicts using (sample_id)"
        " where s.split = 'train' and not s.hinted and s.round <= $round group by s.problem_id)"
        " select coalesce(samples, 0)::bigint as samples, coalesce(correct, 0)::bigint as correct,"
        " coalesce(distinct_keys, 0)::bigint as distinct_keys, coalesce(distinct_of, 0)::bigint as distinct_of,"
        " coalesce(tokens, 0)::bigint as tokens, coalesce(past_samples, 0)::double as past_samples,"
        " coalesce(past_correct, 0)::double as past_correct, problem_id in"
        " (select problem_id from frontier where in_round = $round - 1 and class = 'label_error') as is_label_error,"
        " (md5_number_lower(problem_id || $salt) >> 1)::bigint as place_among_equals"
        " from planned_problems left join counts using (problem_id) order by place",
        params={"round": round_index, "salt": f":{seed}:{round_index}"},
    ).to_arrow_table()
    con.unregister("planned_problems")
    columns = {name: found[name].to_numpy() for name in found.column_names}
    return ProblemCounts(
        samples_N=columns["samples"],
        correct_N=columns["correct"],
        distinct_N=columns["distinct_keys"],
        distinct_of_N=columns["distinct_of"],
        tokens_N=columns["tokens"],
        past_samples_N=columns["past_samples"],
        past_correct_N=columns["past_correct"],
        is_quarantined_N=columns["is_label_error"] & quarantines,
        order_N=columns["place_among_equals"],
    )
