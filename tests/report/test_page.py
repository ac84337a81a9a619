from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest

from star_rft import record
from star_rft.files import RunError
from star_rft.folder import RunFolder
from star_rft.ledger import Ledger
from star_rft.report import terminal
from star_rft.report.page import heatmap, write_page
from tests.ledgers import commit, sample, verdict


def test_the_page_is_one_self_contained_file_with_every_round(finished: Path) -> None:
    html = (finished / "report.html").read_text()
    assert html.count("<tr><td>") >= 3
    assert "Held-out scores by round" in html
    assert 'src="http' not in html
    assert "<link" not in html


def test_the_heatmap_has_a_row_a_group_and_a_column_a_round(finished: Path) -> None:
    folder = RunFolder(finished)
    reports = [record.read(folder.metrics(number)) for number in folder.finished_rounds()]
    (cells,) = heatmap(reports).data
    assert list(cells.x) == ["0", "1", "2"]
    assert reports[0].held_out is not None
    assert list(cells.y) == list(reports[0].held_out.by_group)
    for report in reports:
        assert report.held_out is not None
        shares = [100 * share for share in report.held_out.by_group.values()]
        assert [row[report.round] for row in cells.z] == pytest.approx(shares)
    html = (finished / "report.html").read_text()
    assert "Held-out pass@1 by group" in html
    assert "group %{y}" in html


def test_prompts_without_survivors_are_a_share_of_those_sampled(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for path in run.rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        if metrics["round"]:
            metrics |= {"problems": 10_000, "no_survivors": 3}
            metrics["no_survivors_interval"] = {"value": 0.75, "low": 0.5, "high": 1.0}
            path.write_text(json.dumps(metrics))
    html = write_page(run).read_text()
    assert "<td>3 of 16\n(75%)</td>" in html
    assert "10000" not in html.split("Held-out scores by round")[1].split("</table>")[0].split("<table>")[1]


def test_without_groups_there_is_no_heatmap(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for path in run.rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        metrics["held_out"]["by_group"] = {}
        path.write_text(json.dumps(metrics))
    html = write_page(run).read_text()
    assert "by group" not in html
    assert "group %{y}" not in html


def test_text_of_a_model_is_escaped(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    text = "<script>alert('from a trace')</script>"
    ledger = Ledger(run, is_writer=True)
    ((problem,),) = ledger.connect().sql("select min(problem_id) from problems where split = 'train'").fetchall()
    commit(ledger, "hostile", [(sample(problem, 99, text, round=2), verdict("unknown", None))])
    html = write_page(run).read_text()
    assert text not in html
    assert "&lt;script&gt;alert(" in html


def test_a_run_without_a_finished_round_has_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no round is finished"):
        write_page(tmp_path)


def test_the_tables_fit_into_80_columns_and_say_whether_it_got_better(finished: Path) -> None:
    from rich.console import Console

    folder = RunFolder(finished)
    reports = [record.read(folder.metrics(number)) for number in folder.finished_rounds()]
    console = Console(width=80, record=True, file=StringIO())
    tables = [
        terminal.rounds_table(reports),
        terminal.training_table(reports),
        terminal.groups_table(reports, "steps"),
    ]
    for table in tables:
        console.print(table)
    text = console.export_text()
    assert "…" not in text
    for column in ("pass@1", "greedy", "change of pass@1", "no survivors", "trained on"):
        assert column in text
    assert "held-out pass@1" in " ".join(terminal.verdict_lines(reports))
