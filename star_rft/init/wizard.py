"""The steps of `star-rft init`: look at data and machine, propose, ask, write the config."""

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

SHOWN = 3
EXAMPLE_WIDTH = 46
SOLUTIONS_TRIED, SOLUTIONS_RIGHT = 10, 0.8
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_GENERIC = "train training data dataset all problems questions items rows examples input test dev"
# Names of files that say nothing about what is in them.
GENERIC = frozenset(_GENERIC.split())


@dataclass(frozen=True, slots=True)
class Split:
    """A part of the data: where it comes from, how many problems it has, and more keys of its section."""

    source: DataSource
    problems: Sequence[Problem]
    more: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Data:
    """The training data as it was understood."""

    source: DataSource
    meaning: ColumnRoles
    loaded: LoadedProblems

    @property
    def problems(self) -> list[Problem]:
        return self.loaded.problems

    def section(self, split: Split, role: str, path: str | None = None) -> dict[str, Any]:
        """Return a section of `data`; `path` is where converted rows will lie."""
        named = {"source": path} if path is not None else split.source.section(role)
        reading = {} if split.source.is_generated else self.meaning.reading()
        return {**named, **reading, **split.more}


def understood(talk: Dialogue, source: DataSource, given: Mapping[str, str]) -> Data:
    """Show the columns, propose what they mean, read everything, and show what became of it."""
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
    """Ask for each field; a minus leaves out what a problem can do without."""
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
    """Read everything; reference solutions that some rows lack are done without."""
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
    """Return the verifier's name, and what was proposed with its reason."""
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


def has_right_solutions(problems: Sequence[Problem], verifier: str) -> bool:
    """Whether all problems have reference solutions, and the verifier calls most of those correct that it is shown."""
    if any(problem.solution is None for problem in problems):
        return False
    pairs = [(problem.solution or "", problem.reference) for problem in problems[:SOLUTIONS_TRIED]]
    verdicts = verifiers.verify_many(verifier, pairs, workers=1)
    return sum(verdict.is_correct for verdict in verdicts) >= SOLUTIONS_RIGHT * len(verdicts)


def held_out(talk: Dialogue, data: Data, dev: str | None, hold_out: float | None) -> dict[str, Split]:
    """Return train, dev and perhaps test: what the user names, what stands beside the data, or a part by hash."""
    if dev is not None and hold_out is not None:
        raise UserError("--dev and --hold-out: give one of them, a held-out set or how much of the data to hold out")
    beside = held_out_in(data.source) if dev is None else {"dev": _named_dev(dev)}
    if data.meaning.conversion is not None:
        beside.pop("test", None)  # a third copy is more than anybody asked for
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
    """Return how many train problems are held-out ones or nearly; raise UserError if no other is left."""
    others = [problem for role, split in splits.items() if role != "train" for problem in split.problems]
    found = len(overlaps(splits["train"].problems, others).train_ids)
    if found == len(splits["train"].problems):
        raise UserError(f"all {found:,} train problems are in the held-out set too: name another one with --dev")
    if found:
        talk.say(f"Train problems that say nearly the same as a held-out one, and will be left out: {found:,}.")
    return found


def _named_dev(name: str) -> DataSource:
    """Return a held-out set: a file, or the split of a folder or hub name that is for deciding, or its test split."""
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
    """Return the converted data by the path that each file will have; nothing where no conversion is needed."""
    if data.meaning.conversion is None:
        return {}
    files = {_copy_path(base, split.source, data.source): split.source for split in splits.values()}
    return {path: converted(source, data.meaning) for path, source in files.items()}


def copy_path(data: Data, split: Split, base: Path) -> str | None:
    return None if data.meaning.conversion is None else str(_copy_path(base, split.source, data.source))


def _copy_path(base: Path, source: DataSource, train: DataSource) -> Path:
    return base.with_name(f"{base.stem}.{'problems' if source == train else 'dev'}.jsonl")


def name_for(source: DataSource) -> str:
    """Return a name for the run, after the data."""
    parts = [part for part in Path(source.name).parts if part not in ("/", "..", ".", "~")]
    for part in reversed(parts):
        cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", part.partition(".")[0]).strip("_-").lower()
        if cleaned and cleaned not in GENERIC and NAME.fullmatch(cleaned):
            return cleaned
    return "mine"


def check_name(name: str) -> str:
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
        has_reference_solutions=model.name != TINY and has_right_solutions(splits["train"].problems, verifier),
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
