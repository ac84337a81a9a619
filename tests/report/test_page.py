from __future__ import annotations

import json
import re
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_rft.errors import RunError
from star_rft.ledger import Ledger
from star_rft.report import tables
from star_rft.report.data import gather, open_ledger
from star_rft.report.page import command, write_page
from star_rft.report.plots.held_out import by_group
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report
from tests.report.plot_names import PLOTS
from tests.small_ledgers import commit, sample, verdict


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to change."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    return copy


def plots(html: str) -> dict[str, dict[str, Any]]:
    found = re.findall(r'<script type="application/json" id="plot-([a-z_]+)">(.*?)</script>', html)
    return {name: json.loads(text) for name, text in found}


def without_rounds_after(run: Path, last: int) -> None:
    for path in run.glob("rounds/*"):
        if int(path.name) > last:
            shutil.rmtree(path)


def test_the_page_is_one_self_contained_file_with_every_plot(finished: Path) -> None:
    html = (finished / "report.html").read_text()
    assert set(plots(html)) == PLOTS
    assert "Did it get better?" in html
    assert 'src="http' not in html
    assert "<link rel=stylesheet" not in html
    assert "default-src 'none'" in html


def test_every_plot_stands_beside_its_numbers(finished: Path) -> None:
    html = (finished / "report.html").read_text()
    assert html.count('<details class="numbers">') == len(PLOTS)
    reports = [read_report(path) for path in sorted(finished.glob("rounds/*/metrics.json"))]
    for report in reports:
        assert report.held_out is not None
        assert f"<td>{report.held_out.pass_at_1_interval}</td>" in html


def test_the_headline_says_how_much_better_and_how_sure(finished: Path) -> None:
    html = (finished / "report.html").read_text()
    last = read_report(finished / "rounds/002/metrics.json").held_out
    assert last is not None
    assert last.vs_base is not None
    head = html.split('<div class="tiles">')[1].split("</header>")[0]
    assert f"{last.vs_base.value:+.3f}" in head
    assert f"[{last.vs_base.low:+.3f}, {last.vs_base.high:+.3f}], paired" in head
    assert "tokens sampled on " in head


def test_the_heatmap_has_a_row_a_group_and_a_column_a_round(finished: Path) -> None:
    with open_ledger(finished, memory="1GB") as con:
        facts = gather(finished, con)
    (cells,) = by_group(facts.dev, what="steps").figure.data
    assert list(cells.x) == ["0", "1", "2"]
    assert facts.reports[0].held_out is not None
    assert list(cells.y) == list(facts.reports[0].held_out.by_group)
    for report in facts.reports:
        assert report.held_out is not None
        shares = [100 * share for share in report.held_out.by_group.values()]
        assert [row[report.round] for row in cells.z] == pytest.approx(shares)


def test_problems_without_groups_are_grouped_by_difficulty(run: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in run.glob("rounds/*/eval.parquet"):
        table = pq.read_table(path)
        nothing = pa.nulls(len(table), pa.string())
        pq.write_table(table.set_column(table.column_names.index("group"), "group", nothing), path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["eval"]["group_by"] = None
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    html = write_page(run).read_text()
    assert "pass@1 by difficulty" in html
    assert "sorted by luck as well as by difficulty" in html


def test_a_share_that_are_unsolved_is_of_the_problems_that_were_sampled(run: Path) -> None:
    for path in run.rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        if metrics["round"]:
            metrics |= {"problems": 10_000, "problems_sampled": 16, "unsolved": 4}
            path.write_text(json.dumps(metrics))
    (solved, _) = plots(write_page(run).read_text())["coverage"]["data"]
    assert solved["y"] == [0.75, 0.75]


def test_a_model_that_was_rolled_back_is_not_the_headline(run: Path) -> None:
    path = run / "rounds/002/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["gate"] |= {"action": "roll_back", "rolled_back": True, "model_round": 1, "rule": "pass@1 fell"}
    path.write_text(json.dumps(metrics))
    before = json.loads((run / "rounds/001/metrics.json").read_text())["held_out"]["vs_base"]["value"]
    html = write_page(run).read_text()
    assert f"{before:+.3f}" in html.split('<div class="tiles">')[1].split("</header>")[0]
    assert "roll back</span>" in html
    assert "round 1 (the one to use)" in html


def test_a_run_that_was_broken_off_says_where_and_how_it_goes_on(run: Path) -> None:
    without_rounds_after(run, 1)
    html = write_page(run).read_text()
    assert "This run is not finished: round 2 of 2: sampling" in html
    assert f"<code>star-rft run {run}</code>" in html


def test_a_run_that_has_only_begun_has_a_page(run: Path) -> None:
    shutil.rmtree(run / "rounds")
    shutil.rmtree(run / "ledger")
    html = write_page(run).read_text()
    assert "round 0, the model that it starts from" in html
    assert not plots(html)


def test_what_is_no_run_folder_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        write_page(tmp_path)


def test_text_of_a_model_is_escaped_wherever_it_stands(run: Path) -> None:
    text = "<script>alert('from a trace')</script></pre><img src=x onerror=alert(1)>"
    ledger = Ledger(run, is_writer=True)
    ((problem,),) = ledger.connect().sql("select min(problem_id) from problems where split = 'train'").fetchall()
    commit(ledger, "hostile", [(sample(problem, 99, text, round_index=2), verdict("unknown", text))])
    html = write_page(run).read_text()
    assert "&lt;script&gt;alert(" in html
    for hostile in ("<script>alert", "<img src=x"):
        assert hostile not in html


def test_a_plot_cannot_end_its_script(run: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in run.glob("rounds/*/eval.parquet"):
        table = pq.read_table(path)
        groups = pa.array(["</script><script>alert(1)</script>"] * len(table))
        pq.write_table(table.set_column(table.column_names.index("group"), "group", groups), path)
    html = write_page(run).read_text()
    assert "<script>alert(1)" not in html
    (cells,) = plots(html)["by_group"]["data"]
    assert cells["y"] == ["</script><script>alert(1)</script>"]


def test_so_many_traces_are_shown_as_are_asked_for(run: Path) -> None:
    counts = [write_page(run, traces=wanted).read_text().count("<div data-trace ") for wanted in (0, 12, 40)]
    assert counts[0] == 0
    assert 6 <= counts[1] <= 18
    assert counts[1] < counts[2]


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    assert write_page(run).read_bytes() == write_page(run).read_bytes()


def test_the_command_runs_the_config_beside_the_run_that_is_there() -> None:
    named = {"name": "a b", "run_dir": None}
    assert command(named, Path("runs/a b")) == "star-rft run 'runs/a b/config.yaml' 'name=a b-again'"
    placed = {"name": "x", "run_dir": "elsewhere/x"}
    assert command(placed, Path("elsewhere/x")) == "star-rft run elsewhere/x/config.yaml run_dir=elsewhere/x-again"


def test_the_tables_fit_into_80_columns_and_say_whether_it_got_better(finished: Path) -> None:
    from rich.console import Console

    folder = RunFolder(finished)
    reports = [read_report(folder.metrics(number)) for number in folder.finished_rounds()]
    console = Console(width=80, record=True, file=StringIO())
    printed = [
        tables.rounds_table(reports),
        tables.training_table(reports),
        tables.groups_table(reports, "steps"),
    ]
    for table in printed:
        console.print(table)
    text = console.export_text()
    assert "…" not in text
    for column in ("pass@1", "greedy", "change of pass@1", "unsolved", "trained on"):
        assert column in text
    assert "held-out pass@1" in " ".join(tables.verdict_lines(reports))
