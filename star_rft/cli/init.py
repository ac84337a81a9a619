"""The commands `init` and `doctor`: a first config from your data, and a check of the machine."""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_rft.cli.app import AsJson, app, example, results
from star_rft.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from star_rft.build.dry_run import Preview
    from star_rft.doctor import Diagnosis
    from star_rft.init.dialogue import Dialogue
    from star_rft.init.sizing import ModelFacts
    from star_rft.init.source import DataSource
    from star_rft.init.template import Plan


@app.command(epilog=example("star-rft init train.jsonl --model tiny"))
def init(
    data: Annotated[
        str | None,
        typer.Argument(help="A JSONL, JSON or Parquet file, a folder, a hub name, word_problems or python_tasks."),
    ] = None,
    data_option: Annotated[str | None, typer.Option("--data", help="The same as DATA.")] = None,
    model: Annotated[str | None, typer.Option(help="tiny, smollm2, a folder or a hub name.")] = None,
    dev: Annotated[str | None, typer.Option(help="A held-out set; else a part of the data is held out.")] = None,
    verifier: Annotated[str | None, typer.Option(help="What judges: a name, or module:function.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="FIELD=COLUMN; fields: prompt, reference, solution, id. Again for more."),
    ] = None,
    hold_out: Annotated[float | None, typer.Option(help="A share below 1, or a number of problems.")] = None,
    split: Annotated[str | None, typer.Option(help="The split of a folder or hub name to train on.")] = None,
    config_name: Annotated[str | None, typer.Option(help="The configuration of a hub data set.")] = None,
    name: Annotated[str | None, typer.Option(help="The name of the run.")] = None,
    out: Annotated[Path | None, typer.Option(help="The config to write; NAME.yaml unless given.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every proposal; ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the config if it is there.")] = False,
) -> None:
    """Look at your data and write a commented config that runs."""
    from star_rft.init import wizard
    from star_rft.init.dialogue import Dialogue
    from star_rft.init.sizing import find_device
    from star_rft.init.wizard import planned

    _check_flags(out, name, model, force)
    if data is not None and data_option is not None:
        raise UserError(f"the data is named twice, {data} and --data {data_option}: give one")
    talk = Dialogue(results(), asks=not yes and sys.stdin.isatty() and sys.stdout.isatty())
    source = _source(talk, data or data_option, split, config_name)
    understood = wizard.understood(talk, source, _pairs(column or []))
    judge, proposed = wizard.chosen_verifier(talk, understood.problems, verifier)
    splits = wizard.held_out(talk, understood, dev, hold_out)
    overlapping = wizard.contaminated(talk, splits)
    facts = _model(talk, model, proposed.kind)
    run_name, file = _place(talk, name, out, wizard.name_for(source), force)
    plan = planned(
        understood,
        splits,
        model=facts,
        device=find_device,
        verifier=judge,
        proposed=proposed,
        contaminated=overlapping,
        name=run_name,
        file=file,
    )
    _write(talk, plan, wizard.copies(understood, splits, file), force)


def _check_flags(out: Path | None, name: str | None, model: str | None, force: bool) -> None:
    """Refuse what can be refused before a large data set is read."""
    from star_rft.init.sizing import look
    from star_rft.init.wizard import check_name

    if name is not None:
        check_name(name)
    if model is not None:
        look(model)
    if file := out or (Path(f"{name}.yaml") if name else None):
        _refuse_existing(file, force)


def _pairs(columns: list[str]) -> dict[str, str]:
    found = {}
    for text in columns:
        field, equals, path = text.partition("=")
        if not equals or not path:
            raise UserError(f"--column {text!r} must look like FIELD=COLUMN, for example --column prompt=my_question")
        found[field.strip()] = path.strip()
    return found


def _source(talk: Dialogue, given: str | None, split: str | None, config_name: str | None) -> DataSource:
    from star_rft.init.source import find_source

    if talk.asks and given is None:
        talk.say("Your data: a JSONL, JSON or Parquet file, a folder, a hub name, or word_problems (built in).")
    return talk.settle(
        "Data",
        "DATA (or --data)",
        given=given,
        proposal="word_problems" if talk.asks else None,
        check=lambda answer: find_source(answer, split=split, config_name=config_name),
    )


def _model(talk: Dialogue, given: str | None, kind: str) -> ModelFacts:
    from star_rft.init.sizing import TINY, look

    question = "Model (tiny, smollm2, a folder or a hub name)"
    facts = talk.settle(question, "--model", given=given, proposal=TINY, check=look)
    talk.say(f"Model: {facts.name}, {facts.why}.")
    if facts.name == TINY and kind != "number":
        talk.say("It solves simple word problems and nothing else: good to see the commands, not for this data.")
    return facts


def _place(talk: Dialogue, name: str | None, out: Path | None, proposal: str, force: bool) -> tuple[str, Path]:
    """Return the name of the run and the config file to write, which does not exist yet."""
    from star_rft.init.wizard import check_name

    def checked(answer: str) -> tuple[str, Path]:
        file = out or Path(f"{check_name(answer)}.yaml")
        _refuse_existing(file, force)
        return answer, file

    return talk.settle("Name of the run", "--name", given=name, proposal=proposal, check=checked)


def _refuse_existing(file: Path, force: bool) -> None:
    if file.is_dir():
        raise UserError(f"{file}: is a folder; name the config to write with --out FILE.yaml")
    if file.exists() and not force:
        raise UserError(f"{file}: is there already; choose another with --out or --name, or overwrite it with --force")


def _write(talk: Dialogue, plan: Plan, copies: dict[Path, str], force: bool) -> None:
    """Write the config, and the converted data that it names, once `star-rft run --dry-run` has accepted them."""
    from star_rft.files import write_text
    from star_rft.init.template import commands, written

    text, file = written(plan), Path(plan.file)
    for path in copies:
        _refuse_existing(path, force)
    with talk.busy("Trying the config"):
        expected = _tried(text, copies)
    for path, rows in copies.items():
        write_text(path, rows)
    write_text(file, text)
    talk.say()
    talk.say(f"Wrote {' and '.join(map(str, [*copies, file]))}.")
    talk.say(
        f"At most {expected.samples_a_round:,} samples in each of {expected.rounds} rounds, and "
        f"{expected.evaluations} evaluations of {expected.held_out_samples:,}. The sizes are for {plan.sizes.why}."
    )
    if (Path("runs") / plan.name).exists():
        talk.say(f"runs/{plan.name} is there already: change name in {file} unless you want to go on with that run.")
    talk.say("Next:")
    for command in commands(plan):
        talk.line(f"  {command}")


def _tried(text: str, copies: dict[Path, str]) -> Preview:
    """Return the dry run of a config text, from temporary files: nothing else is written before that succeeds."""
    import tempfile

    from star_rft import config as configs
    from star_rft.build.dry_run import preview
    from star_rft.init.source import quiet

    with tempfile.TemporaryDirectory() as folder, quiet():
        file = Path(folder) / "config.yaml"
        file.write_text(text)
        moved = {str(path): Path(folder) / path.name for path in copies}
        for path, rows in copies.items():
            moved[str(path)].write_text(rows)
        sections = configs.load(file).data.model_dump(include={"train", "dev", "test"}, exclude_none=True)
        there = {f"data.{role}.source": str(moved[s["source"]]) for role, s in sections.items() if s["source"] in moved}
        return preview(configs.load(file, there))


@app.command(epilog=example("star-rft doctor"))
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: what works, and how to make the rest work."""
    from star_rft.doctor import document, examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps(document(findings)))
    else:
        _show_findings(findings)
    if any(not finding.is_ok for finding in findings):
        raise typer.Exit(1)


def _show_findings(findings: Sequence[Diagnosis]) -> None:
    """Print a table in a terminal, else lines of 80 columns. Commands have lines of their own that are not wrapped."""
    console = results()
    if console.is_terminal:
        console.print(_findings_table(findings))
    else:
        for what, level, found, _ in findings:
            lead = f"{level:<8} {what:<18} "
            typer.echo(textwrap.fill(found, 80, initial_indent=lead, subsequent_indent=" " * len(lead)))
    fixes = [finding for finding in findings if finding.fix]
    if fixes:
        typer.echo("\nWhat would mend or better it:")
    for finding in fixes:
        typer.echo(f"  {finding.what} ({finding.level}):\n    {finding.fix}")
    counts = Counter(finding.level for finding in findings)
    typer.echo(f"\nProblems: {counts['problem']}. To note: {counts['note']}. Fine: {counts['ok']}.")


def _findings_table(findings: Sequence[Diagnosis]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table("", "what", "found", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    styles = {"ok": "green", "note": "yellow", "problem": "bold red"}
    for what, level, found, _ in findings:
        table.add_row(Text(level, style=styles[level]), what, Text(found))
    return table
