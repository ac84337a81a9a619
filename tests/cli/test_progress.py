"""What people see while a run goes on: bars in a terminal, lines elsewhere, results apart from progress."""

from __future__ import annotations

import io
import logging
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from star_rft.cli.app import results
from star_rft.cli.progress import Pace, TerminalProgress, in_words
from star_rft.cli.run import Page
from star_rft.report.tables import fitted, groups_table, round_lines, rounds_table, training_table
from star_rft.runs.reports import read_report
from star_rft.types import Interval, RoundReport
from tests.small_runs import call

NASTY = "a [red]run[/bold] of [link=x]:smile:"
SAMPLING = """
import sys
from star_rft.cli.app import progress_of
with progress_of("-q" in sys.argv, name="mine", rounds=2) as progress:
    with progress.sampling("sampling", 4, done=1, round_index=1) as watched:
        for _ in range(3):
            watched.drawn(10)
            watched.judged()
        import time; time.sleep(0.5)
    print("a verifier that prints")
print("the result")
"""


def in_a_terminal(code: str, **variables: str) -> str:
    """Run a program with a terminal for all that it writes, and return what it wrote."""
    plain = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")}
    ours, theirs = pty.openpty()
    environment = plain | {"TERM": "xterm-256color", "COLUMNS": "80"} | variables
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while block := read_block(ours):
            shown += block
        assert process.wait() == 0
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def read_block(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the last program has left the terminal
        return b""


def shown(progress: TerminalProgress) -> list[str]:
    """Return the display as it is now, a text a line."""
    lines = progress.console.render_lines(progress._display(), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


@pytest.fixture
def report(finished: Path) -> RoundReport:
    """A round's report with figures of our own: those of the run differ between processors."""
    found = read_report(finished / "rounds/002/metrics.json")
    assert found.held_out is not None
    assert found.gate is not None
    held_out = replace(
        found.held_out,
        pass_at_k=found.held_out.pass_at_k | {"1": 0.55},
        pass_at_1_interval=Interval(0.55, 0.375, 0.7),
        vs_base=Interval(0.05, -0.1, 0.2),
        vs_last=Interval(-0.15, -0.35, 0.05),
    )
    counts: dict[str, Any] = {"samples": 64, "correct": 56, "unknown": 0, "distinct": 18, "selected": 19}
    gate = found.gate | {"action": "keep", "warnings": [], "rolled_back": False}
    return replace(found, held_out=held_out, gate=gate, problems_sampled=16, unsolved=0, **counts)


def test_a_terminal_shows_bars_and_leaves_only_what_is_done() -> None:
    text = in_a_terminal(SAMPLING)
    assert "mine, round 1 of 2" in text
    assert "4 of 4" in text
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there again
    assert "round 1: sampling: 4 (1 of them before) in 0." in text


@pytest.mark.parametrize("variables", [{"CI": "true"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_bars_gets_plain_lines(variables: Mapping[str, str]) -> None:
    text = in_a_terminal(SAMPLING, **variables)
    assert "\x1b" not in text
    assert text.splitlines()[0].startswith("  round 1: sampling: 4 (1 of them before) in 0.")
    assert text.splitlines()[1:] == ["a verifier that prints", "the result"]


def test_progress_and_what_others_print_go_to_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", SAMPLING], capture_output=True, text=True, check=True)
    assert done.stdout == "the result\n"
    assert done.stderr.count("\n") == 2
    quiet = subprocess.run([sys.executable, "-c", SAMPLING, "-q"], capture_output=True, text=True, check=True)
    assert (quiet.stdout, quiet.stderr) == ("the result\n", "")


def test_a_quiet_run_says_nothing_but_its_result(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    done = call("run", str(run), "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Did it get better?" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Report: ")


def test_names_and_texts_are_shown_as_they_are_never_as_markup() -> None:
    progress = TerminalProgress(console(120), is_live=True, name=NASTY)
    with progress.sampling(NASTY, 2) as watched:
        watched.drawn(3)
        display = "\n".join(shown(progress))
        assert display.count(NASTY) == 2
    progress.say(NASTY)
    assert isinstance(progress.console.file, io.StringIO)
    assert progress.console.file.getvalue().count(NASTY) >= 2


def test_groups_that_a_user_named_are_shown_as_they_are(
    report: RoundReport, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.held_out is not None
    named = replace(report, held_out=replace(report.held_out, by_group={"[red]easy[/red]": 0.5, ":x:": 0.25}))
    table = groups_table([named], "[bold]steps")
    assert table is not None
    results().print(table)
    out = capsys.readouterr().out
    for text in ("[red]easy[/red]", ":x:", "[bold]steps"):
        assert text in out


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_display_never_wraps(width: int) -> None:
    progress = TerminalProgress(console(width), is_live=True, name="a-rather-long-name-of-a-run", rounds=12)
    with progress.sampling("trying temperatures", 4_000_000, round_index=11) as watched:
        for row in (watched.drawing, watched.verifying):
            row.pace.began = row.token_pace.began = row.pace.began - 1000
            row.move(1_234_567, 99_999_999)
        watched.judged()
        lines = shown(progress)
    assert len(lines) == 3
    assert max(map(len, lines[1:])) <= width - (len("^C^C") if width > 40 else 0)  # a terminal writes that there, too
    assert "1,234,567 of" in lines[1]
    assert ("━" in lines[1]) == (width >= 70)


def test_sampling_and_verification_stand_side_by_side() -> None:
    progress = TerminalProgress(console(100), is_live=True, name="mine", rounds=3)
    with progress.sampling("sampling", 8, round_index=2) as watched:
        for _ in range(4):
            watched.drawn(25)
        watched.judged()
        head, drawing, verifying = shown(progress)
    assert "mine, round 2 of 3" in head
    assert "4 of 8" in drawing
    assert "tokens/s" in drawing
    assert drawing.endswith("left")
    assert "1 of 8" in verifying
    assert "3 queued" in verifying


def test_a_training_that_is_resumed_is_timed_by_its_own_steps() -> None:
    progress = TerminalProgress(console(100), is_live=True)
    with progress.training("training", round_index=1) as on_step:
        on_step(91, 100, 0.5, 1000.0, 1e-4)
        (row,) = progress._rows
        row.pace.began -= 10  # ten seconds for one step, so ninety for nine
        assert row.left == "1 min 30 s left"
        assert "91 of 100" in shown(progress)[1]
        assert "loss 0.500, 1,000 tokens/s" in shown(progress)[1]


def test_a_log_gets_a_line_now_and_then_with_the_time_left() -> None:
    progress = TerminalProgress(Console(file=io.StringIO(), width=80), is_live=False, name="mine", rounds=4)
    with progress.sampling("sampling", 100, done=50, round_index=2) as watched:
        for row in (watched.drawing, watched.verifying):
            row.pace.began = row.token_pace.began = row.pace.began - 25
        progress._said -= 25
        for _ in range(25):
            watched.drawn(10)
            watched.judged()
    assert isinstance(progress.console.file, io.StringIO)
    first, last = progress.console.file.getvalue().splitlines()
    assert first.startswith("round 2 of 4: sampling: 51 of 100, 0 tokens/s, verifying 0/s, 0 queued, ")
    assert first.endswith(" min left")
    assert last.startswith("  round 2: sampling: 75 (50 of them before) in ")


def test_a_rate_follows_the_last_half_minute() -> None:
    pace = Pace(began=0.0)
    for second in range(1, 101):
        pace.mark(float(second), second if second <= 60 else 60 + 10 * (second - 60))
    assert pace.speed(100.0, 460) == pytest.approx(10.0, rel=0.05)


def test_a_rate_after_a_pause_counts_the_pause() -> None:
    pace = Pace(began=0.0)
    pace.mark(40.0, 400)
    pace.mark(140.0, 900)
    assert pace.speed(140.1, 900) == pytest.approx(5.0, rel=0.01)


def test_durations_are_as_exact_as_an_estimate() -> None:
    assert [in_words(s) for s in (0.2, 59, 61, 599, 3_599, 7_300)] == [
        "1 s",
        "59 s",
        "1 min 1 s",
        "9 min 59 s",
        "59 min",
        "2 h 1 min",
    ]


def test_what_is_left_of_a_run_follows_from_its_finished_rounds(report: RoundReport) -> None:
    progress = TerminalProgress(console(100), is_live=True, name="mine", rounds=4)
    progress.known([replace(report, round=number, seconds={"train": 60.0}) for number in range(3)])
    head = shown(progress)[0]
    assert "mine, round 3 of 4" in head
    assert "about 2 min" in head


def test_a_round_is_summed_up_in_a_few_lines(report: RoundReport) -> None:
    first, changes, trained = round_lines(report, rounds=2)
    assert first.startswith("round 2 of 2: pass@1 0.550 [0.375, 0.700], gate: keep, ")
    assert changes == "  +0.050 [-0.10, +0.20] since the start, -0.150 [-0.35, +0.05] since the last"
    assert trained == "  56 of 64 correct, 18 distinct, 19 trained on, 0 of 16 unsolved"


def test_its_lines_break_between_statements_and_say_why_a_round_was_rolled_back(report: RoundReport) -> None:
    gate = {
        "action": "roll_back",
        "rule": "pass@1 fell " + "by a lot " * 12,
        "warnings": ["[dim]er"],
        "rolled_back": True,
    }
    lines = round_lines(replace(report, gate=gate), rounds=2, width=60)
    assert max(map(len, lines)) <= 60
    assert "  +0.050 [-0.10, +0.20] since the start," in lines
    assert "    -0.150 [-0.35, +0.05] since the last" in lines
    assert "gate: roll back" in lines[0]
    assert lines[-1] == "  gate: [dim]er"


@pytest.mark.parametrize("width", [50, 60, 80])
def test_tables_leave_columns_out_before_they_cut_numbers(width: int, finished: Path) -> None:
    reports = [read_report(path) for path in sorted(finished.glob("rounds/*/metrics.json"))]
    to = Console(file=io.StringIO(), width=width, color_system=None)
    for table in (rounds_table(reports), training_table(reports)):
        assert table is not None
        to.print(fitted(table, to))
    assert isinstance(to.file, io.StringIO)
    text = to.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert ("greedy" in text) == (width == 80)
    assert "change of pass@1" in text


def test_a_page_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = Page(tmp_path)
    page.refresh()
    assert page.path is None
    (line,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert line.startswith(f"WARNING: the report of {tmp_path} was not written (")
    assert f"star-rft report {tmp_path}" in line


@pytest.mark.full
def test_a_page_that_takes_long_is_written_less_often(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    written: list[Any] = []
    for limit in (1000.0, 0.0):
        monkeypatch.setattr("star_rft.cli.run.LONG_FOR_PAGE", limit)
        page = Page(run)
        for _ in range(2):
            (run / "report.html").unlink(missing_ok=True)
            page.refresh()
            written.append((run / "report.html").exists())
    assert written == [True, True, True, False]


def test_each_piece_of_work_has_a_display_where_none_is_kept_for_all() -> None:
    progress = TerminalProgress(console(80), is_live=True)
    for title in ("scoring", "verifying again"):
        with progress.stage(title, 2) as advance:
            advance(1, 0)
            assert progress._live is not None
            assert progress._live.is_started
        assert progress._live is None
