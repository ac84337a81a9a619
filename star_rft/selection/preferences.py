"""Preferences: ranked traces of one problem, for preference training (DPO, RSO, RRHF).

The table `ranked` has one row a trace of a preference, with its `place`, 0 for the best; a pair is a preference of two.
The reference solution has no sample id.
"""

from __future__ import annotations

from star_rft.selection.candidates import ORDERS, CandidateTable

# Traces that may be ranked: they ended by themselves and have a verdict and a score.
_JUDGED = "finish_reason = 'stop' and status <> 'unknown' and score is not null"


def rank(pool: CandidateTable, *, of: str, limit: int) -> None:
    """Fill the table `ranked`, and drop traces that rank below another as `loser`: they are no examples to imitate.

    `of` and `limit` are the options of the rule `pairs`.
    """
    query = {
        "correct_incorrect": _against_incorrect,
        "best_worst": _against_worst,
        "all": _lists,
        "all_and_reference": _lists_with_reference,
    }[of](limit)
    pool.con.execute(
        "create or replace temp table ranked as"
        " select dense_rank() over (order by problem_id, within)::bigint as preference, problem_id,"
        f" place::integer as place, sample_id, score::double as score from ({query})"
    )
    # Incorrect traces that are ranked below another get the reason `loser` too.
    behind = (
        "sample_id in (select sample_id from (select *, max(score) over (partition by preference) as best from ranked)"
        " where sample_id is not null and score < best)"
    )
    pool.change(f"(why is null or why = 'incorrect') and {behind}", {"why": "'loser'"})


def _distinct(condition: str, order: str) -> str:
    """Return SQL for one trace a problem and text among those that meet a condition, with its `place` in an order."""
    return (
        f"select *, row_number() over (partition by problem_id order by {order}) as place from (select * from pool"
        f" where {condition} qualify row_number() over (partition by problem_id, text_key order by {order}) = 1)"
    )


def _pairs(winners: str, losers: str, limit: int) -> str:
    """Return SQL for at most `limit` pairs a problem of a winner and a loser with a lower score.

    Pairs are ordered by the larger of the two places, from 1: (1, 1), (1, 2), (2, 1), (2, 2), ... So few pairs have
    many different traces, and none of the first `limit` pairs has a place above `limit`.
    """
    return (
        "with pair as (select w.problem_id, w.sample_id as better, w.score as better_score, l.sample_id as worse,"
        " l.score as worse_score, row_number() over (partition by w.problem_id"
        "   order by greatest(w.place, l.place), w.place, l.place) as within"
        f" from ({winners}) w join ({losers}) l using (problem_id)"
        f" where w.score > l.score and w.place <= {int(limit)} and l.place <= {int(limit)}"
        f" qualify within <= {int(limit)})"
        " select problem_id, within, 0 as place, better as sample_id, better_score as score from pair"
        " union all select problem_id, within, 1, worse, worse_score from pair"
    )


def _against_incorrect(limit: int) -> str:
    losers = _distinct(f"why = 'incorrect' and {_JUDGED}", ORDERS["first"])
    return _pairs(_distinct("why is null", ORDERS["first"]), losers, limit)


def _against_worst(limit: int) -> str:
    worst = "score, round, sample_index, sample_id"
    losers = _distinct(f"(why is null or why = 'incorrect') and {_JUDGED}", worst)
    return _pairs(_distinct(f"why is null and {_JUDGED}", ORDERS["best"]), losers, limit)


def _lists_with_reference(limit: int) -> str:
    return _lists(limit, with_reference=True)


def _lists(limit: int, *, with_reference: bool = False) -> str:
    ranked = _distinct(f"(why is null or why = 'incorrect') and {_JUDGED}", ORDERS["best"])
    traces = f"select problem_id, place, sample_id, score from ({ranked}) where place <= {int(limit)}"
    if with_reference:
        traces += (
            " union all select problem_id, 0, null, 1.0 from (select distinct problem_id from pool)"
            " join problems p using (problem_id) where p.split = 'train' and p.solution is not null"
        )
    # A list in which all scores are equal has no preference in it.
    return (
        "select problem_id, 1 as within, sample_id, score,"
        " row_number() over (partition by problem_id order by score desc, place) - 1 as place"
        f" from ({traces})"
        " qualify min(score) over (partition by problem_id) < max(score) over (partition by problem_id)"
    )
