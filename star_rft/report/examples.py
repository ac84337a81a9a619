"""Which traces the page shows: a few of each kind that is worth reading, the same ones each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

# Traces shown of a problem at most: more of them repeat each other, and `star-rft view` has all.
TRACES_A_PROBLEM = 6


@dataclass(frozen=True, slots=True)
class Kind:
    """A reason to read traces. `query` gives (problem_id, sample_id or null) of train problems, any number of rows."""

    name: str
    title: str
    why: str
    query: str


@dataclass(frozen=True, slots=True)
class ExampleKind:
    """Problems that were chosen for one reason, and the samples of each that must be shown."""

    kind: Kind
    samples: dict[str, list[str]]


_NEWEST = "in_round = (select max(in_round) from frontier)"
_FLAGGED = "select problem_id, sample_id from flagged where kind = '{}'"
KINDS = (
    Kind(
        "unknown",
        "Verdicts that are unknown",
        "Here the verifier or the reference failed, not the model. They count as not correct and are never trained on.",
        "select problem_id, sample_id from samples join verdicts using (sample_id)"
        " where split = 'train' and status = 'unknown'",
    ),
    Kind(
        "suspect",
        "References that may be wrong",
        "The samples give another answer than the reference: these problems are quarantined until a review.",
        f"select problem_id, null from frontier where \"class\" = 'label_error' and {_NEWEST}",
    ),
    Kind(
        "hard",
        "Hard problems",
        "Seldom or never solved after the newest round.",
        f"select problem_id, null from frontier where \"class\" in ('no_survivors', 'hard') and {_NEWEST}",
    ),
    Kind(
        "new",
        "Newly solved",
        "Their first correct sample came in the newest round.",
        f"select problem_id, null from frontier where transition = 'newly_solved' and {_NEWEST}",
    ),
    Kind(
        "invalid_step",
        "Right answer, invalid step",
        "Trained on although an equation in them does not hold.",
        _FLAGGED.format("invalid_step"),
    ),
    Kind(
        "lucky",
        "Right answer that nothing leads to",
        "Trained on, but no equation comes to the answer, or the text goes in circles.",
        "select problem_id, sample_id from flagged where kind in ('no_derivation', 'repeated')",
    ),
    Kind(
        "disagrees",
        "Verifiers that disagree",
        "Trained on, and a second verifier judges otherwise.",
        _FLAGGED.format("disagrees"),
    ),
    Kind(
        "random",
        "Drawn at random",
        "What is usual in this run.",
        "select problem_id, null from problems where split = 'train'",
    ),
)


def choose(con: duckdb.DuckDBPyConnection, *, traces: int, seed: int) -> list[ExampleKind]:
    """Choose problems for about `traces` traces in all, each problem once, under the first kind that it is of.

    If a kind has too few problems, the kinds after it get more. The order is by a hash of the seed, and so does not
    depend on the order in which the ledger was written.
    """
    found, taken, left = [], set[str](), -(-traces // TRACES_A_PROBLEM)
    for number, kind in enumerate(KINDS):
        share = -(-left // (len(KINDS) - number))
        chosen = ExampleKind(kind, dict(_problems(con, kind, taken, share, seed)))
        taken |= chosen.samples.keys()
        left -= len(chosen.samples)
        if chosen.samples:
            found.append(chosen)
    return found


def _problems(
    con: duckdb.DuckDBPyConnection, kind: Kind, taken: set[str], most: int, seed: int
) -> Iterator[tuple[str, list[str]]]:
    if most <= 0:
        return
    rows = con.execute(
        f"select problem_id, list(sample_id order by sample_id)[:{TRACES_A_PROBLEM}]"
        f" from ({kind.query}) t(problem_id, sample_id)"
        " where not list_contains(?::varchar[], problem_id)"
        " and exists (from samples where samples.problem_id = t.problem_id and split = 'train')"
        " group by problem_id order by md5(concat(?, problem_id)), problem_id limit ?",
        [sorted(taken), f"{seed} ", most],
    ).fetchall()
    for problem_id, samples in rows:
        yield problem_id, [sample for sample in samples if sample is not None]


def traces_to_show(ids: Sequence[str], kinds: Sequence[tuple[int, str, str]], must: Sequence[str]) -> list[str]:
    """Return at most `TRACES_A_PROBLEM` of a problem's samples, in their order.

    The samples in `must` are among them, then some of each round. `kinds` are each sample's round, status and text:
    first one of each status in the newest and the oldest round, then the others, and no text twice while there are
    different ones.
    """
    rounds = sorted({round_index for round_index, _, _ in kinds}, reverse=True)
    order = [rounds[0], *([rounds[-1]] if len(rounds) > 1 else []), *rounds[1:-1]] if rounds else []
    ranked: list[tuple[int, int, int, str]] = []
    seen_texts: set[str] = set()
    seen_kinds: dict[tuple[int, str], int] = {}
    for sample, (round_index, status, text) in zip(ids, kinds, strict=True):
        turn = seen_kinds[round_index, status] = seen_kinds.get((round_index, status), -1) + 1
        is_again = text in seen_texts
        seen_texts.add(text)
        ranked.append((0 if sample in must else 1, turn + (100 if is_again else 0), order.index(round_index), sample))
    best = {sample for *_, sample in sorted(ranked)[:TRACES_A_PROBLEM]}
    return [sample for sample in ids if sample in best]
