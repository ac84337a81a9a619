"""Data cards of exports, and model cards of rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from star_rft.exports import card_data
from star_rft.exports.card_data import CardConfig, HeldOutFigures, hub_name
from star_rft.exports.card_text import card, code, counted, dropped_table, held_out_part, rounds_table
from star_rft.exports.files import CARD
from star_rft.exports.formats import Job, dataset_name
from star_rft.exports.rows import Tally
from star_rft.files import write_text
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.types import RoundReport

if TYPE_CHECKING:
    import duckdb
    from huggingface_hub import EvalResult

Kind = Literal["sft", "dpo", "traces"]
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
TAGS = ["star-rft", "reasoning", "rejection-sampling"]
NOUNS = {"sft": "Training examples", "dpo": "Preferences", "hub-folder": "Training data"}
SOURCES = {"trace": "selected trace", "reference": "reference solution", "anchor": "example of the warm start"}


@dataclass(frozen=True, slots=True)
class File:
    """A file of an export, with what its columns mean. `kind` is its config in a folder for the hub."""

    kind: Kind
    name: str
    rows: int
    columns: Mapping[str, str]


def data_card(
    folder: RunFolder,
    con: duckdb.DuckDBPyConnection,
    run: CardConfig,
    job: Job,
    files: Sequence[File],
    tally: Tally,
) -> str:
    """Return the card of an export; `con` is open on the run's ledger."""
    from huggingface_hub import DatasetCardData

    config, rounds = run.config, job.rounds
    reports = card_data.read_reports(folder, rounds)
    which = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}"
    noun = NOUNS.get(job.format, "Traces" if job.split == "train" else f"Held-out traces ({job.split})")
    title, kinds = f"{noun} of {which} of {config['name']}", [file.kind for file in files]
    most = max(file.rows for file in files)
    configs: list[dict[str, Any]] = [
        {"config_name": file.kind, "data_files": [{"split": "train", "path": file.name}]} for file in files
    ]
    configs[0]["default"] = True
    header = DatasetCardData(
        license=job.licence,
        pretty_name=title,
        task_categories=["text-generation"],
        size_categories=[next((name for bound, name in SIZES if most < bound), "10M<n<100M")],
        source_datasets=_hub_sources(config),
        tags=[*TAGS, "synthetic"],
        configs=configs if job.format == "hub-folder" else None,
    )
    evaluated = ((number, splits) for number in reversed(rounds) if (splits := _splits(folder, config, number)))
    measured, splits = next(evaluated, (0, []))
    parts = [held_out_part(split, config) for split in splits]
    lineage, last = card_data.lineage(folder, config), rounds[-1]
    is_preference = kinds == ["dpo"]
    return card(
        "data_card.md",
        header,
        run,
        title=title,
        kinds=kinds,
        files=files,
        job=job,
        tally=tally,
        examples=[(tally.kinds[source], words) for source, words in SOURCES.items()],
        verifiers=card_data.verifiers_of(con, rounds),
        rounds=rounds_table(
            rounds, reports, {number: card_data.started_from(folder, config, number) for number in rounds}
        ),
        trained_in=sorted(lineage.rounds(last)) if last in reports else [],
        warms_up=lineage.warms_up and lineage.start != "base",
        dropped=dropped_table(reports),
        held_out=[(f"Round {measured} on {words}", table) for words, table in parts],
        reports=list(reports.values()),
        model=hub_name(config["model"]["name"]) or "path/to/the/base/model",
        max_tokens=(config["preference" if is_preference else "train"] or config["train"] or {}).get("max_tokens"),
        is_preference=is_preference,
        dataset=dataset_name(config, is_preference=is_preference),
        command=f"star-rft run config.yaml\nstar-rft export runs/{config['name']} {job.command}".rstrip(),
    )


def write_model_card(folder: RunFolder, run: CardConfig, report: RoundReport) -> None:
    """Write README.md into the folder of the model that a round made; round 0 made one only by a warm start.

    The round's metrics.json need not be there yet. Neither a model's fingerprint nor its loading sees the file.
    """
    place = folder.checkpoint(report.round) if report.round else folder.warm_start
    if place.exists():
        write_text(place / CARD, model_card(folder, Ledger(folder.path).connect(), run, report))


def model_card(folder: RunFolder, con: duckdb.DuckDBPyConnection, run: CardConfig, report: RoundReport) -> str:
    """Return the card of the model that a round made; `con` is open on the run's ledger."""
    from huggingface_hub import ModelCardData

    config, number = run.config, report.round
    title = f"{config['name']}, round {number}" if number else f"{config['name']} after its warm start"
    model, splits = config["model"], _splits(folder, config, number)
    results = list(chain.from_iterable(_results(config, split) for split in splits))
    base = None if model["from_scratch"] or model["gguf_file"] else hub_name(model["name"])
    header = ModelCardData(
        license="other",
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=base,
        base_model_relation="finetune" if base else None,
        datasets=_hub_sources(config),
        tags=TAGS,
        model_name=title if results else None,
        eval_results=results or None,
    )
    return card(
        "model_card.md",
        header,
        run,
        title=title,
        lead=_lead(config, report),
        verdict=_verdict(report),
        held_out=[held_out_part(split, config) for split in splits],
        verifiers=card_data.verifiers_of(con, [number]) if number else [],
        trained=_trained(folder, config, report),
        dropped=dropped_table({number: report}),
        usage=_usage(run),
        reports=[report],
        command=f"star-rft run config.yaml rounds={number}",
    )


def _hub_sources(config: Mapping[str, Any]) -> list[str] | None:
    """Return the data sets of the hub that train problems came from, None where there are none."""
    return [name for name in card_data.sources(config, "train") if "/" in name and hub_name(name)] or None


def _splits(folder: RunFolder, config: Mapping[str, Any], round_index: int) -> list[HeldOutFigures]:
    ks = config["eval"]["k"]
    found = [card_data.held_out(folder, round_index, split=split, ks=ks) for split in ("dev", "test")]
    return [split for split in found if split is not None]


def _results(config: Mapping[str, Any], found: HeldOutFigures) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    source = ", ".join(card_data.sources(config, found.split))
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=source,
            dataset_name=f"{source}, {found.split} of this run",
            dataset_split=found.split,
            metric_type=figure.name,
            metric_name=figure.name,
            metric_value=round(figure.after.value, 4),
        )
        for figure in found.figures
    ]


def _lead(config: Mapping[str, Any], report: RoundReport) -> str:
    base = code(config["model"]["name"])
    if not report.round:
        return f"{base}, trained on reference solutions, before it was trained on anything of its own."
    references, scorer = report.reference_solutions + report.anchor, config["scorer"]
    chosen_by = "that a program found correct" if "correct" in config["select"]["rules"] else "that its rules selected"
    if scorer and scorer["decides"]:
        chosen_by = f"that the scorer {code(scorer['name'])} chose"
    on = [f"{counted(report.selected, 'completion')} {chosen_by}"] if config["train"] else []
    on += [counted(references, "reference solution")] if references and config["train"] else []
    is_preference = config["preference"] and config["preference"]["makes"] == "policy"
    on += ["preferences of completions, the better against the worse"] if is_preference else []
    return f"{base} after round {report.round}: trained on {', and on '.join(on)}."


def _verdict(report: RoundReport) -> str:
    gate = report.gate
    if gate is None:
        return "There was no gate: nothing decided whether this model is better than the one before."
    text = f"**The gate: {card_data.decision(report)}.** {gate['rule'].strip().rstrip('.')}."
    if gate["model_round"] != report.round:
        better = f"that of round {gate['model_round']}" if gate["model_round"] else "the one that the loop began with"
        text += f" The model to use is {better}, not this one."
    return "\n\n".join([text, *(f"Warning: {warning}." for warning in gate["warnings"])])


def _trained(folder: RunFolder, config: Mapping[str, Any], report: RoundReport) -> str:
    lines = []
    if report.round:
        hinted = f"; {report.hinted:,} more with a hint, {report.hinted_correct:,} of them correct"
        lines = [
            f"**Began from** {card_data.started_from(folder, config, report.round)}.",
            f"**Drawn for it**: {counted(report.samples, 'sample')} of {counted(report.problems_sampled, 'problem')},"
            f" {report.correct:,} correct, {report.unknown:,} unknown{hinted if report.hinted else ''};"
            f" {report.selected:,} selected.",
        ]
    for section, took in card_data.trainings(folder, config, report.round).items():
        used = config[section]
        what, item = ("of preferences", "preference") if section == "preference" else ("supervised", "example")
        dropped = f" ({took.dropped_too_long:,} too long, left out)" if took.dropped_too_long else ""
        lines.append(
            f"**Training, {what}**: {counted(took.examples, item)}{dropped}, {counted(took.steps, 'step')} of"
            f" {used['batch_size']:,}, {took.tokens:,} tokens; learning rate {used['lr']:g}"
            f" ({used['schedule']}), at most {used['max_tokens']:,} tokens"
            f"{', LoRA' if used['lora'] else ''}; loss {took.loss_first:.3f} to {took.loss_last:.3f}."
        )
    return "\n".join(f"- {line}" for line in lines)


def _usage(run: CardConfig) -> str:
    section = run.config["prompt"]
    question = "Tom has 3 apples and buys 4. How many has he?"
    system = f"{{'role': 'system', 'content': {section['system']!r}}}, " if section["system"] else ""
    shown = f"[{system}{{'role': 'user', 'content': prompt}}]" if run.is_chat else "prompt"
    return f"""from transformers import pipeline

generate = pipeline("text-generation", ".")  # or its name on the hub
template = {section["template"]!r}
prompt = template.replace("{{question}}", {question!r})
print(generate({shown}, max_new_tokens={run.config["eval"]["max_tokens"]}, return_full_text=False))"""
