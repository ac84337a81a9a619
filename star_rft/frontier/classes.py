"""The class of every train problem, computed from the ledger alone.

A problem has the first class of this list whose condition holds:

    label_error    its samples contradict the reference (`label_errors.py`), and a person should look
    unseen         the policy has not sampled it
    unverifiable   most verdicts are unknown: the verifier or the reference is at fault, not the model
    solved         the whole 95% interval of the pass rate is above 1/2
    truncated      most samples fail, and most failures hit the token limit: a higher limit may be all that is needed
    no_survivors   no sample was correct, in any round
    hard           some sample was correct, and the pass rate is below 1/5
    learnable      all others: correct and incorrect samples, from which training on verified samples learns most

Shares and pass rates are those of `history`, where older rounds count less, so a class follows the policy.
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

# Reached by 4 of 4, 7 of 8 or 12 of 16 correct samples in the newest round.
SOLVED_ABOVE = 0.5
# At a pass rate of 1/5, one in six draws of 8 samples has no correct one (0.8 ** 8 = 0.17).
HARD_BELOW = 0.2
MOST = 0.5
# A reference with more than this many votes for each vote of the other answer is not called contradicted.
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
    """Classify every train problem by its samples up to a round.

    Args:
        con: A connection of `Ledger.connect`.
        through_round: The last round that counts.
        own: Sample indices of the policy (None: all); those beyond are samples of foreign models.
        prior: Share of wrong references that is expected before any sample was seen.
        reviews: Whether a person found the reference of a problem right, by problem id; that overrides the samples.

    Returns:
        The table FRONTIER, ordered by problem id. Rates and `transition` are null where the policy has not sampled the
        problem. `other_*` describe the most frequent answer besides the reference, suspected or not, and are null where
        there is none.
    """
    tables = {
        "problem": con.sql("select problem_id from problems where split = 'train'").to_arrow_table(),
        "counted": counts(con, through_round=through_round, own=own),
        "suspect": find_label_errors(con, through_round=through_round, prior=prior),
    }
    zeros = ", ".join(f'coalesce("{name}", 0) as "{name}"' for name in (*_COUNTED, *_COUNTED_APART))
    # In a database of its own, so that no table of the caller's connection is replaced.
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
    """Return the ids of the problems of a class in a frontier.parquet."""
    found = pq.read_table(path, columns=["problem_id"], filters=[("class", "=", name)])
    return frozenset(found["problem_id"].to_pylist())
