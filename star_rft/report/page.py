"""One self-contained HTML page about a run, from the run folder alone; also for a run still going."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft import record
from star_rft.files import RunError, write_text
from star_rft.folder import RunFolder
from star_rft.ledger import Ledger
from star_rft.report.terminal import verdict_lines
from star_rft.types import RoundReport

if TYPE_CHECKING:
    import plotly.graph_objects as go

TEMPLATES = Path(__file__).parent / "templates"
TRACES_SHOWN = 24
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe-Ito: colour-blind safe


def write_page(run_dir: Path) -> Path:
    """Write report.html into the run folder and return its path."""
    folder = RunFolder(run_dir)
    reports = [record.read(folder.metrics(number)) for number in folder.finished_rounds()]
    if not reports:
        raise RunError(f"{run_dir}: no round is finished yet, so there is nothing to report")
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    con = Ledger(run_dir).connect()
    html = environment.get_template("page.html").render(
        name=run_dir.name,
        reports=reports,
        ks=sorted({int(k) for report in reports for k in report.pass_at_k}),
        groups=_groups(reports),
        verdicts=verdict_lines(reports),
        plot=_html(_plot(reports), is_first=True),
        heatmap=_html(heatmap(reports), is_first=False),
        reasons=con.execute(
            "select round, status, reason, count(*) as n from traces where split = 'train'"
            " group by all order by round, status, reason"
        ).fetchall(),
        traces=_traces(con, reports[-1].round),
        config=folder.config.read_text(),
    )
    path = run_dir / "report.html"
    write_text(path, html)
    return path


def _html(figure: go.Figure, *, is_first: bool) -> str:
    html: str = figure.to_html(full_html=False, include_plotlyjs=is_first, config={"displayModeBar": False})
    return html


def _groups(reports: list[RoundReport]) -> list[str]:
    scored = [report.held_out for report in reports if report.held_out]
    return list(scored[0].by_group) if scored else []


def _plot(reports: list[RoundReport]) -> go.Figure:
    """Held-out pass@1 with its interval, pass@k, greedy, and the share of prompts without survivors."""
    import plotly.graph_objects as go

    scored = [(report.round, report.held_out) for report in reports if report.held_out]
    rounds = [number for number, _ in scored]
    figure = go.Figure()
    ks = sorted({int(k) for _, scores in scored for k in scores.pass_at_k})
    for colour, k in zip(COLOURS, ks, strict=False):
        values = [scores.pass_at_k[str(k)] for _, scores in scored]
        bars = None
        if k == 1:
            intervals = [scores.pass_at_1_interval for _, scores in scored]
            bars = {
                "type": "data",
                "symmetric": False,
                "array": [interval.high - interval.value for interval in intervals],
                "arrayminus": [interval.value - interval.low for interval in intervals],
            }
        figure.add_scatter(x=rounds, y=values, name=f"pass@{k}", error_y=bars, line={"color": colour})
    # Of the prompts that the round sampled, which may be fewer than there are.
    trained = [(report.round, report.no_survivors_interval.value) for report in reports if report.no_survivors_interval]
    figure.add_scatter(
        x=[number for number, _ in trained],
        y=[share for _, share in trained],
        name="train prompts without survivors",
        line={"color": "#7f7f7f", "dash": "dot"},
    )
    figure.update_xaxes(title="round", dtick=1)
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    figure.update_layout(
        template="plotly_white",
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        height=380,
        legend={"orientation": "h", "y": -0.2},
    )
    return figure


def heatmap(reports: list[RoundReport]) -> go.Figure:
    """Held-out pass@1 of each group, a row, in each round, a column."""
    import plotly.graph_objects as go

    scored = [(str(report.round), report.held_out.by_group) for report in reports if report.held_out]
    groups = _groups(reports)
    # Shares in whole per cent: a cell holds a short number, and the page need not round.
    cells = [[100 * by_group[group] if group in by_group else None for _, by_group in scored] for group in groups]
    figure = go.Figure(
        go.Heatmap(
            x=[number for number, _ in scored],
            y=groups,
            z=cells,
            zmin=0,
            zmax=100,
            texttemplate="%{z:.0f}",
            colorscale="Blues",
            xgap=1,
            ygap=1,
            colorbar={"ticksuffix": "%", "outlinewidth": 0},
            hovertemplate="group %{y}, round %{x}: %{z:.1f}%<extra></extra>",
        )
    )
    figure.update_xaxes(title="round", type="category", showgrid=False)
    # Groups are names, also where they look like numbers; the first one stands at the top, as in the table.
    figure.update_yaxes(title="group", type="category", autorange="reversed", showgrid=False)
    figure.update_layout(
        template="plotly_white", margin={"l": 50, "r": 10, "t": 10, "b": 40}, height=120 + 32 * len(groups)
    )
    return figure


def _traces(con: Any, round: int) -> list[dict[str, Any]]:
    """A few traces of the last round, correct ones and others in turn, the same ones each time."""
    query = (
        "select t.problem_id, t.prompt, t.reference, t.text, t.answer, t.status, t.reason,"
        " coalesce(s.why, '') as why from traces t left join selection s"
        " on s.sample_id = t.sample_id and s.in_round = ? where t.split = 'train' and t.round = ?"
        " qualify row_number() over (partition by t.status, s.why order by t.sample_id) <= 6"
        f" order by t.status, s.why, t.sample_id limit {TRACES_SHOWN}"
    )
    rows: list[dict[str, Any]] = con.sql(query, params=[round, round]).to_arrow_table().to_pylist()
    return rows
