"""The commands `frontier`, `review` and `flagged`: problems and traces that need a look."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_rft.cli.app import AsJson, RunDir, app, example, results, run_folder
from star_rft.errors import RunFailure, UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from star_rft.config import Config
    from star_rft.frontier.classes import ProblemClass


@app.command(epilog=example("star-rft frontier runs/quickstart --class no_survivors --export hard.jsonl"))
def frontier(
    run: RunDir,
    problem: Annotated[str | None, typer.Argument(help="One problem's id, or its beginning: show it in full.")] = None,
    classes: Annotated[list[str] | None, typer.Option("--class", help="Only problems of this class.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All problems, also those that are solved or learnable.")
    ] = False,
    limit: Annotated[int, typer.Option(help="How many problems to show.", min=0)] = 20,
    export: Annotated[
        Path | None, typer.Option(help="Write all of them to a JSONL file, for review or as data.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the train problems by class, with the evidence for it and what each gets next."""
    from star_rft.build import settle
    from star_rft.frontier import review
    from star_rft.frontier.classes import CLASSES
    from star_rft.ledger import Ledger
    from star_rft.report import frontier_tables as tables

    config = settle(str(run_folder(run)))
    con, classed = Ledger(run).connect(), _classed(run, config)
    remedies = _remedies(config)
    if problem is not None:
        row = review.problem_in_full(con, classed, problem)
        text = json.dumps(row) if as_json else "\n".join(tables.problem_lines(row, remedies[row["class"]]))
        typer.echo(text)
        return
    chosen = _chosen(classes, every)
    if export is not None:
        _export(export, review.problems(con, classed, classes=chosen))
    if as_json:
        typer.echo(json.dumps(list(review.problems(con, classed, classes=chosen))))
        return
    counts = review.class_counts(con, classed)
    console = results()
    console.print(tables.classes_table(counts, review.classes_by_round(con), remedies))
    since, now = review.moved(con, classed, was="no_survivors")
    if now:
        console.print(tables.moved_line("no_survivors", since, now))
    for names, table in ((["label_error"], tables.label_errors_table), (CLASSES[1:], tables.problems_table)):
        of_table: list[ProblemClass] = [name for name in CLASSES if name in names and name in chosen]
        shown = list(review.problems(con, classed, classes=of_table, most=limit))
        if shown:
            console.print(table(shown, sum(counts.get(name, 0) for name in of_table) - len(shown)))


@app.command(epilog=example("star-rft review runs/quickstart label_errors.jsonl"))
def review(
    run: RunDir,
    file: Annotated[Path, typer.Argument(help='Lines of {"problem_id", "review": "right" | "wrong"}.')],
) -> None:
    """Record which suspected label errors are right: those are trained on again from the next round."""
    from star_rft.build import settle
    from star_rft.files import locked
    from star_rft.frontier.review import add, read_findings
    from star_rft.runs.folder import RunFolder

    folder = RunFolder(run_folder(run))
    classed = _classed(run, settle(str(run)))
    found = read_findings(file, known=set(classed["problem_id"].to_pylist()))
    with locked(folder.path):
        add(folder.reviews, found)
    counts = {finding: sum(value == finding for value in found.values()) for finding in ("right", "wrong")}
    typer.echo(f"{counts['right']} right, {counts['wrong']} wrong: noted in {folder.reviews}")


@app.command(epilog=example("star-rft flagged runs/quickstart --kind no_derivation"))
def flagged(
    run: RunDir,
    round_index: Annotated[int | None, typer.Option("--round", help="The round; the last one unless given.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only flags of this kind.")] = None,
    limit: Annotated[int, typer.Option(help="How many traces to draw.", min=0)] = 5,
    as_json: AsJson = False,
) -> None:
    """Draw traces to read that were trained on and may be right by luck or by trickery."""
    import pyarrow.parquet as pq

    from star_rft.evaluation.trace_audit import KINDS, drawn
    from star_rft.ledger import Ledger
    from star_rft.report.frontier_tables import flagged_lines
    from star_rft.runs.folder import RunFolder

    if kind is not None and kind not in KINDS:
        raise UserError(f"--kind {kind!r} is unknown; valid: {', '.join(KINDS)}")
    folder = RunFolder(run_folder(run))
    selected = [int(path.parent.name) for path in folder.path.glob("rounds/*/flagged.parquet")]
    if not selected or (round_index is not None and round_index not in selected):
        raise RunFailure(
            f"{run}: round {round_index or 1} has selected nothing yet; selected: {sorted(selected) or 'none'}"
        )
    table = pq.read_table(folder.flagged(max(selected) if round_index is None else round_index))
    rows = drawn(table, count=table.num_rows if as_json else limit, kind=kind)
    texts = _texts(Ledger(run), [row["sample_id"] for row in rows])
    rows = [row | texts[row["sample_id"]] for row in rows]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    counts = {name: count for name in KINDS if (count := table["kind"].to_pylist().count(name))}
    typer.echo(f"flagged: {', '.join(f'{count} {name}' for name, count in counts.items()) or 'none'}")
    for line in flagged_lines(rows):
        typer.echo(line)


def _classed(run: Path, config: Config) -> pa.Table:
    """Return the class of each train problem, from all samples in the ledger."""
    from star_rft.build.sampling import policy_sample_indices
    from star_rft.frontier.classes import classify
    from star_rft.frontier.history import newest_round
    from star_rft.frontier.review import reviews
    from star_rft.ledger import Ledger
    from star_rft.runs.folder import RunFolder

    con = Ledger(run).connect()
    policy_indices, found = policy_sample_indices(config), reviews(RunFolder(run).reviews)
    return classify(con, through_round=newest_round(con), own=policy_indices, reviews=found)


def _remedies(config: Config) -> Mapping[ProblemClass, str]:
    from star_rft.build import has_quarantine
    from star_rft.frontier.review import remedies

    return remedies(
        plan=config.budget.plan,
        most=config.sample.n,
        models=len(config.sample.models),
        has_hints=config.rationalize is not None,
        has_quarantine=has_quarantine(config),
    )


def _chosen(classes: Sequence[str] | None, every: bool) -> Sequence[str]:
    from star_rft.frontier.classes import CLASSES
    from star_rft.frontier.review import OPEN

    if unknown := [name for name in classes or () if name not in CLASSES]:
        raise UserError(f"--class {unknown[0]!r} is unknown; valid: {', '.join(CLASSES)}")
    return classes or (CLASSES if every else OPEN)


def _export(path: Path, rows: Any) -> None:
    """Write problems as data that `data.train` and `star-rft review` read; a reviewer fills in `review`."""
    from star_rft.files import whole

    count = 0
    with whole(path) as temporary, temporary.open("w") as out:
        for row in rows:
            line = {"problem_id": row["problem_id"], "class": row["class"], "question": row["prompt"]}
            line |= {"answer": row["reference"], "other_answer": row["other_answer"], "votes": row["other_votes"]}
            out.write(json.dumps(line | {"of": row["all_votes"], "review": None}, ensure_ascii=False) + "\n")
            count += 1
    typer.echo(f"{count:,} problems: {path}", err=True)


def _texts(ledger: Any, sample_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    query = "select sample_id, text, prompt, reference from traces where list_contains(?, sample_id)"
    rows = ledger.connect().execute(query, [list(sample_ids)]).fetchall()
    return {sample_id: {"text": text, "prompt": problem, "reference": ref} for sample_id, text, problem, ref in rows}
