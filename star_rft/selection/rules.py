"""The selection rules, one function over `CandidateTable` each; a config applies them left to right.

A rule drops traces and records why. Several rules prefer some traces: `first` by round and sample index, `shortest` by
tokens, `most_likely` by log-probability a token, `best` by score (the scorer's where a run has one, else the
verifier's).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from star_rft.selection import preferences
from star_rft.selection.candidates import ORDERS, CandidateTable
from star_rft.selection.registry import rule
from star_rft.types import digest

KEYS = {"exact": "text_key", "equations": "equation_key", "program": "program_key"}
Script = Literal[
    "Latin", "Greek", "Cyrillic", "Han", "Hiragana", "Katakana", "Hangul", "Arabic", "Hebrew", "Devanagari", "Thai"
]
Prefer = Literal["first", "shortest", "most_likely", "best"]
# Types of options, which are checked when a config is read (`registry`).
Positive = Annotated[int, Field(ge=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, lt=1)]


@rule
def correct(pool: CandidateTable) -> None:
    """Keep traces that are correct and ended by themselves: a cut-off trace would not teach to stop.

    A trace that shows its hint is dropped too: it does not reason to its answer.
    """
    pool.drop("status <> 'correct'", "status")
    finished(pool)
    pool.drop("leaks_hint", "'leaks_hint'")


@rule
def finished(pool: CandidateTable) -> None:
    """Keep traces that ended by themselves, correct or not: for rules that compare traces."""
    pool.drop("finish_reason <> 'stop'", "'truncated'")


@rule
def first_samples(pool: CandidateTable, *, limit: Positive) -> None:
    """Keep the first samples of each problem and round, correct or not: those that a smaller `sample.n` would draw."""
    pool.drop(f"sample_index >= {limit}", "'later_sample'")


@rule
def dedup(
    pool: CandidateTable, *, by: Literal["exact", "equations", "program"], prefer: Literal[Prefer, "furthest"] = "first"
) -> None:
    """Keep one trace of each problem and key: of equal texts, equal lists of equations, or equal programs.

    `prefer` says which. `furthest` is RFT's choice (arXiv 2308.01825): the trace with the largest sum of edit distances
    to those kept before.
    """
    if prefer == "furthest":
        _keep_furthest(pool, KEYS[by])
    else:
        pool.mark_duplicates(KEYS[by], ORDERS[prefer])


@rule
def cap(pool: CandidateTable, *, limit: Positive, prefer: Prefer = "first") -> None:
    """Keep at most `limit` traces of each problem, so that easy problems do not outweigh the others."""
    pool.keep_first(limit, order=ORDERS[prefer], why="'over_cap'")


@rule
def top(pool: CandidateTable, *, limit: Positive) -> None:
    """Keep the `limit` best traces of all problems together, by score."""
    pool.keep_first(limit, order=f"{ORDERS['best']}, problem_id", why="'below_top'", group="1")


@rule
def threshold(pool: CandidateTable, *, at_least: float) -> None:
    """Keep traces with this score or more; traces without a score are dropped."""
    pool.drop(f"score is null or score < {float(at_least)}", "'below_threshold'")


@rule
def percentile(pool: CandidateTable, *, at_least: Percent, of: Literal["all", "problem"] = "all") -> None:
    """Keep traces whose score reaches this percentile (0 to 100) of all selected traces, or of those of the problem."""
    group = "partition by problem_id" if of == "problem" else ""
    bound = f"quantile_cont(score, {at_least / 100}) filter (where why is null) over ({group})"
    pool.drop("score is null or score < bound", "'below_percentile'", bound=bound)


@rule
def balance(
    pool: CandidateTable, *, target: Literal["uniform", "prop2diff"], limit: Positive, prefer: Prefer = "first"
) -> None:
    """Keep `limit` traces of each problem, or `limit` times its fail rate, at least 1 (DART, arXiv 2407.13690)."""
    fail_rate = "avg((status <> 'correct')::int) filter (where not hinted) over (partition by problem_id)"
    most = f"greatest(1, round({limit} * fail_rate))" if target == "prop2diff" else limit
    pool.keep_first(most, order=ORDERS[prefer], why="'over_cap'", fail_rate=fail_rate)


@rule
def rejection_sampling(pool: CandidateTable, *, n: Positive, beta: Annotated[float, Field(gt=0)]) -> None:
    """Keep `n` traces of each problem at random, higher scores more often (RSO, arXiv 2309.06657, algorithm 1).

    A trace is accepted with probability exp((score - best score left) / beta); a small `beta` is close to the best `n`.
    """
    pool.drop("score is null", "'no_score'")
    query = f"select problem_id, sample_id, score from pool where why is null order by problem_id, {ORDERS['first']}"
    for_each = (_rejected_of(rows, n=n, beta=beta, seed=pool.seed) for rows in pool.by_problem(query))
    _apply(pool, (change for changes in for_each for change in changes))


@rule
def tokens(pool: CandidateTable, *, at_least: Annotated[int, Field(ge=0)] = 0, at_most: Positive | None = None) -> None:
    """Keep traces whose number of sampled tokens lies between two bounds."""
    pool.drop(f"tokens < {int(at_least)}", "'too_short'")
    if at_most is not None:
        pool.drop(f"tokens > {int(at_most)}", "'too_long'")


@rule
def readable(
    pool: CandidateTable,
    *,
    scripts: list[Script] | None = None,
    paragraph_chars: Positive | None = None,
    code_blocks: bool = True,
) -> None:
    """Drop traces with other scripts, long paragraphs or code blocks, as DeepSeek-R1's cold start did.

    A paragraph ends at an empty line, and `paragraph_chars` is the longest that is allowed.
    """
    if scripts is not None:
        allowed = "|".join(f"\\p{{{script}}}" for script in scripts)
        other = f"regexp_matches(regexp_replace(text, '{allowed}', '', 'g'), '\\p{{L}}')"
        pool.drop(_text_where(other), "'mixed_language'")
    if paragraph_chars is not None:
        lengths = "list_transform(string_split_regex(text, '\\n\\s*\\n'), lambda part: length(part))"
        pool.drop(_text_where(f"list_max({lengths}) > {int(paragraph_chars)}"), "'long_paragraph'")
    if not code_blocks:
        pool.drop(_text_where("contains(text, '```')"), "'code_block'")


def _text_where(condition: str) -> str:
    """Return SQL for traces whose text meets a condition. The pool has no texts, which would need too much memory."""
    return f"sample_id in (select sample_id from samples where split = 'train' and {condition})"


@rule
def valid_steps(pool: CandidateTable) -> None:
    """Drop traces that state a false equation: a correct answer by invalid steps teaches the invalid steps."""
    pool.drop("invalid_steps > 0", "'invalid_step'")


@rule
def mixed(pool: CandidateTable) -> None:
    """Drop problems whose samples are all correct or all not: they show no difference to learn (Reinforce-Rej)."""

    def of_problem(function: str) -> str:
        return f"{function}((status = 'correct')::int) filter (where not hinted) over (partition by problem_id)"

    pool.drop("least_right = most_right", "'not_mixed'", least_right=of_problem("min"), most_right=of_problem("max"))


@rule
def hinted(pool: CandidateTable, *, share: Share) -> None:
    """Limit the share of traces with a hint among the selected ones; those above it are dropped at random."""
    pool.drop(
        f"hinted and place * {1 - share} > {share} * unhinted + 1e-9",
        "'over_hinted_share'",
        place=f"row_number() over (partition by why is null, hinted order by {pool.random_order('hinted')})",
        unhinted="count(*) filter (where why is null and not hinted) over ()",
    )


@rule
def control(pool: CandidateTable, *, of: Literal["finished", "correct"] = "finished") -> None:
    """Replace the selection by as many random traces, to measure what training on this number of traces does by itself.

    `finished` draws from all traces that ended by themselves, `correct` from the correct ones among them. Quarantined
    problems are left out. All other traces are dropped as `not_drawn`.
    """
    size = pool.count()
    condition = "finish_reason = 'stop' and why is distinct from 'quarantined'"
    condition += " and status = 'correct'" if of == "correct" else ""
    place = f"row_number() over (partition by ({condition}) order by {pool.random_order('control')})"
    drawn = f"case when ({condition}) and place <= {size} then null else 'not_drawn' end"
    pool.change("true", {"why": drawn, "duplicate_of": "null::varchar"}, {"place": place})


@rule
def pairs(
    pool: CandidateTable,
    *,
    of: Literal["correct_incorrect", "best_worst", "all", "all_and_reference"] = "correct_incorrect",
    limit: Positive = 1,
) -> None:
    """Rank traces of each problem for preference training; traces that rank below another are dropped as `loser`.

    `correct_incorrect` pairs selected traces with incorrect ones, and `best_worst` the best with the worst by score: at
    most `limit` pairs a problem. `all` ranks the `limit` best distinct traces of a problem in one list, and
    `all_and_reference` the reference solution with them.
    """
    preferences.rank(pool, of=of, limit=limit)


CHANGES = pa.schema([("sample_id", pa.string()), ("why", pa.string()), ("duplicate_of", pa.string())])
Row = dict[str, Any]


def _keep_furthest(pool: CandidateTable, column: str) -> None:
    """Keep, of the traces with one key, the one with the largest sum of edit distances to those kept of other keys.

    The keys of a problem are taken in the order in which they first occur; of the first key its first trace is kept
    (RFT, arXiv 2308.01825, appendix). The distance is Levenshtein's, in characters.
    """
    query = (
        f"select problem_id, sample_id, {column} as key, text from pool join samples using (sample_id, problem_id)"
        f" where why is null order by problem_id, {_qualified(ORDERS['first'])}"
    )
    _apply(pool, (change for rows in pool.by_problem(query) for change in _furthest_of(rows)))


def _qualified(order: str) -> str:
    return ", ".join(f"pool.{column.strip()}" for column in order.split(","))


def _furthest_of(rows: list[Row]) -> Iterator[Row]:
    from rapidfuzz.distance import Levenshtein

    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["key"], []).append(row)
    kept: list[str] = []
    for group in groups.values():
        distances = [sum(Levenshtein.distance(row["text"], text) for text in kept) for row in group]
        chosen = group[distances.index(max(distances))]
        kept.append(chosen["text"])
        for row in group:
            if row is not chosen:
                yield {"sample_id": row["sample_id"], "why": "duplicate", "duplicate_of": chosen["sample_id"]}


def _rejected_of(rows: list[Row], *, n: int, beta: float, seed: int) -> Iterator[Row]:
    """Yield the rejected traces: traces are accepted in passes, each against the best score left, until `n` are."""
    generator = random.Random(digest("rejection sampling", seed, *(row["sample_id"] for row in rows)))
    left, accepted = rows, 0
    while left and accepted < n:
        best = max(row["score"] for row in left)
        rest = []
        for row in left:
            if accepted < n and generator.random() < math.exp((row["score"] - best) / beta):
                accepted += 1
            else:
                rest.append(row)
        left = rest
    for row in left:
        yield {"sample_id": row["sample_id"], "why": "rejected", "duplicate_of": None}


def _apply(pool: CandidateTable, changes: Iterator[Row]) -> None:
    pool.set_why(pa.Table.from_pylist(list(changes), schema=CHANGES))
