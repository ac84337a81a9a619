"""`UnitJob`: a unit of the plan with its model, its decoding and its rendered prompts, ready to travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from star_rft.errors import RunError
from star_rft.sampling.plan import Unit
from star_rft.sampling.policy import Source
from star_rft.types import Decoding, Model, Problem, Request, Split

Problems = Mapping[Split, Mapping[str, Problem]]


@dataclass(frozen=True, slots=True)
class UnitJob:
    """Everything that is needed to draw, verify and store a unit, on any machine: it can be pickled.

    `model` is the one to load and `model_id` its fingerprint in the ledger; `problems` are those of the requests, by
    id. `stage` is the name of this work in the timeline.
    """

    unit: Unit
    round: int
    stage: str
    model: Model
    model_id: str
    decoding: Decoding
    requests: tuple[Request, ...]
    problems: Mapping[str, Problem]
    is_hinted: bool = False


def decoding_of(unit: Unit, sources: Sequence[Source]) -> Decoding:
    """Return the decoding that a unit was planned with.

    Raises:
        RunError: No source has that decoding: the engine, or its version, is another one now.
    """
    decodings = {decoding.id: decoding for source in sources for decoding in source.decodings}
    if unit.decode_id not in decodings:
        now = next(iter(decodings.values()))
        raise RunError(
            f"unit {unit.name} was planned for another engine than {now.backend} {now.backend_version}, whose samples"
            " would not mix: install the version that config.yaml names, or begin another run"
        )
    return decodings[unit.decode_id]


def jobs_of(
    units: Sequence[Unit],
    sources: Sequence[Source],
    *,
    round_index: int,
    stage: str,
    policy: Model,
    model_id: Callable[[Model], str],
    problems: Problems,
) -> Iterator[UnitJob]:
    """Yield the job of each unit. Prompts are rendered unit by unit, because a plan may hold millions of requests."""
    by_name = {source.name: source for source in sources}
    for unit in units:
        source = by_name[unit.source]
        model = source.model or policy
        requests = requests_of(unit, source, problems[unit.split])
        yield UnitJob(
            unit=unit,
            round=round_index,
            stage=stage,
            model=model,
            model_id=model_id(model),
            decoding=decoding_of(unit, sources),
            requests=requests,
            problems={request.problem_id: problems[unit.split][request.problem_id] for request in requests},
            is_hinted=source.is_hinted,
        )


def requests_of(unit: Unit, source: Source, problems: Mapping[str, Problem]) -> tuple[Request, ...]:
    """Return a unit's requests, in its order, with rendered prompts.

    Equal prompts are tokenised once and are one object, so that a unit of many samples a problem stays small.
    """
    found, prompts = list[Request](), dict[str, tuple[str, tuple[int, ...] | None]]()
    for planned in unit.requests():
        text = source.render(problems[planned.problem_id], planned.sample_index)
        if text not in prompts:
            prompts[text] = text, None if source.encode is None else source.encode(text)
        prompt, ids = prompts[text]
        found.append(Request(planned.problem_id, planned.sample_index, prompt, planned.seed, ids))
    return tuple(found)
