"""Training sets: selected traces, reference solutions, and the warm start's data as an anchor."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Protocol

from star_rft.errors import RunFailure
from star_rft.ledger import batches
from star_rft.models.ends import Ends, Stops, ends_by
from star_rft.models.tokens import ended_text_ids, text_ids
from star_rft.types import Example, FinishReason, Preference, Problem, Trace, digest

if TYPE_CHECKING:
    import duckdb
    from transformers import PreTrainedTokenizerBase

_OF_SAMPLE = "s.text, s.token_ids, s.model, s.finish_reason, s.ids_are_sampled, s.hinted, s.prompt_sha"


class PrompterLike(Protocol):
    """The part of `star_rft.data.Prompter` that training needs."""

    def render(self, problem: Problem) -> str:
        """Return the prompt's text."""
        ...

    def prompt_ids(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a prompt."""
        ...

    def completion_ids(
        self,
        text: str,
        sampled: Sequence[int] | None = None,
        *,
        finish_reason: FinishReason = "stop",
        stops: Stops | None = None,
    ) -> tuple[int, ...]:
        """Return the ids of a completion: as they were sampled where `sampled` has them, with its end token."""
        ...

    def target(self, problem: Problem) -> str:
        """Return the text of the reference solution, in the form of completions."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """A completion of a problem that is trained on, before it becomes tokens: a selected trace or a reference solution.

    `token_ids` are what was sampled, where this model sampled it; `sample_id` and they are None for a reference
    solution. `prompt_sha` is that of the prompt that it was sampled with, None where the run trains on another one.
    """

    kind: Literal["trace", "reference", "anchor"]
    problem: Problem
    text: str
    token_ids: Sequence[int] | None = None
    sample_id: str | None = None
    weight: float = 1.0
    finish_reason: FinishReason = "stop"
    prompt_sha: str | None = None


@dataclass(frozen=True, slots=True)
class SampleOrigin:
    """How the traces of a run were sampled, as far as training on them depends on it.

    `stops` is what ended them: the model's own end tokens where it is None. `foreign` are the fingerprints of models
    whose tokens are not this model's: of those the text counts. `is_one_prompt`: the policy is asked with the very
    prompt that is trained on.
    """

    stops: Stops | None = None
    foreign: Sequence[str] = ()
    is_one_prompt: bool = False

    def own_ids(self, model: str, token_ids: Sequence[int], is_sampled: bool) -> Sequence[int] | None:
        """Return the ids of a sample where they are this model's own; None where its text alone counts."""
        return token_ids if is_sampled and model not in self.foreign else None


@dataclass(frozen=True, slots=True)
class Mixture:
    """What is added to a round's selected traces.

    `reference_share` is the share of the problems whose reference solution is added; `mix` the share of the whole set
    that is drawn, without replacement and anew each round, from the anchor.
    """

    reference_share: float = 0.0
    mix: float = 0.0

    def counts(self, selected: int, *, problems: int, anchor: int) -> tuple[int, int]:
        """Return the numbers of reference solutions and of anchor examples for a number of selected traces."""
        references = round(self.reference_share * problems)
        return references, min(anchor, round(self.mix / (1 - self.mix) * (selected + references)))


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """What a run's training sets are made of: problems by id, how they are rendered, and how traces were sampled.

    `anchor` are solved problems that `mixture` adds from. The reference solutions of `quarantined` problems are left
    out of both.
    """

    problems: Mapping[str, Problem]
    prompter: PrompterLike
    origin: SampleOrigin = SampleOrigin()
    seed: int = 0
    mixture: Mixture = Mixture()
    anchor: Sequence[Problem] = ()
    quarantined: Collection[str] = ()


def corpus(con: duckdb.DuckDBPyConnection, spec: CorpusSpec, *, round_index: int) -> list[Example]:
    """Build the training set of a round, in a fixed order: the examples of its `rows`."""
    found = rows(con, spec, round_index=round_index)
    return [example_of(row, prompter=spec.prompter, stops=spec.origin.stops) for row in found]


def rows(con: duckdb.DuckDBPyConnection, spec: CorpusSpec, *, round_index: int) -> Iterator[Row]:
    """Yield what a round trains on, in a fixed order. A hinted trace is trained on without its hint."""
    selected = 0
    for row in _selected(con, spec, round_index=round_index):
        selected += 1
        yield row
    with_solution = [problem_id for problem_id in spec.problems if problem_id not in spec.quarantined]
    by_id = {problem.id: problem for problem in spec.anchor if problem.id not in spec.quarantined}
    references, anchors = spec.mixture.counts(selected, problems=len(with_solution), anchor=len(by_id))
    for problem_id in _draw(with_solution, references, "gold", spec.seed):
        yield Row("reference", spec.problems[problem_id], spec.prompter.target(spec.problems[problem_id]))
    for problem_id in _draw(list(by_id), anchors, "anchor", spec.seed, round_index):
        yield Row("anchor", by_id[problem_id], spec.prompter.target(by_id[problem_id]))


def reference_examples(problems: Sequence[Problem], *, prompter: PrompterLike) -> list[Example]:
    """Return the reference solutions of solved problems as examples, in their order."""
    return [
        Example(prompter.prompt_ids(prompter.render(p)), prompter.completion_ids(prompter.target(p))) for p in problems
    ]


def preferences(con: duckdb.DuckDBPyConnection, spec: CorpusSpec, *, round_index: int) -> list[Preference]:
    """Build what a round's objective compares, in a fixed order."""
    found = []
    for places in ranked(con, spec, round_index=round_index):
        examples = [example_of(row, prompter=spec.prompter, stops=spec.origin.stops) for _, row in places]
        completions = tuple(example.completion_ids for example in examples)
        found.append(Preference(examples[0].prompt_ids, completions, tuple(score for score, _ in places)))
    return found


def ranked(con: duckdb.DuckDBPyConnection, spec: CorpusSpec, *, round_index: int) -> Iterator[list[tuple[float, Row]]]:
    """Yield the places of one preference after the other, best first, with their scores.

    A place without a sample is the reference solution.
    """
    query = (
        f"select r.preference, r.problem_id, r.score, r.sample_id, {_OF_SAMPLE}"
        f" from preferences r left join samples s using (sample_id) where r.in_round = {int(round_index)}"
        " order by r.preference, r.place"
    )
    places = (place for batch in batches(con, query) for place in batch)
    for _, preference in groupby(places, key=lambda place: place["preference"]):
        yield [(float(place["score"]), _placed(place, spec)) for place in preference]


def _placed(place: Mapping[str, Any], spec: CorpusSpec) -> Row:
    problem = spec.problems[place["problem_id"]]
    if place["text"] is None:
        return Row("reference", problem, spec.prompter.target(problem))
    return _trace(place, problem, spec.origin)


def _selected(con: duckdb.DuckDBPyConnection, spec: CorpusSpec, *, round_index: int) -> Iterator[Row]:
    query = (
        f"select s.problem_id, s.sample_id, {_OF_SAMPLE}, sel.weight"
        " from selection sel join samples s using (sample_id)"
        f" where sel.in_round = {int(round_index)} and sel.is_selected order by s.problem_id, s.sample_id"
    )
    for batch in batches(con, query):
        yield from (_trace(found, spec.problems[found["problem_id"]], spec.origin, found["weight"]) for found in batch)


def _trace(found: Mapping[str, Any], problem: Problem, origin: SampleOrigin, weight: float = 1.0) -> Row:
    is_own = found["model"] not in origin.foreign
    compares = origin.is_one_prompt and is_own and not found["hinted"]
    return Row(
        "trace",
        problem,
        found["text"],
        origin.own_ids(found["model"], found["token_ids"], found["ids_are_sampled"]),
        found["sample_id"],
        weight,
        found["finish_reason"],
        found["prompt_sha"] if compares else None,
    )


def example_of(row: Row, *, prompter: PrompterLike, stops: Stops | None) -> Example:
    """Return the tokens of a row.

    Raises:
        RunFailure: The prompt is no longer the one that the trace was sampled with.
    """
    text = prompter.render(row.problem)
    if row.prompt_sha not in (None, digest(text)):
        raise RunFailure(
            f"problem {row.problem.id}: its prompt is rendered differently now than when sample {row.sample_id} was"
            " drawn: the model's chat template, or the version of transformers, has changed. Restore it, or begin"
            " another run"
        )
    return Example(prompter.prompt_ids(text), completion_of(row, prompter, stops), row.weight)


def completion_of(row: Row, prompter: PrompterLike, stops: Stops | None) -> tuple[int, ...]:
    """Return the very tokens that were sampled, where they are this model's; else those of the text."""
    return prompter.completion_ids(row.text, row.token_ids, finish_reason=row.finish_reason, stops=stops)


def row_of(trace: Trace, origin: SampleOrigin) -> Row:
    """Return the row that a trace is trained on as, whichever prompt it was sampled with."""
    sample = trace.sample
    ids = origin.own_ids(sample.model, sample.token_ids, sample.ids_are_sampled)
    return Row("trace", trace.problem, sample.text, ids, finish_reason=sample.finish_reason)


def _draw(ids: Sequence[str], count: int, *key: object) -> list[str]:
    """Take `count` ids in an order that depends on the key alone, not on the order given."""
    return sorted(ids, key=lambda pid: digest(*key, pid))[:count]


def example_from_text(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    completion: str,
    *,
    weight: float = 1.0,
    ends: Ends | None = None,
    is_chat: bool = False,
) -> Example:
    """Tokenise a rendered prompt (chat template and special tokens are in it already) and its completion.

    The two are tokenised apart, as sampling does, so that no token spans the seam. The completion ends with the end
    token of the chat template where `is_chat`, else with the tokenizer's end-of-sequence token, exactly once; `ends`
    are the model's end tokens, those that the tokenizer names unless given.
    """
    known = ends_by(tokenizer) if ends is None else ends
    return Example(text_ids(tokenizer, prompt), ended_text_ids(tokenizer, completion, known, is_chat=is_chat), weight)
