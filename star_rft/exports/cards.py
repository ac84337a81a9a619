"""Data cards of exports, and model cards of rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_rft.exports import card_data, card_text
from star_rft.exports.card_data import CardConfig, HeldOutFigures, hub_name
from star_rft.exports.card_text import bullets, card, code, counted, table
from star_rft.exports.loading_snippets import Snippet
from star_rft.files import write_text
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.types import RoundReport

if TYPE_CHECKING:
    import duckdb

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))


@dataclass(frozen=True, slots=True)
class File:
    """A file of an export. `columns` are its columns and what they mean; `config` is its name on the hub, if any."""

    name: str
    rows: int
    said: str
    columns: Mapping[str, str]
    config: str | None = None


@dataclass(frozen=True, slots=True)
class ExportCard:
    """What an export is, for its card: `noun` says what its rows are, `elsewhere` how other trainers get theirs."""

    rounds: Sequence[int]
    noun: str
    lead: str
    files: Sequence[File]
    snippets: Sequence[Snippet]
    elsewhere: str
    command: str
    licence: str


def data_card(folder: RunFolder, con: duckdb.DuckDBPyConnection, told: CardConfig, exported: ExportCard) -> str:
    config, rounds = told.config, exported.rounds
    reports = card_data.read_reports(folder, rounds)
    began = {number: card_data.started_from(folder, config, number) for number in rounds}
    which = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}"
    title = f"{exported.noun} of {which} of {config['name']}"
    return card(
        "data_card.md",
        _data_header(title, config, exported),
        title=title,
        lead=exported.lead,
        files=table(["file", "rows"], [[f"`{file.name}`", f"{file.rows:,}"] for file in exported.files]),
        contents=[(file.name, file.said, _columns(file.columns)) for file in exported.files],
        told=told,
        made=card_text.how_it_was_made(told, card_data.verifiers_of(con, rounds)),
        rounds=card_text.rounds_table(rounds, reports, began),
        lineage=_lineage(folder, config, rounds, reports),
        dropped=card_text.dropped_table(rounds, reports),
        held_out=_held_out(folder, config, rounds),
        limits=card_text.limits(told, list(reports.values())),
        snippets=exported.snippets,
        elsewhere=exported.elsewhere,
        command=exported.command,
        licence=exported.licence,
    )


def _data_header(title: str, config: Mapping[str, Any], exported: ExportCard) -> dict[str, Any]:
    configs: list[dict[str, Any]] = [
        {"config_name": file.config, "data_files": [{"split": "train", "path": file.name}]}
        for file in exported.files
        if file.config
    ]
    if configs:
        configs[0]["default"] = True
    sources = [config["data"]["train"]["source"]] if config["data"]["train"] else []
    names = [name for source in sources for name in (source if isinstance(source, list) else [source])]
    return {
        "license": exported.licence,
        "pretty_name": title,
        "task_categories": ["text-generation"],
        "size_categories": [_size(max(file.rows for file in exported.files))],
        "source_datasets": [name for name in names if "/" in name and hub_name(name)] or None,
        "tags": ["star-rft", "reasoning", "rejection-sampling", "synthetic"],
        "configs": configs or None,
    }


def _size(rows: int) -> str:
    return next((name for bound, name in SIZES if rows < bound), "10M<n<100M")


def _columns(columns: Mapping[str, str]) -> str:
    return table(["column", "what it is"], [[f"`{name}`", said] for name, said in columns.items()])


def _lineage(
    folder: RunFolder, config: Mapping[str, Any], rounds: Sequence[int], reports: Mapping[int, RoundReport]
) -> str:
    """Say in which rounds the model of the last of these rounds was trained, where it is there."""
    last, lineage = rounds[-1], card_data.lineage(folder, config)
    if last not in reports:
        return ""
    led = sorted(lineage.rounds(last))
    warm = " and in the warm start" if lineage.warms_up and lineage.start != "base" else ""
    listed = f"{counted(len(led), 'round')}, {', '.join(map(str, led))}" if len(led) > 1 else f"round {last} alone"
    return f"The model of round {last} was trained in {listed}{warm}."


def _held_out(folder: RunFolder, config: Mapping[str, Any], rounds: Sequence[int]) -> list[tuple[str, str]]:
    """Return the figures of the last evaluated one of these rounds."""
    for number in reversed(rounds):
        splits = [card_data.held_out(folder, number, split=split, ks=config["eval"]["k"]) for split in ("dev", "test")]
        if found := [split for split in splits if split is not None]:
            words = f"Round {number} on "
            return [(words + card_text.held_out_words(it, config), card_text.held_out_table(it)) for it in found]
    return []


CARD = "README.md"


def write_model_card(folder: RunFolder, told: CardConfig, report: RoundReport) -> None:
    """Write README.md into the folder of the model that a round made; round 0 made one only by a warm start.

    The round's metrics.json need not be there yet. Neither a model's fingerprint nor its loading sees the file.
    """
    place = folder.checkpoint(report.round) if report.round else folder.warm_start
    if place.exists():
        write_text(place / CARD, model_card(folder, Ledger(folder.path).connect(), told, report))


def model_card(folder: RunFolder, con: duckdb.DuckDBPyConnection, told: CardConfig, report: RoundReport) -> str:
    config, round_index = told.config, report.round
    held_out = [
        found
        for split in ("dev", "test")
        if (found := card_data.held_out(folder, round_index, split=split, ks=config["eval"]["k"])) is not None
    ]
    title = f"{config['name']}, round {round_index}" if round_index else f"{config['name']} after its warm start"
    return card(
        "model_card.md",
        _model_header(title, config, held_out),
        title=title,
        lead=_lead(config, report),
        verdict=_verdict(report),
        held_out=[(card_text.held_out_words(it, config), card_text.held_out_table(it)) for it in held_out],
        told=told,
        made=card_text.how_it_was_made(told, card_data.verifiers_of(con, [round_index]) if round_index else []),
        trained=_trained(folder, config, report),
        dropped=card_text.dropped_table([round_index], {round_index: report}),
        prompt_said=_prompt_said(told),
        usage=_usage(told),
        limits=card_text.limits(told, [report]),
        command=f"star-rft run config.yaml rounds={round_index}",
    )


def _model_header(title: str, config: Mapping[str, Any], held_out: list[HeldOutFigures]) -> dict[str, Any]:
    model = config["model"]
    base = None if model["from_scratch"] or model["gguf_file"] else hub_name(model["name"])
    train = config["data"]["train"]["source"] if config["data"]["train"] else []
    names = train if isinstance(train, list) else [train]
    return {
        "license": "other",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": base,
        "base_model_relation": "finetune" if base else None,
        "datasets": [name for name in names if "/" in name and hub_name(name)] or None,
        "tags": ["star-rft", "reasoning", "rejection-sampling"],
        "model-index": [{"name": title, "results": [_result(config, it) for it in held_out]}] if held_out else None,
    }


def _result(config: Mapping[str, Any], found: HeldOutFigures) -> dict[str, Any]:
    source = config["data"][found.split]["source"]
    name = ", ".join(source) if isinstance(source, list) else source
    metrics = [{"type": f.name, "name": f.name, "value": round(f.after.value, 4)} for f in found.figures]
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": f"{name}, {found.split} of this run", "type": name, "split": found.split},
        "metrics": metrics,
    }


def _lead(config: Mapping[str, Any], report: RoundReport) -> str:
    base = code(config["model"]["name"])
    if not report.round:
        return f"{base}, trained on reference solutions, before it was trained on anything of its own."
    references = report.reference_solutions + report.anchor
    on = [f"{counted(report.selected, 'completion')} {card_text.judged_by(config)}"] if config["train"] else []
    on += [counted(references, "reference solution")] if references and config["train"] else []
    is_preference = config["preference"] and config["preference"]["makes"] == "policy"
    on += ["preferences of completions, the better against the worse"] if is_preference else []
    return f"{base} after round {report.round}: trained on {', and on '.join(on)}."


def _verdict(report: RoundReport) -> str:
    gate = report.gate
    if gate is None:
        return "There was no gate: nothing decided whether this model is better than the one before."
    said = card_data.decision(report)
    text = f"**The gate: {said}.** {gate['rule'].strip().rstrip('.')}."
    if gate["model_round"] != report.round:
        better = f"that of round {gate['model_round']}" if gate["model_round"] else "the one that the loop began with"
        text += f" The model to use is {better}, not this one."
    return "\n\n".join([text, *(f"Warning: {warning}." for warning in gate["warnings"])])


def _trained(folder: RunFolder, config: Mapping[str, Any], report: RoundReport) -> str:
    lines = [f"**Began from** {card_data.started_from(folder, config, report.round)}."] if report.round else []
    if report.round:
        lines.append(
            f"**Drawn for it**: {counted(report.samples, 'sample')} of {counted(report.problems_sampled, 'problem')},"
            f" {report.correct:,} correct, {report.unknown:,} unknown"
            + (
                f"; {report.hinted:,} more with a hint, {report.hinted_correct:,} of them correct"
                if report.hinted
                else ""
            )
            + f"; {report.selected:,} selected."
        )
    for section, took in card_data.trainings(folder, config, report.round).items():
        settings = config[section]
        what, item = ("of preferences", "preference") if section == "preference" else ("supervised", "example")
        dropped = f" ({took.dropped_too_long:,} too long, left out)" if took.dropped_too_long else ""
        lines.append(
            f"**Training, {what}**: {counted(took.examples, item)}{dropped}, {counted(took.steps, 'step')} of"
            f" {settings['batch_size']:,}, {took.tokens:,} tokens; learning rate {settings['lr']:g}"
            f" ({settings['schedule']}), at most {settings['max_tokens']:,} tokens"
            f"{', LoRA' if settings['lora'] else ''}; loss {took.loss_first:.3f} to {took.loss_last:.3f}."
        )
    return bullets(lines)


def _prompt_said(told: CardConfig) -> str:
    section = told.config["prompt"]
    shots = f", after {counted(len(section['few_shot']), 'example')} (see the config)" if section["few_shot"] else ""
    how = "rendered by its chat template" if told.is_chat else "as plain text"
    return f"It was trained on questions in this form, {how}{shots}:"


def _usage(told: CardConfig) -> str:
    section = told.config["prompt"]
    question = "Tom has 3 apples and buys 4. How many has he?"
    system = f"{{'role': 'system', 'content': {section['system']!r}}}, " if section["system"] else ""
    asked = f"[{system}{{'role': 'user', 'content': prompt}}]" if told.is_chat else "prompt"
    lines = [
        "from transformers import pipeline",
        "",
        'generate = pipeline("text-generation", ".")  # or its name on the hub',
        f"template = {section['template']!r}",
        f"prompt = template.replace('{{question}}', {question!r})",
        f"print(generate({asked}, max_new_tokens={told.config['eval']['max_tokens']}, return_full_text=False))",
    ]
    return "\n".join(lines)
