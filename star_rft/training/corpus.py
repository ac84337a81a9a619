"""What a round trains on: selected traces, gold solutions, and the warm start's data as an anchor."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Protocol

from star_rft.ledger import batches
from star_rft.training.examples import ended, example_from_text, token_ids
from star_rft.types import Example, Problem, Ranking, digest

if TYPE_CHECKING:
    import duckdb
    from transformers import PreTrainedTokenizerBase


class Prompts(Protocol):
    """The part of `star_rft.data.Prompter` that training needs."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    def render(self, problem: Problem) -> str: ...
    def target(self, problem: Problem) -> str: ...


@dataclass(frozen=True, slots=True)
class Row:
    """A completion of a problem that is trained on, before it becomes tokens: a selected trace or a gold solution.

    `token_ids` are what was sampled, where this model sampled it; `sample_id` and they are None for a gold solution.
    """

    kind: Literal["trace", "gold", "anchor"]
    problem: Problem
    text: str
    token_ids: Sequence[int] | None = None
    sample_id: str | None = None
    weight: float = 1.0


def corpus(con: duckdb.DuckDBPyConnection, *, prompts: Prompts, **options: Any) -> list[Example]:
    """Build the training set of a round, in a fixed order: the examples of its `rows`, whose options it takes."""
    return [example_of(row, prompts=prompts) for row in rows(con, prompts=prompts, **options)]


def rows(
    con: duckdb.DuckDBPyConnection,
    *,
    round: int,
    problems: Mapping[str, Problem],
    prompts: Prompts,
    gold: float,
    anchor: Sequence[Problem],
    mix: float,
    seed: int,
    foreign: Sequence[str] = (),
    held_out: Collection[str] = (),
) -> Iterator[Row]:
    """Yield what a round trains on, in a fixed order. A hinted trace is trained on without its hint.

    `foreign` are the fingerprints of models whose tokens are not this model's: of those the text counts.
    `gold` is the share of the problems whose gold solution is added; `mix` the share of the whole set that is
    drawn, without replacement and anew each round, from `anchor`. The gold solutions of `held_out` problems are left
    out of both.
    """
    survivors = 0
    for row in _survivors(con, round=round, problems=problems, foreign=foreign):
        survivors += 1
        yield row
    with_gold = [problem_id for problem_id in problems if problem_id not in held_out]
    by_id = {problem.id: problem for problem in anchor if problem.id not in held_out}
    golds, anchors = mixture(survivors, problems=len(with_gold), gold=gold, anchor=len(by_id), mix=mix)
    for problem_id in _draw(with_gold, golds, "gold", seed):
        yield Row("gold", problems[problem_id], prompts.target(problems[problem_id]))
    for problem_id in _draw(list(by_id), anchors, "anchor", seed, round):
        yield Row("anchor", by_id[problem_id], prompts.target(by_id[problem_id]))


def mixture(survivors: int, *, problems: int, gold: float, anchor: int, mix: float) -> tuple[int, int]:
    """Return how many gold solutions and how many examples of the anchor go with so many survivors."""
    golds = round(gold * problems)
    return golds, min(anchor, round(mix / (1 - mix) * (survivors + golds)))


def gold_examples(problems: Sequence[Problem], *, prompts: Prompts) -> list[Example]:
    return [example_from_text(prompts.tokenizer, prompts.render(p), prompts.target(p)) for p in problems]


def rankings(
    con: duckdb.DuckDBPyConnection,
    *,
    round: int,
    problems: Mapping[str, Problem],
    prompts: Prompts,
    foreign: Sequence[str] = (),
) -> list[Ranking]:
    """Build what a round's objective compares, in a fixed order."""
    found = []
    for places in ranked(con, round=round, problems=problems, prompts=prompts, foreign=foreign):
        examples = [example_of(row, prompts=prompts) for _, row in places]
        completions = tuple(example.completion_ids for example in examples)
        found.append(Ranking(examples[0].prompt_ids, completions, tuple(score for score, _ in places)))
    return found


def ranked(
    con: duckdb.DuckDBPyConnection,
    *,
    round: int,
    problems: Mapping[str, Problem],
    prompts: Prompts,
    foreign: Sequence[str] = (),
) -> Iterator[list[tuple[float, Row]]]:
    """Yield the places of one ranking after the other, best first, with their scores.

    A place without a sample is the gold solution.
    """
    query = (
        "select r.ranking, r.problem_id, r.score, r.sample_id, s.text, s.token_ids, s.model"
        f" from rankings r left join samples s using (sample_id) where r.in_round = {int(round)}"
        " order by r.ranking, r.place"
    )
    places = (place for batch in batches(con, query) for place in batch)
    for _, ranking in groupby(places, key=lambda place: place["ranking"]):
        yield [(float(place["score"]), _placed(place, problems, prompts, foreign)) for place in ranking]


def _placed(place: Mapping[str, Any], problems: Mapping[str, Problem], prompts: Prompts, foreign: Sequence[str]) -> Row:
    problem = problems[place["problem_id"]]
    if place["text"] is None:
        return Row("gold", problem, prompts.target(problem))
    return _trace(place, problem, foreign)


def _survivors(
    con: duckdb.DuckDBPyConnection, *, round: int, problems: Mapping[str, Problem], foreign: Sequence[str]
) -> Iterator[Row]:
    query = (
        "select s.problem_id, s.sample_id, s.text, s.token_ids, s.model, sel.weight"
        " from selection sel join samples s using (sample_id)"
        f" where sel.in_round = {int(round)} and sel.is_selected order by s.problem_id, s.sample_id"
    )
    for batch in batches(con, query):
        yield from (_trace(found, problems[found["problem_id"]], foreign, found["weight"]) for found in batch)


def _trace(found: Mapping[str, Any], problem: Problem, foreign: Sequence[str], weight: float = 1.0) -> Row:
    token_ids = None if found["model"] in foreign else found["token_ids"]
    return Row("trace", problem, found["text"], token_ids, found["sample_id"], weight)


def example_of(row: Row, *, prompts: Prompts) -> Example:
    prompt = token_ids(prompts.tokenizer, prompts.render(row.problem))
    return Example(prompt, completion_of(row, prompts.tokenizer), row.weight)


def completion_of(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Keep the very tokens that were sampled, where they are this model's and end the completion."""
    if row.token_ids and row.token_ids[-1] == tokenizer.eos_token_id:
        return ended(tokenizer, row.token_ids)
    # It ended at a stop string, whose tokens are not part of the answer, or another tokenizer made them.
    return ended(tokenizer, token_ids(tokenizer, row.text))


def _draw(ids: Sequence[str], count: int, *key: object) -> list[str]:
    """Take `count` ids in an order that depends on the key alone, not on the order given."""
    return sorted(ids, key=lambda pid: digest(*key, pid))[:count]
