"""What a round trains on: selected traces, gold solutions, and the warm start's data as an anchor."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from star_rft.training.examples import example_from_text, example_from_tokens
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


def corpus(
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
) -> list[Example]:
    """Build the training set of a round, in a fixed order. A hinted trace is trained on without its hint.

    `foreign` are the fingerprints of models whose tokens are not this model's: of those the text counts.
    `gold` is the share of the problems whose gold solution is added; `mix` the share of the whole set that is
    drawn, without replacement and anew each round, from `anchor`. The gold solutions of `held_out` problems are left
    out of both.
    """
    survivors = _survivors(con, round=round, problems=problems, prompts=prompts, foreign=foreign)
    with_gold = [problem_id for problem_id in problems if problem_id not in held_out]
    by_id = {problem.id: problem for problem in anchor if problem.id not in held_out}
    golds, anchors = mixture(len(survivors), problems=len(with_gold), gold=gold, anchor=len(by_id), mix=mix)
    gold_ids = _draw(with_gold, golds, "gold", seed)
    anchor_ids = _draw(list(by_id), anchors, "anchor", seed, round)
    return [
        *survivors,
        *gold_examples([problems[pid] for pid in gold_ids], prompts=prompts),
        *gold_examples([by_id[pid] for pid in anchor_ids], prompts=prompts),
    ]


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
    """Build what a round's objective compares, in a fixed order; a place without a sample is the gold solution."""
    rows = con.execute(
        "select r.ranking, r.problem_id, r.score, s.text, s.token_ids, s.model"
        " from rankings r left join samples s using (sample_id) where r.in_round = ? order by r.ranking, r.place",
        [round],
    ).fetchall()
    found = []
    for _, places in groupby(rows, key=lambda row: row[0]):
        examples, scores = [], []
        for _, problem_id, score, text, token_ids, model in places:
            problem = problems[problem_id]
            is_gold = text is None
            text = prompts.target(problem) if is_gold else text
            tokens = None if is_gold or model in foreign else token_ids
            examples.append(_example(prompts, problem, text, tokens))
            scores.append(float(score))
        completions = tuple(example.completion_ids for example in examples)
        found.append(Ranking(examples[0].prompt_ids, completions, tuple(scores)))
    return found


def _survivors(
    con: duckdb.DuckDBPyConnection,
    *,
    round: int,
    problems: Mapping[str, Problem],
    prompts: Prompts,
    foreign: Sequence[str],
) -> list[Example]:
    rows = con.execute(
        "select s.problem_id, s.text, s.token_ids, s.model, sel.weight"
        " from selection sel join samples s using (sample_id)"
        " where sel.in_round = ? and sel.is_selected order by s.problem_id, s.sample_id",
        [round],
    ).fetchall()
    return [
        _example(prompts, problems[problem_id], text, None if model in foreign else token_ids, weight=weight)
        for problem_id, text, token_ids, model, weight in rows
    ]


def _example(
    prompts: Prompts, problem: Problem, text: str, token_ids: Sequence[int] | None, *, weight: float = 1.0
) -> Example:
    """Keep the very tokens that were sampled, where they are this model's and end the completion."""
    prompt, tokenizer = prompts.render(problem), prompts.tokenizer
    if token_ids and token_ids[-1] == tokenizer.eos_token_id:
        return example_from_tokens(tokenizer, prompt, token_ids, weight=weight)
    # It ended at a stop string, whose tokens are not part of the answer, or another tokenizer made them.
    return example_from_text(tokenizer, prompt, text, weight=weight)


def _draw(ids: Sequence[str], count: int, *key: object) -> list[str]:
    """Take `count` ids in an order that depends on the key alone, not on the order given."""
    return sorted(ids, key=lambda pid: digest(*key, pid))[:count]
