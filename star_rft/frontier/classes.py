"""The class of every train problem, recomputed at any time from the ledger. The first that holds, in this order:

    label_error   its samples contradict the reference (`label_errors.py`), and a person should look
    unseen         the policy was never asked
    unverifiable   most verdicts are unknown: the verifier or the reference needs mending, not the model
    solved         the pass rate is above 1/2 for certain: the whole 95% interval is
    truncated      most fail, and most of the failures hit the token limit: a higher limit may be all it needs
    no_survivors   nothing was correct, in any round
    hard           something was correct, but the pass rate is below 1/5
    learnable      the rest: right and wrong samples, which is what training on verified samples feeds on

All shares and the pass rate are those of `history` after its discount, so a class follows the policy as it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.database import in_memory
from star_rft.frontier.history import counts
from star_rft.frontier.label_errors import FLAG_AT, MIN_VOTES, PRIOR, find_label_errors
from star_rft.ledger.schemas import FRONTIER

if TYPE_CHECKING:
    import duckdb

ProblemClass = Literal[
    "label_error", "unseen", "unverifiable", "solved", "truncated", "no_survivors", "hard", "learnable"
]
CLASSES: tuple[ProblemClass, ...] = get_args(ProblemClass)

# More often right than not, with 97.5% certainty: 4 of 4, 7 of 8 or 12 of 16 correct in the newest round get there.
SOLVED_ABOVE = 0.5
# Below 1/5, one draw of 8 samples in six comes back empty (0.8 ** 8 = 0.17).
HARD_BELOW = 0.2
MOST = 0.5
# A reference that this many votes give, for each vote against it, is one of two answers, not a contradicted one.
REFERENCE_VOTES = 0.25


_CLASS = f"""
case
  when list_contains($wrong::varchar[], problem_id) then 'label_error'
  when probability >= {FLAG_AT} and votes >= {MIN_VOTES} and reference_votes <= {REFERENCE_VOTES} * votes
    and not list_contains($right::varchar[], problem_id) then 'label_error'
  when coalesce(samples, 0) = 0 then 'unseen'
  when unknown_now > {MOST} * samples_now then 'unverifiable'
  when pass_low > {SOLVED_ABOVE} then 'solved'
  when pass_mean < {MOST} and truncated_now > {MOST} * (samples_now - unknown_now - correct_now) then 'truncated'
  when correct = 0 then 'no_survivors'
  when pass_mean < {HARD_BELOW} then 'hard'
  else 'learnable'
end
"""
_COUNTED = ("samples", "correct", "unknown", "truncated", "distinct", "tokens")
_COUNTED_APART = ("hinted", "hinted_correct", "foreign", "foreign_correct")


def classify(
    con: duckdb.DuckDBPyConnection,
    *,
    through_round: int,
    own: range | None = None,
    prior: float = PRIOR,
    reviews: Mapping[str, bool] | None = None,
) -> pa.Table:
    """Return `FRONTIER`: one row a train problem, in the order of their ids, by what the ledger held after a round.

    `own` are the samples that the policy draws (None: all); `prior` is the share of wrong references to expect;
    `reviews` say, by problem, whether someone has found its reference right, which then decides. Rates and `transition`
    are null where the policy was not asked; `other_*` describe the most frequent answer besides the reference, suspect
    or not, and are null where there is none.
    """
    tables = {
        "problem": con.sql("select problem_id from problems where split = 'train'").to_arrow_table(),
        "counted": counts(con, through_round=through_round, own=own),
        "suspect": find_label_errors(con, through_round=through_round, prior=prior),
    }
    zeros = ", ".join(f'coalesce("{name}", 0) as "{name}"' for name in (*_COUNTED, *_COUNTED_APART))
    # Apart from the ledger's connection, whose names are the caller's.
    with in_memory() as apart:
        for name, table in tables.items():
            apart.register(name, table)
        joined = apart.sql(
            f"select $through::int as in_round, problem_id, {_CLASS} as class, counted.* exclude (problem_id)"
            f" replace ({zeros}), answer as other_answer, votes as other_votes, reference_votes, all_votes,"
            " probability as label_error_probability"
            " from problem full join counted using (problem_id) left join suspect using (problem_id)"
            " order by problem_id",
            params={
                "through": through_round,
                "right": [problem_id for problem_id, is_right in (reviews or {}).items() if is_right],
                "wrong": [problem_id for problem_id, is_right in (reviews or {}).items() if not is_right],
            },
        )
        return joined.to_arrow_table().select(FRONTIER.names).cast(FRONTIER)


def problems_of_class(path: Path, name: ProblemClass) -> frozenset[str]:
    """Return the ids of the problems that a round's frontier.parquet has in a class."""
    found = pq.read_table(path, columns=["problem_id"], filters=[("class", "=", name)])
    return frozenset(found["problem_id"].to_pylist())
