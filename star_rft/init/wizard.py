"""The steps of `star-rft init`: examine data and machine, propose, ask, and collect what the config is written from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import verifiers
from star_rft.data import DataError, overlaps
from star_rft.data.load import split_position
from star_rft.data.split import boundary, wanted
from star_rft.errors import UserError
from star_rft.init import infer, verifier
from star_rft.init.columns import Values, columns_of, one_line
from star_rft.init.dialogue import Dialogue
from star_rft.init.infer import ColumnRoles
from star_rft.init.sizing import TINY, Device, ModelFacts, longest_prompt, sizes_for
from star_rft.init.source import (
    DataSource,
    LoadedProblems,
    converted,
    find_source,
    first_rows,
    grouping,
    held_out_in,
    load_generated,
    load_problems,
)
from star_rft.init.template import Plan, prompting_for
from star_rft.init.verifier import VerifierProposal, kind_for
from star_rft.types import Problem

SHOWN = 3  # examples of problems
EXAMPLE_WIDTH = 46  # characters
SOLUTIONS_TRIED, SOLUTIONS_RIGHT = 10, 0.8  # reference solutions that are verified, and the share that must be correct
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_GENERIC = "train training data dataset all problems questions items rows examples input test dev"
# Names of files that say nothing about what is in them.
GENERIC = frozenset(_GENERIC.split())


@dataclass(frozen=True, slots=True)
class Split:
    """A split of the data: its source, its problems, and further keys of its section in the config."""

    source: DataSource
    problems: Sequence[Problem]
    more: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Data:
    """The training data, and how its rows become problems."""

    source: DataSource
    meaning: ColumnRoles
    loaded: LoadedProblems

    @property
    def problems(self) -> list[Problem]:
        """Return all problems that were read."""
        return self.loaded.problems

    def section(self, split: Split, role: str, path: str | None = None) -> dict[str, Any]:
        """Return the section `data.ROLE` of a split; `path` is the file of its converted rows, if there is one."""
        named = {"source": path} if path is not None else split.source.section(role)
        reading = {} if split.source.is_generated else self.meaning.reading()
        return {**named, **reading, **split.more}


def understood(talk: Dialogue, source: DataSource, given: Mapping[str, str]) -> Data:
    """Show the columns of the data, agree on their roles with the user, load the problems and show some.

    `given` are the columns that the user has named, by field.
    """
    if source.is_generated:
        if given:
            raise DataError(f"{source.name} is built in and has no columns to name: leave out --column")
        generated = ColumnRoles((), preset="gsm8k")
        data = Data(source, generated, load_generated(source, "train"))
        talk.say(f"{source.name}: built into this package; {len(data.problems):,} problems of it.")
    else:
        rows = [row.values for row in first_rows(source)]
        talk.say(f"{source.name}, its columns and the first value of each:")
        talk.table(("column", "example"), [(c.path, one_line(c.example, EXAMPLE_WIDTH)) for c in columns_of(rows)])
        data = _agreed(talk, source, rows, given)
    _show_examples(talk, data)
    return data


def _agreed(talk: Dialogue, source: DataSource, rows: Sequence[Values], given: Mapping[str, str]) -> Data:
    while True:
        try:
            found = infer.propose(rows, given)
        except DataError as error:
            if not talk.asks:
                raise
            talk.say(str(error))
            given = _asked_columns(talk, rows, {})
            continue
        talk.table(("is read as", "column", "because"), [(c.field, c.column, c.why) for c in found.choices])
        if found.conversion is not None:
            talk.say(f"A copy of the data will be written: {found.conversion.note}.")
        if left := infer.unused(rows, found):
            talk.say(f"Not part of a problem: {', '.join(left)}.")
        if talk.agrees("Is that right?"):
            return _all_rows(talk, source, found)
        given = _asked_columns(talk, rows, {choice.field: choice.column for choice in found.choices})


def _asked_columns(talk: Dialogue, rows: Sequence[Values], proposed: Mapping[str, str]) -> dict[str, str]:
    """Ask for the column of each field; `infer.NONE` leaves the solution out."""
    paths = [column.path for column in columns_of(rows)]

    def one_of_them(answer: str) -> str:
        if answer not in [*paths, infer.NONE]:
            raise UserError(f"no column {answer!r}; there are {', '.join(paths)}")
        return answer

    given: dict[str, str] = {}
    for field, text in (("prompt", "question"), ("reference", "answer"), ("solution", "worked solution, - for none")):
        proposal = proposed.get(field, infer.NONE if field == "solution" else None)
        proposal = proposal if proposal in [*paths, infer.NONE] else None
        asked = f"Which column is the {text}?"
        given[field] = talk.settle(asked, "--column", given=None, proposal=proposal, check=one_of_them)
    return given


def _all_rows(talk: Dialogue, source: DataSource, found: ColumnRoles) -> Data:
    """Load the problems of all rows, without reference solutions where some rows have none."""
    with talk.busy(f"Reading {source.name}"):
        try:
            loaded = load_problems(source, found)
        except DataError as error:
            if "the solution" not in str(error) or "solution" not in (found.columns or {}):
                raise
            talk.say(f"Worked solutions are left out, because some rows have none ({error}).")
            found = found.without("solution")
            loaded = load_problems(source, found)
    counts = f"Read {loaded.rows:,} rows"
    if loaded.duplicates:
        counts += f", of which {loaded.duplicates:,} say the same as another: {len(loaded.problems):,} problems"
    talk.say(f"{counts}.")
    if loaded.contradictions:
        talk.say(f"Problems with another's question and a different answer: {loaded.contradictions:,}. Look at them.")
    return Data(source, found, loaded)


def _show_examples(talk: Dialogue, data: Data) -> None:
    rows = [
        (one_line(problem.prompt, EXAMPLE_WIDTH), one_line(verifier.answer_of(problem.reference), EXAMPLE_WIDTH // 2))
        for problem in data.problems[:SHOWN]
    ]
    talk.table(("question", "answer that is checked"), rows)


def chosen_verifier(
    talk: Dialogue, problems: Sequence[Problem], given: str | None
) -> tuple[str, verifier.VerifierProposal]:
    """Return the name of the verifier, and the proposal with its reason; `given` is the name that the user gave."""
    references = [problem.reference for problem in problems]
    proposed = verifier.propose(references)
    talk.say(f"Verifier: {proposed.name or 'none'} is proposed, because {proposed.why}.")

    def checked(name: str) -> tuple[str, int]:
        check, unread = verifier.check(name, references)
        return check.name, unread

    name, unread = talk.settle("Verifier", "--verifier", given=given, proposal=proposed.name, check=checked)
    if unread:
        talk.say(f"{unread:,} references are nothing that {name} can read: whatever answers them will be unknown.")
    if name != proposed.name:
        proposed = replace(proposed, why="chosen by you")
    return name, proposed


def _has_right_solutions(problems: Sequence[Problem], verifier: str) -> bool:
    """Return whether all problems have reference solutions, and the verifier finds most of the first ones correct."""
    if any(problem.solution is None for problem in problems):
        return False
    pairs = [(problem.solution or "", problem.reference) for problem in problems[:SOLUTIONS_TRIED]]
    verdicts = verifiers.verify_many(verifier, pairs, workers=1)
    return sum(verdict.is_correct for verdict in verdicts) >= SOLUTIONS_RIGHT * len(verdicts)


def held_out(talk: Dialogue, data: Data, dev: str | None, hold_out: float | None) -> dict[str, Split]:
    """Return the splits train, dev and perhaps test.

    Args:
        talk: Shows what is held out.
        data: The training data.
        dev: Held-out set that the user names; None: the dev split of the data set, else a part of the data by hash.
        hold_out: How much of the data to hold out, see `data.split.wanted`.
    """
    if dev is not None and hold_out is not None:
        raise UserError("--dev and --hold-out: give one of them, a held-out set or how much of the data to hold out")
    beside = held_out_in(data.source) if dev is None else {"dev": _named_dev(dev)}
    if data.meaning.conversion is not None:
        beside.pop("test", None)  # converted splits are copied: train and dev are enough
    splits = {
        role: Split(source, _problems(source, role, data), _generated(source, role)) for role, source in beside.items()
    }
    if "dev" in splits and hold_out is None:
        train = Split(data.source, data.problems, _generated(data.source, "train"))
        talk.say(f"Held out: {len(splits['dev'].problems):,} problems of {splits['dev'].source.name}.")
        return {"train": train, **splits}
    splits.pop("dev", None)
    count = wanted(len(data.problems), hold_out)
    cut = boundary(data.problems, count)
    parts = {"train": (0.0, cut), "dev": (cut, 1.0)}
    for role, (low, high) in parts.items():
        own = [p for p in data.problems if low <= split_position(p.prompt) < high]
        splits[role] = Split(data.source, own, {**_generated(data.source, "train"), "share": [low, high]})
    talk.say(
        f"Held out: {len(splits['dev'].problems):,} of {len(data.problems):,} problems, by a hash of each question "
        f"(--hold-out changes how many, --dev names a set of its own)."
    )
    return splits


def contaminated(talk: Dialogue, splits: Mapping[str, Split]) -> int:
    """Return how many train problems hold a held-out one; UserError where all do."""
    others = [problem for role, split in splits.items() if role != "train" for problem in split.problems]
    found = len(overlaps(splits["train"].problems, others).train_ids)
    if found == len(splits["train"].problems):
        raise UserError(f"all {found:,} train problems are in the held-out set too: name another one with --dev")
    if found:
        talk.say(f"Train problems that say nearly the same as a held-out one, and will be left out: {found:,}.")
    return found


def _named_dev(name: str) -> DataSource:
    """Return the held-out set that a user names: a file, or the dev split, else the test split, of a data set."""
    source = find_source(name) if not Path(name).is_dir() else None
    if source is not None and source.split is None:
        return source
    source = DataSource(name, "train")
    beside = held_out_in(source)
    if not beside:
        raise DataError(f"--dev {name}: there is no split dev, validation or test in it; name a file")
    return beside.get("dev") or beside["test"]


def _problems(source: DataSource, role: str, data: Data) -> list[Problem]:
    if source.is_generated:
        return load_generated(source, role).problems
    return load_problems(source, data.meaning).problems


def _generated(source: DataSource, role: str) -> dict[str, Any]:
    from star_rft.init.source import GENERATED_ROWS

    return {"limit": GENERATED_ROWS[role]} if source.is_generated else {}


def copies(data: Data, splits: Mapping[str, Split], base: Path) -> dict[Path, str]:
    """Return the content of the files of converted rows, by path; none where there is no conversion."""
    if data.meaning.conversion is None:
        return {}
    files = {_copy_path(base, split.source, data.source): split.source for split in splits.values()}
    return {path: converted(source, data.meaning) for path, source in files.items()}


def _copy_path(base: Path, source: DataSource, train: DataSource) -> Path:
    return base.with_name(f"{base.stem}.{'problems' if source == train else 'dev'}.jsonl")


def name_for(source: DataSource) -> str:
    """Return a name for the run: the last part of the data's path that is not a generic word such as "train"."""
    parts = [part for part in Path(source.name).parts if part not in ("/", "..", ".", "~")]
    for part in reversed(parts):
        cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", part.partition(".")[0]).strip("_-").lower()
        if cleaned and cleaned not in GENERIC and NAME.fullmatch(cleaned):
            return cleaned
    return "mine"


def check_name(name: str) -> str:
    """Return a name of a run; UserError where it is none."""
    if not NAME.fullmatch(name):
        raise UserError(f"name {name!r}: must be letters, digits, '_', '-' and '.', and begin with a letter or digit")
    return name


def planned(
    data: Data,
    splits: Mapping[str, Split],
    *,
    model: ModelFacts,
    device: Callable[[], Device],
    verifier: str,
    proposed: VerifierProposal,
    contaminated: int,
    name: str,
    file: Path,
) -> Plan:
    """Return all that the config is written from; UserError where the prompts do not fit into the model."""
    kind = kind_for(verifier, proposed)
    prompting = prompting_for(model, kind)
    prompts = [problem.prompt for split in splits.values() for problem in split.problems]
    longest = longest_prompt(model, prompts, template=prompting.template)
    sizes = sizes_for(model, device, splits["train"].problems, longest)
    is_converted = data.meaning.conversion is not None
    paths = {role: str(_copy_path(file, split.source, data.source)) for role, split in splits.items()}
    sections = {role: data.section(part, role, paths[role] if is_converted else None) for role, part in splits.items()}
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
        # `tiny` was pretrained on its kind of problems, and learns no other kind from so few.
        has_reference_solutions=model.name != TINY and _has_right_solutions(splits["train"].problems, verifier),
        group_by=grouping(splits["dev"].problems),
    )


def _origin(data: Data) -> str:
    """Return how problems are made of the data, in words."""
    conversion = data.meaning.conversion
    if conversion is not None:
        return f"Made by star-rft init from {data.source.name}: {conversion.note}."
    reasons = {choice.why for choice in data.meaning.choices}
    if len(reasons) == 1:
        columns = "; ".join(f"{choice.field}: {choice.column}" for choice in data.meaning.choices)
        return f"{columns[:1].upper()}{columns[1:]} ({reasons.pop()})."
    return " ".join(f"{choice.field.capitalize()}: {choice.column} ({choice.why})." for choice in data.meaning.choices)
