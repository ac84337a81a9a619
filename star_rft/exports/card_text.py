"""The text blocks of cards, from Markdown templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from star_rft import recipes
from star_rft.exports.card_data import CardConfig, HeldOutFigures, data_words, decision
from star_rft.types import Interval, RoundReport

CONTAMINATION = {
    "stop": "No training problem holds a held-out one (exact, normalised, by 13-grams): the run would not have begun.",
    "drop": "Training problems that hold a held-out one (exact, normalised, by 13-grams) were left out.",
    "allow": "Whether training problems hold held-out ones was not checked.",
}


def how_it_was_made(told: CardConfig, judges: Sequence[str]) -> str:
    config = told.config
    row = recipes.row(config)
    from_scratch = ", its architecture with random weights" if config["model"]["from_scratch"] else ""
    others = [name for name in config["sample"]["models"] if name != "policy"]
    paper = f" ({config['about']['paper']})" if config.get("about") else ""
    lines = [
        f"**Recipe**: {row.title}{paper}." if config.get("about") else "",
        f"**Model**: {code(config['model']['name'])}{from_scratch}.",
        f"**Problems**: train {data_words(config, 'train')}; held out: dev {data_words(config, 'dev')},"
        f" test {data_words(config, 'test')}. {CONTAMINATION[config['data']['contamination']]}",
        f"**Sampling**: {row.sampling}; at most {config['sample']['max_tokens']:,} tokens; by"
        f" {' and '.join(['the model in training', *map(code, others)])}.",
        f"**Verification**: by program, {' and '.join(judges) or code(config['verifier']['name'])}. A verdict is"
        " correct, incorrect, or unknown where the verifier itself failed; unknown is never trained on.",
        f"**Selection**: {row.selection}.",
        f"**Training**: {row.training}.",
    ]
    return bullets(line for line in lines if line)


def judged_by(config: Mapping[str, Any]) -> str:
    """Say of a selected completion why it is one, as the end of a sentence."""
    scorer = config["scorer"]
    if scorer and scorer["decides"]:
        return f"that the scorer {code(scorer['name'])} chose"
    return "that a program found correct" if "correct" in config["select"]["rules"] else "that its rules selected"


def rounds_table(rounds: Sequence[int], reports: Mapping[int, RoundReport], began: Mapping[int, str]) -> str:
    """Return a row a round: what was sampled and selected, and what the gate made of the model."""
    columns = [
        "round",
        "began from",
        "samples",
        "correct",
        "unknown",
        "selected",
        "reference_solutions",
        "anchor",
        "the gate",
    ]
    rows = []
    for number in rounds:
        report = reports.get(number)
        names = ("samples", "correct", "unknown", "selected", "reference_solutions", "anchor")
        counts = [f"{getattr(report, name):,}" if report else "" for name in names]
        rows.append([str(number), began.get(number, ""), *counts, decision(report)])
    return table(columns, rows)


def dropped_table(rounds: Sequence[int], reports: Mapping[int, RoundReport]) -> str:
    """Return why the traces that a round could have trained on were left out, a column a round; "" where none was."""
    found = {number: reports[number].dropped for number in rounds if number in reports}
    reasons = sorted({why for dropped in found.values() for why in dropped})
    if not reasons:
        return ""
    rows = [[why, *(f"{dropped.get(why, 0):,}" for dropped in found.values())] for why in reasons]
    return table(["left out because", *(f"round {number}" for number in found)], rows)


def held_out_table(found: HeldOutFigures) -> str:
    if found.base is None:
        return table(["", "value"], [[figure.name, interval(figure.after)] for figure in found.figures])
    rows = [[f.name, interval(f.before), interval(f.after), change(f.change)] for f in found.figures]
    return table(["", f"round {found.base}", "this round", "change"], rows)


def held_out_words(found: HeldOutFigures, config: Mapping[str, Any]) -> str:
    what = "what the gate decides on" if found.split == "dev" else "which decided nothing"
    temperature = config["eval"]["temperature"]
    return (
        f"`{found.split}` ({what}): {counted(found.problems, 'problem')}, {counted(found.n, 'sample')} each at"
        f" temperature {temperature:g}, with 95% intervals by bootstrap over problems; a change is paired by problem."
    )


def limits(told: CardConfig, reports: Sequence[RoundReport]) -> str:
    """Say what the figures do not show; `reports` are those of the rounds in question."""
    is_held_out = told.config["select"]["label_errors"] == "quarantine"
    suspects = "are left out of training" if is_held_out else "are not left out: wrong ones may have been trained on"
    counts = [f"{r.classes.get('label_error', 0):,} in round {r.round}" for r in reports if r.classes]
    lines = [
        _what_was_checked(told.config)
        + "".join(f" {_doubts(report)}" for report in reports if report.invalid_steps_share is not None),
        "**What the model could not solve is missing.**"
        + "".join(
            f" Round {r.round} had no correct sample for {r.unsolved:,} of {r.problems_sampled:,} problems."
            for r in reports
            if r.unsolved is not None
        ),
        f"**Suspected label errors**, which the samples contradict, {suspects}"
        + (f": {', '.join(counts)}." if counts else "."),
        "**Seen before?** Whether the base model knew the problems, the held-out ones too, is not known.",
        "**Written by a model.** It was checked for right answers alone: not for bias, harm or private data.",
    ]
    return bullets(lines)


def _what_was_checked(config: Mapping[str, Any]) -> str:
    if config["scorer"] and config["scorer"]["decides"]:
        return "**A score is not a right answer.** A model's scores decided what was selected, no program's verdicts."
    return "**A right answer is not right reasoning.** A program checked the answers, not the ways to them."


def _doubts(report: RoundReport) -> str:
    wrong = f"In round {report.round}, {report.invalid_steps_share:.1%} of the correct samples state a false equation"
    flagged = report.flagged.get("traces", 0)
    if not flagged:
        return f"{wrong}."
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.flagged.items() if kind != "traces")
    return f"{wrong}, and {flagged:,} of the {report.selected:,} selected traces may be right by luck ({kinds})."


TEMPLATES = Path(__file__).parent / "templates"
HOME = "https://github.com/star-rft/star-rft"


def card(template: str, header: Mapping[str, Any], **facts: Any) -> str:
    """Render a card; what the header has no value for is left out of it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["fenced"] = fenced
    body = environment.get_template(template).render(home=HOME, **facts)
    known = {key: value for key, value in header.items() if value is not None}
    text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n{body.strip()}\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar or a line break in a cell would be read as its end."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def fenced(text: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def code(text: str) -> str:
    """Return a name in code type, whatever it holds."""
    runs = re.findall("`+", text)
    fence = "`" * (max(map(len, runs), default=0) + 1)
    return f"{fence} {text} {fence}" if runs else f"`{text}`"


def interval(value: Interval | None) -> str:
    return "" if value is None else f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def change(value: Interval | None) -> str:
    return "" if value is None else f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def counted(number: int, what: str) -> str:
    """Return "1 round", "1,000 rounds"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
