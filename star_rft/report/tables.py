"""Tables and lines about a run for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from star_rft.recipes import Row
from star_rft.types import HeldOutScores, Interval, RoundReport

if TYPE_CHECKING:
    from star_rft.experiments.best_of_n import BestOfN


SPARE = ("greedy", "distinct", "s", "unknown", "correct")  # columns that a narrow terminal can do without
WIDEST = 10_000
NO_BREAK = "\u00a0"
QUESTION_SHOWN = 24  # characters, so that a row fits into 80 columns


def round_lines(report: RoundReport, *, rounds: int, width: int | None = None) -> list[str]:
    """Sum up one round: its scores against the first and the last one, what was trained on, the gate's decision.

    A line that is wider than `width`, where one is given, breaks between two statements.
    """
    where = f"round {report.round} of {rounds}" if rounds else f"round {report.round}"
    return [line for parts in _statements(report, where) for line in _flowed(parts, width)]


def _statements(report: RoundReport, where: str) -> Iterator[list[str]]:
    scored, gate = report.held_out, report.gate
    decided = [] if gate is None or report.round == 0 else [f"gate: {gate['action'].replace('_', ' ')}"]
    score = [f"pass@1 {scored.pass_at_1_interval}"] if scored else []
    yield [f"{where}: {', '.join([*score, *decided, f'{sum(report.seconds.values()):.0f} s'])}"]
    if scored and scored.vs_base:
        changes = [f"  {scored.vs_base.value:+.3f} {_bounds(scored.vs_base, '+.2f')} since the start"]
        if scored.vs_last and scored.vs_last != scored.vs_base:
            changes.append(f"{scored.vs_last.value:+.3f} {_bounds(scored.vs_last, '+.2f')} since the last")
        yield changes
    if report.round > 0:
        yield [
            f"  {report.correct:,} of {report.samples:,} correct",
            f"{report.distinct:,} distinct",
            f"{report.selected + report.reference_solutions + report.anchor:,} trained on",
            f"{report.unsolved} of {report.problems_sampled} unsolved",
        ]
    if gate is not None and (gate["action"] in ("roll_back", "stop") or gate["warnings"]):
        why = [gate["rule"]] if gate["action"] in ("roll_back", "stop") else []
        yield from ([f"  gate: {text}"] for text in [*why, *gate["warnings"]])


def _flowed(parts: Sequence[str], width: int | None) -> list[str]:
    """Join statements with commas into lines of a width, which break between two, or within the only one."""
    kept = [part.replace(" ", NO_BREAK) for part in parts] if len(parts) > 1 else parts
    lines = [", ".join(kept)] if width is None else wrap(", ".join(kept), width, subsequent_indent="    ")
    return [line.replace(NO_BREAK, " ") for line in lines]


def rounds_table(reports: Sequence[RoundReport]) -> Table:
    """Held-out scores, a row a round; fits 80 columns."""
    ks = sorted({int(k) for r in reports for k in r.pass_at_k if k != "1"})
    names = ("round", "pass@1", *(f"pass@{k}" for k in ks), "greedy", "change of pass@1")
    table = slim_table("Did it get better? Held-out problems, [95% interval]", *names)
    for report in reports:
        scored = report.held_out
        if scored is None:
            continue
        table.add_row(
            str(report.round),
            f"{scored.pass_at_k['1']:.3f} {_bounds(scored.pass_at_1_interval)}",
            *(f"{scored.pass_at_k[str(k)]:.3f}" for k in ks),
            f"{scored.greedy.value:.3f}" if scored.greedy else "-",
            f"{scored.vs_base.value:+.3f} {_bounds(scored.vs_base)}" if scored.vs_base else "",
        )
    return table


def training_table(reports: Sequence[RoundReport]) -> Table | None:
    """What each round sampled and trained on."""
    trained = [report for report in reports if report.round > 0]
    if not trained:
        return None
    names = ("round", "sampled", "correct", "distinct", "unknown", "trained on", "unsolved", "s")
    table = slim_table("What it was trained on: its own verified samples", *names)
    for r in trained:
        table.add_row(
            str(r.round),
            f"{r.samples:,}",
            f"{r.correct:,}",
            f"{r.distinct:,}",
            f"{r.unknown:,}",
            f"{r.selected + r.reference_solutions + r.anchor:,}",
            f"{r.unsolved} of {r.problems_sampled}",
            f"{sum(r.seconds.values()):.0f}",
        )
    return table


def groups_table(reports: Sequence[RoundReport], group_by: str) -> Table | None:
    """Held-out pass@1 by group (such as the number of steps), a row a round."""
    scored = [report for report in reports if report.held_out and report.held_out.by_group]
    if not scored:
        return None
    groups = list(scored[0].held_out.by_group) if scored[0].held_out else []
    table = slim_table(f"pass@1 by {group_by}", "round", *groups)
    for report in scored:
        values = report.held_out.by_group if report.held_out else {}
        table.add_row(str(report.round), *(f"{values[g]:.2f}" if g in values else "-" for g in groups))
    return table


def verdict_lines(reports: Sequence[RoundReport]) -> list[str]:
    """Return sentences on whether the model got better, and on what needs attention."""
    first, last = reports[0].held_out, reports[-1].held_out
    if first is None or last is None or last.vs_base is None or len(reports) < 2:
        return []
    change = last.vs_base
    better = "better" if change.low > 0 else "worse" if change.high < 0 else "not measurably different"
    lines = [
        f"The model is {better}: held-out pass@1 {first.pass_at_k['1']:.3f} -> {last.pass_at_k['1']:.3f} on"
        f" {last.problems} problems; difference {change.value:+.3f}, 95% interval {_bounds(change, '.3f')}."
    ]
    trained = [report for report in reports if report.unsolved_share_interval is not None]
    if len(trained) > 1:
        a, b = trained[0], trained[-1]
        lines.append(
            f"Train problems without a correct sample: {_share(a.unsolved_share_interval)} in round {a.round},"
            f" {_share(b.unsolved_share_interval)} in round {b.round}."
        )
    lines += _round_lines(reports)
    unknown = sum(report.unknown for report in reports) + sum(s.unknown for s in (first, last))
    if unknown:
        lines.append(f"{unknown} verdicts were unknown: the verifier, not the model, failed there.")
    return lines


def recipes_table(rows: Sequence[Row]) -> Table:
    """What each recipe switches; `star-rft recipes show NAME` has the rest."""
    table = Table(title="Recipes: star-rft recipes show NAME, star-rft run NAME", title_justify="left", box=SIMPLE_HEAD)
    for name in ("recipe", "samples", "keeps", "trains", "rounds", "has been run"):
        table.add_column(name)
    for row in rows:
        table.add_row(row.name, row.sampling, row.selection, row.training, row.rounds, row.run)
    return table


def gate_lines(reports: Sequence[RoundReport]) -> Iterator[str]:
    """Yield the gate's decisions other than to keep, its warnings, and which model to use."""
    decided = [(report.round, report.gate) for report in reports if report.gate is not None]
    for number, gate in decided:
        if gate["action"] in ("roll_back", "stop"):
            yield f"Gate, round {number}: {gate['action'].replace('_', ' ')}: {gate['rule']}."
    for warning in decided[-1][1]["warnings"] if decided else ():
        yield f"Gate, round {decided[-1][0]}, warns: {warning}."
    if decided and (best := decided[-1][1]["model_round"]) != decided[-1][0]:
        yield f"The model to use is that of round {best}{' (where the run began)' if best == 0 else ''}."


def _round_lines(reports: Sequence[RoundReport]) -> Iterator[str]:
    """Yield sentences on features that only some runs use."""
    yield from gate_lines(reports)
    if suspects := reports[-1].classes.get("label_error"):
        yield (
            f"{suspects} references are contradicted by the samples: look with"
            " `star-rft frontier RUN --class label_error`."
        )
    wrong = [report for report in reports if report.invalid_steps_share]
    if wrong:
        shares = ", ".join(f"{report.invalid_steps_share:.1%} in round {report.round}" for report in wrong)
        yield f"Correct samples that state a false equation (right answer, wrong steps): {shares}."
    hinted = [report for report in reports if report.hinted]
    if hinted:
        counts = ", ".join(f"{r.hinted_correct:,} of {r.hinted:,} in round {r.round}" for r in hinted)
        yield f"Correct with a hint: {counts}."
    for report in reports:
        if (found := report.temperature_search) is not None:
            chosen = f"temperature {found['temperature']:g}"
            chosen += "" if found["threshold"] is None else f" and threshold {found['threshold']:g}"
            yield f"Round {report.round} sampled at {chosen}: balance score {found['score']:.3f}."


def scores_table(scores: HeldOutScores, title: str) -> Table:
    """Return the scores of one evaluation, a row a measure."""
    table = slim_table(title, "measure", "value")
    table.add_row("problems x samples", f"{scores.problems} x {scores.n}")
    if scores.greedy:
        table.add_row("greedy", str(scores.greedy))
    for k, value in scores.pass_at_k.items():
        table.add_row(f"pass@{k}", str(scores.pass_at_1_interval) if k == "1" else f"{value:.3f}")
    for k, value in scores.maj_at_k.items():
        table.add_row(f"maj@{k}", f"{value:.3f}")
    table.add_row("pass@1 if unknown were correct", f"{scores.pass_at_1_upper:.3f}")
    table.add_row("unknown / truncated", f"{scores.unknown} / {scores.truncated}")
    table.add_row("tokens", f"{scores.tokens:,}")
    return table


def best_of_n_table(measured: BestOfN, title: str) -> Table:
    """Return, for each k, the accuracy of choosing by score, by an oracle and by votes; fits 80 columns."""
    names = ("k", "score", "accuracy", "change from k=1", "pass@k", "majority", "weighted", "KL <=")
    table = slim_table(title, *names)
    for best in measured.at:
        table.add_row(
            str(best.k),
            "-" if best.score is None else f"{best.score:.3f}",
            f"{best.accuracy:.3f}",
            f"{best.vs_one.value:+.3f} {_bounds(best.vs_one)}" if best.vs_one else "",
            f"{best.oracle:.3f}",
            f"{best.majority:.3f}",
            f"{best.weighted_majority:.3f}",
            f"{best.kl:.2f}",
        )
    return table


def best_of_n_lines(measured: BestOfN) -> list[str]:
    """Return sentences on whether choosing by this score helps, and from which k it harms."""
    first, best, last = measured.at[0], measured.best, measured.at[-1]
    change, lines = last.vs_one, []
    if change is not None:
        better = "better" if change.low > 0 else "worse" if change.high < 0 else "not measurably better"
        lines.append(
            f"The best of {last.k} by {measured.by} is {better} than one sample: verified accuracy"
            f" {first.accuracy:.3f} -> {last.accuracy:.3f} on {measured.problems} problems; difference"
            f" {change.value:+.3f}, 95% interval {_bounds(change, '.3f')}."
        )
    if measured.is_over_optimised:
        lines.append(
            f"Over-optimised: from k={best.k} to k={last.k} the score of the chosen one rises from {best.score:.3f} to"
            f" {last.score:.3f} while its verified accuracy falls from {best.accuracy:.3f} to {last.accuracy:.3f};"
            f" difference {measured.after_peak.value:+.3f}, 95% interval {_bounds(measured.after_peak, '.3f')}."
        )
    elif measured.after_peak.value < 0:
        lines.append(
            f"Accuracy is highest at k={best.k} and then lower by {-measured.after_peak.value:.3f}, which the interval"
            f" {_bounds(measured.after_peak, '.3f')} does not tell from none."
        )
    if measured.unscored:
        lines.append(f"{measured.unscored} samples have no score: they are chosen only where none of the k has one.")
    if measured.by == "majority":
        lines.append("Its score counts votes of all samples, for every k; the column majority counts those of k only.")
    return lines


def fitted(table: Table, console: Console) -> Table:
    """Leave out columns that are `SPARE`, in that order, until the table fits the console: cut numbers say nothing."""
    ks = [str(column.header) for column in table.columns if str(column.header).startswith("pass@")]
    unlimited = console.options.update(max_width=WIDEST)
    for name in (*ks[1:-1], *SPARE, *ks[-1:]):
        if Measurement.get(console, unlimited, table).maximum <= console.width:
            break
        table.columns = [column for column in table.columns if column.header != name]
    return table


def slim_table(title: str, *columns: str) -> Table:
    """Right-aligned and slim: all of it must fit into 80 columns."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def signed(interval: Interval) -> str:
    """Return a difference with its interval and signs: "+0.328 [+0.288, +0.368]"."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _bounds(interval: Interval, form: str = ".2f") -> str:
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def _share(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
