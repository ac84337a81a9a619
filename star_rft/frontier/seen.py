"""What the planner sees of the ledger: counts a prompt, taken between waves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from star_rft.frontier.budget import Seen
from star_rft.frontier.history import DISCOUNT

if TYPE_CHECKING:
    import duckdb


def seen(
    con: duckdb.DuckDBPyConnection,
    problem_ids: Sequence[str],
    *,
    round: int,
    attempts: range,
    key: str,
    rounds: str,
    seed: int,
    held_out: bool,
) -> Seen:
    """Count what these problems have come to with the source that draws these attempts.

    Distinct traces are told apart by the column `key`, over the rounds that selection uses (`rounds`: all or last), and
    by whichever model: they all count towards the cap. Where tokens are short equals are served in an order that is
    another one every round. With `held_out`, suspects of the round before are held out.
    """
    ids = pa.table({"problem_id": pa.array(problem_ids, pa.string()), "place": np.arange(len(problem_ids))})
    con.register("planned_problems", ids)
    usable = "status = 'correct' and s.finish_reason = 'stop'"
    span = "true" if rounds == "all" else "s.round = $round"
    asked = f"s.attempt between {attempts.start} and {attempts.stop - 1}"
    earlier, now = f"s.round < $round and {asked}", f"s.round = $round and {asked}"
    found = con.sql(
        "with counts as (select s.problem_id,"
        f" count(*) filter ({now}) as samples,"
        f" count(*) filter ({now} and status = 'correct') as correct,"
        f" sum(s.tokens) filter ({now}) as tokens,"
        f" count(distinct {key}) filter ({usable} and {span}) as uniq,"
        f" count(*) filter ({usable} and {span}) as uniq_of,"
        f" sum(pow({DISCOUNT}, $round - s.round)) filter ({earlier}) as past,"
        f" sum(pow({DISCOUNT}, $round - s.round)) filter ({earlier} and status = 'correct') as past_correct"
        " from samples s join verdicts using (sample_id)"
        " where s.split = 'train' and not s.hinted and s.round <= $round group by s.problem_id)"
        " select coalesce(samples, 0)::bigint as samples, coalesce(correct, 0)::bigint as correct,"
        " coalesce(uniq, 0)::bigint as uniq, coalesce(uniq_of, 0)::bigint as uniq_of,"
        " coalesce(tokens, 0)::bigint as tokens, coalesce(past, 0)::double as past,"
        " coalesce(past_correct, 0)::double as past_correct, problem_id in"
        " (select problem_id from frontier where in_round = $round - 1 and class = 'suspect_gold') as is_suspect,"
        " (md5_number_lower(problem_id || $salt) >> 1)::bigint as rank"
        " from planned_problems left join counts using (problem_id) order by place",
        params={"round": round, "salt": f":{seed}:{round}"},
    ).to_arrow_table()
    con.unregister("planned_problems")
    columns = {name: found[name].to_numpy() for name in found.column_names}
    return Seen(
        samples_N=columns["samples"],
        correct_N=columns["correct"],
        distinct_N=columns["uniq"],
        distinct_of_N=columns["uniq_of"],
        tokens_N=columns["tokens"],
        past_samples_N=columns["past"],
        past_correct_N=columns["past_correct"],
        is_held_out_N=columns["is_suspect"] & held_out,
        order_N=columns["rank"],
    )
