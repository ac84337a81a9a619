"""One self-contained HTML page about a run, finished or not, from the run folder alone."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.files import write_text
from star_rft.report.data import Facts, crossing, gather, is_by_difficulty, open_ledger
from star_rft.report.examples import ExampleKind, choose, traces_to_show
from star_rft.report.frontier_tables import contribution_lines, unmatched_lines
from star_rft.report.markup import TEMPLATES, environment
from star_rft.report.plots.base import Plot
from star_rft.report.plots.cost import cost_plots, timeline_plots
from star_rft.report.plots.held_out import held_out_plots
from star_rft.report.plots.problems import problem_plots
from star_rft.report.plots.training import training_plots
from star_rft.report.tables import verdict_lines
from star_rft.report.traces import problems_of, traces_of
from star_rft.runs.reports import round_to_use
from star_rft.types import Interval, RoundReport

if TYPE_CHECKING:
    import duckdb

# About 2 kB a trace, so that a page stays near the size of its plotting library (4.8 MB).
TRACES_SHOWN = 240
# DuckDB spills to disk beyond this; the page of a million traces must fit into a small machine.
MEMORY = "1GB"

_OF_DIFFICULTY = (
    "By how often the first model solved the problem. Part of the rise in the upper rows, and of the fall in the lower"
    " ones, is chance: those problems were sorted by luck as well as by difficulty."
)


def write_page(run_dir: Path, *, out: Path | None = None, traces: int = TRACES_SHOWN) -> Path:
    """Write the page (by default report.html in the run folder) and return its path; `traces` caps the browser."""
    with open_ledger(run_dir, memory=MEMORY) as con:
        facts = gather(run_dir, con)
        chosen = list(_with_texts(con, choose(con, traces=traces, seed=facts.config["seed"])))
        (samples,) = con.execute("select count(*) from samples where split = 'train'").fetchone() or (0,)
    html = (
        environment()
        .get_template("page.html")
        .render(
            **_words(facts, run_dir),
            facts=facts,
            run_dir=shlex.quote(str(run_dir)),
            plots={plot.name: plot for plot in _plots(facts)},
            chosen=chosen,
            trace_count=sum(len(traces) for part in chosen for _, traces in part["problems"]),
            sample_count=samples,
            **_assets(),
        )
    )
    path = run_dir / "report.html" if out is None else out
    write_text(path, html)
    return path


def _plots(facts: Facts) -> Iterator[Plot]:
    yield from held_out_plots(facts.dev or facts.test, chosen=chosen_round(facts), what=_group_name(facts))
    yield from problem_plots(facts)
    yield from training_plots(facts)
    yield from cost_plots(facts)
    yield from timeline_plots(facts.timeline)


def _words(facts: Facts, run_dir: Path) -> dict[str, Any]:
    """Return the texts and tables of the page."""
    by_reason: dict[tuple[str, str], dict[int, int]] = {}
    for reason in facts.reasons:
        by_reason.setdefault((reason.status, reason.reason), {})[reason.round] = reason.samples
    controls = facts.controls
    gates = [(report.round, report.gate) for report in facts.reports if report.gate is not None and report.round > 0]
    return {
        "verdicts": verdict_lines(facts.reports) if facts.reports else [],
        "tiles": list(tiles(facts)),
        "about": facts.config.get("about"),
        "crossing": _crossing(facts),
        "group_name": _group_name(facts),
        "group_note": _OF_DIFFICULTY if is_by_difficulty(facts.dev or facts.test) else "Per cent of samples right.",
        "gates": gates,
        "any_hints": any(report.hinted for report in facts.reports),
        "contributions": [] if controls is None else [*contribution_lines(controls), *unmatched_lines(controls)],
        "reason_rounds": sorted({reason.round for reason in facts.reasons}),
        "reason_rows": list(by_reason.items()),
        "command": command(facts.config, run_dir),
        "surroundings": [*(facts.config.get("machine") or {}).items(), *facts.config["versions"].items()],
    }


def command(config: Mapping[str, Any], run_dir: Path) -> str:
    """Return the command that runs the same config again, in another folder."""
    other = f"run_dir={config['run_dir']}-again" if config["run_dir"] else f"name={config['name']}-again"
    return f"star-rft run {shlex.quote(str(run_dir / 'config.yaml'))} {shlex.quote(other)}"


def _group_name(facts: Facts) -> str:
    return str(facts.config["eval"]["group_by"] or "difficulty")


def _crossing(facts: Facts) -> str:
    """Return from which k on the chosen model is below the first one, as a sentence."""
    found = facts.dev or facts.test
    later = next((measured for measured in found if measured.round == chosen_round(facts)), None)
    if later is None or later.round == found[0].round:
        return ""
    k = crossing(later, found[0])
    if k is None:
        return f" Round {later.round} is not below round {found[0].round} at any k drawn here."
    return f" From k={k} on round {later.round} is below round {found[0].round}."


def _with_texts(con: duckdb.DuckDBPyConnection, chosen: Sequence[ExampleKind]) -> Iterator[dict[str, Any]]:
    """Yield each kind with its problems and the traces of each that are shown."""
    ids = [problem for part in chosen for problem in part.samples]
    problems, traces = problems_of(con, ids), traces_of(con, ids)
    for part in chosen:
        rows = []
        for problem, must in part.samples.items():
            found = traces[problem]
            looks = [(trace.round, trace.status, trace.text) for trace in found]
            wanted = set(traces_to_show([trace.sample_id for trace in found], looks, must))
            rows.append((problems[problem], [trace for trace in found if trace.sample_id in wanted]))
        yield {"kind": part.kind, "problems": rows}


@cache
def _assets() -> dict[str, str]:
    """Return styles and scripts, and the hashes by which the page's own policy knows its scripts: no other may run."""
    from plotly.offline import get_plotlyjs

    style = "\n".join((TEMPLATES / name).read_text() for name in ("style.css", "traces.css", "page.css"))
    plotly, script = get_plotlyjs().replace("</script", "<\\/script"), (TEMPLATES / "page.js").read_text()
    return {"style": style, "plotly": plotly, "script": script, "script_hashes": " ".join(_hashes((plotly, script)))}


def _hashes(scripts: Iterable[str]) -> Iterator[str]:
    for script in scripts:
        yield f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


MINUTE, HOUR = 60, 3600


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with its name and what it means; `tone` is "good", "bad" or "" where it is neither."""

    name: str
    value: str
    more: str
    tone: str = ""


def chosen_round(facts: Facts) -> int:
    """Return the round whose model is the one to use: the gate's, else the newest."""
    if not facts.reports:
        return 0
    return round_to_use(facts.reports[-1])


def tiles(facts: Facts) -> Iterator[Tile]:
    """Yield the tiles at the top of the page; figures that were not measured have none."""
    by_round = {report.round: report for report in facts.reports}
    chosen = by_round.get(chosen_round(facts))
    scored = [report for report in facts.reports if report.held_out]
    if scored and chosen is not None and chosen.held_out is not None:
        yield from _scores(scored[0], chosen)
    trained = [report for report in facts.trained if report.unsolved_share_interval]
    if trained:
        first, last = trained[0], trained[-1]
        way = _way(first.unsolved_share_interval, last.unsolved_share_interval, ".1%")
        yield Tile("unsolved problems", way, f"{_rounds(first.round, last.round)}, of those sampled")
    tokens, seconds = sum(facts.tokens.values()), sum(sum(report.seconds.values()) for report in facts.reports)
    if tokens:
        yield Tile("cost", duration(seconds) if seconds else "-", f"{tokens:,} tokens sampled{_where(facts)}")
    if facts.unknown:
        yield Tile("unknown verdicts", f"{facts.unknown:,}", "the verifier failed there, not the model", "bad")


def _scores(base: RoundReport, chosen: RoundReport) -> Iterator[Tile]:
    before, after = base.held_out, chosen.held_out
    assert before is not None
    assert after is not None
    low, high = after.pass_at_1_interval.low, after.pass_at_1_interval.high
    yield Tile(
        "pass@1, held out",
        _way(before.pass_at_1_interval, after.pass_at_1_interval, ".3f"),
        f"[{low:.3f}, {high:.3f}] on {after.problems:,} problems",
    )
    change = after.vs_base
    if change is not None and chosen.round != base.round:
        tone = "good" if change.low > 0 else "bad" if change.high < 0 else ""
        interval = f"95% interval [{change.low:+.3f}, {change.high:+.3f}], paired"
        yield Tile("change", f"{change.value:+.3f}", interval, tone)
    largest = max(map(int, after.pass_at_k))
    if largest > 1 and str(largest) in before.pass_at_k:
        values = [scores.pass_at_k[str(largest)] for scores in (before, after)]
        yield Tile(f"pass@{largest}", f"{values[0]:.3f} → {values[1]:.3f}", "does it still find other solutions?")


def _way(before: Interval | None, after: Interval | None, form: str) -> str:
    assert before is not None
    assert after is not None
    if before == after:
        return f"{after.value:{form}}"
    return f"{before.value:{form}} → {after.value:{form}}"


def _rounds(first: int, last: int) -> str:
    return f"round {first}" if first == last else f"round {first} to {last}"


def _where(facts: Facts) -> str:
    machine = facts.config.get("machine") or {}
    return f" on {machine['device']}" if "device" in machine else ""


def duration(seconds: float) -> str:
    """Return "48 s", "2 min 6 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR:,} h {whole % HOUR // MINUTE} min"
