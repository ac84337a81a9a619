"""Counts of the samples of each problem in the ledger, from which budgets decide."""

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
    """Counts of each problem, one entry a problem in every array. Samples with a hint are not counted.

    Attributes:
        samples_P: Samples of this round.
        correct_P: Correct samples of this round.
        distinct_P: Distinct correct traces that selection can use: of this round, or of all rounds.
        distinct_of_P: Correct traces that those are the distinct ones of.
        tokens_P: Sampled tokens of this round.
        past_samples_P: Samples of earlier rounds, discounted by `history.DISCOUNT` a round.
        past_correct_P: Correct samples of earlier rounds, discounted likewise.
        is_quarantined_P: The problem has a suspected label error: it draws its first samples and no more.
        order_P: Any number, such as a hash: where tokens are short, equal problems draw in this order.
    """

    samples_P: Ints
    correct_P: Ints
    distinct_P: Ints
    distinct_of_P: Ints
    tokens_P: Ints
    past_samples_P: Floats
    past_correct_P: Floats
    is_quarantined_P: Flags
    order_P: Ints

    def __post_init__(self) -> None:
        sizes = {field.name: getattr(self, field.name).shape for field in fields(self)}
        if len(set(sizes.values())) > 1 or self.samples_P.ndim != 1:
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
    has_quarantine: bool,
) -> ProblemCounts:
    """Count the samples of some problems.

    Args:
        con: A connection of `Ledger.connect`.
        problem_ids: The problems, in the order of the arrays that are returned.
        round_index: The round that is being sampled.
        sample_indices: Indices of the samples of one model: only these count, except in `distinct_P`, as traces of
            every model are selected from.
        key: Column of `verdicts` in which distinct traces differ.
        rounds: Rounds that selection uses, `all` or `last`.
        seed: Of `order_P`, which is another order in every round.
        has_quarantine: Suspected label errors of the round before are marked in `is_quarantined_P`.
    """
    ids = pa.table({"problem_id": pa.array(problem_ids, pa.string()), "place": np.arange(len(problem_ids))})
    con.register("planned_problems", ids)
    # `usable` traces are those that the rule `correct` selects; `span` is the rounds that selection uses.
    usable = "status = 'correct' and s.finish_reason = 'stop'"
    span = "true" if rounds == "all" else "s.round = $round"
    is_own = f"s.sample_index between {sample_indices.start} and {sample_indices.stop - 1}"
    earlier, now = f"s.round < $round and {is_own}", f"s.round = $round and {is_own}"
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
        samples_P=columns["samples"],
        correct_P=columns["correct"],
        distinct_P=columns["distinct_keys"],
        distinct_of_P=columns["distinct_of"],
        tokens_P=columns["tokens"],
        past_samples_P=columns["past_samples"],
        past_correct_P=columns["past_correct"],
        is_quarantined_P=columns["is_label_error"] & has_quarantine,
        order_P=columns["place_among_equals"],
    )
