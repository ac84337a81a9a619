"""From what is known to what is written: prompt, sizes, notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from star_rft.starting.answers import Proposed, kind_for
from star_rft.starting.loading import grouping
from star_rft.starting.model import TINY, Device, ModelFacts, longest_prompt
from star_rft.starting.prompting import prompting_for
from star_rft.starting.sizes import sizes_for
from star_rft.starting.steps import Data, Split, copy_path, has_right_solutions
from star_rft.starting.writing import Plan


def planned(
    data: Data,
    splits: Mapping[str, Split],
    *,
    model: ModelFacts,
    device: Callable[[], Device],
    verifier: str,
    proposed: Proposed,
    contaminated: int,
    name: str,
    file: Path,
) -> Plan:
    """Return all that the config is written from. Raises UserError where the prompts do not fit the model."""
    kind = kind_for(verifier, proposed)
    prompting = prompting_for(model, kind)
    prompts = [problem.prompt for split in splits.values() for problem in split.problems]
    longest = longest_prompt(model, prompts, template=prompting.template)
    sizes = sizes_for(model, device, splits["train"].problems, longest)
    sections = {role: data.section(split, role, copy_path(data, split, file)) for role, split in splits.items()}
    if sizes.held_out is not None:
        for role in sections.keys() & {"dev", "test"}:
            if len(splits[role].problems) > sizes.held_out:
                sections[role] |= {"limit": sizes.held_out, "shuffle_seed": 0}
    held_out = min(len(splits["dev"].problems), sizes.held_out or len(splits["dev"].problems))
    return Plan(
        name=name,
        file=str(file),
        model=model,
        train=sections["train"],
        dev=sections["dev"],
        test=sections.get("test"),
        train_count=len(splits["train"].problems) - contaminated,
        dev_count=held_out,
        contaminated=contaminated,
        origin=_origin(data),
        verifier=verifier,
        verifier_why=proposed.why,
        kind=kind,
        prompting=prompting,
        sizes=sizes,
        # The tiny model has seen enough of its own kind of problems, and learns no other from so few.
        has_gold=model.name != TINY and has_right_solutions(splits["train"].problems, verifier),
        group_by=grouping(splits["dev"].problems),
    )


def _origin(data: Data) -> str:
    """Say what a problem is made of."""
    conversion = data.meaning.conversion
    if conversion is not None:
        return f"Made by star-rft init from {data.source.name}: {conversion.note}."
    reasons = {choice.why for choice in data.meaning.choices}
    if len(reasons) == 1:
        columns = "; ".join(f"{choice.field}: {choice.column}" for choice in data.meaning.choices)
        return f"{columns[:1].upper()}{columns[1:]} ({reasons.pop()})."
    return " ".join(f"{choice.field.capitalize()}: {choice.column} ({choice.why})." for choice in data.meaning.choices)
