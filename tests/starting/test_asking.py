"""`star-rft init` in a terminal: what it asks, what it proposes, and that a wrong answer is asked for again."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from star_rft import config as configs
from tests.jsonl import write_jsonl
from tests.runs import command, environment
from tests.starting.files import stories

SECONDS = 120.0
END = "\x04"  # Ctrl-D


def talk(answers: Sequence[tuple[str, str]], *arguments: str, cwd: Path) -> tuple[int, str]:
    """Run init in a pseudo-terminal and answer what it asks: (the end of a question, the line to type).

    Returns its status and all that was shown. An answer is typed once its question stands last on the screen.
    """
    master, slave = pty.openpty()
    environ = environment() | {"TERM": "xterm", "COLUMNS": "80"}
    running = subprocess.Popen(
        command("init", *arguments), cwd=cwd, env=environ, stdin=slave, stdout=slave, stderr=slave, close_fds=True
    )
    os.close(slave)
    shown, seen, waiting, deadline = "", 0, list(answers), time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    shown += os.read(master, 4096).decode()
                except OSError:  # the other end is closed
                    break
            if waiting and plain(shown[seen:]).rstrip().endswith(waiting[0][0]):
                seen = len(shown)
                os.write(master, f"{waiting.pop(0)[1]}\n".encode())
        assert not waiting, f"was not asked {waiting[0][0]!r}: {plain(shown)}"
        return running.wait(timeout=10), plain(shown)
    finally:
        running.kill()
        running.wait()
        os.close(master)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


@pytest.mark.full
def test_every_proposal_can_be_taken_with_the_enter_key(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "shop.jsonl", stories(40))
    answers = [("Data [word_problems]:", "shop.jsonl"), ("Is that right? [Y/n]:", ""), ("Verifier [math]:", "")]
    answers += [("folder or a hub name) [tiny]:", ""), ("Name of the run [shop]:", "")]
    status, shown = talk(answers, cwd=tmp_path)
    assert status == 0, shown
    assert "Wrote shop.yaml." in shown
    assert "star-rft run shop.yaml --dry-run" in shown
    assert configs.load(tmp_path / "shop.yaml").verifier.name == "math"


@pytest.mark.full
def test_a_wrong_answer_is_told_and_asked_again_and_columns_can_be_changed(tmp_path: Path) -> None:
    rows = [{"story": row["story"], "result": row["result"], "other": row["result"] + 1} for row in stories(40)]
    write_jsonl(tmp_path / "shop.jsonl", rows)
    (tmp_path / "taken.yaml").write_text("")
    answers = [
        ("Data [word_problems]:", "shopp.jsonl"),
        ("Data [word_problems]:", "shop.jsonl"),
        ("Is that right? [Y/n]:", "n"),
        ("Which column is the question? [story]:", ""),
        ("Which column is the answer? [result]:", "othr"),
        ("Which column is the answer? [result]:", "other"),
        ("Which column is the worked solution, - for none? [-]:", ""),
        ("Is that right? [Y/n]:", "y"),
        ("Verifier [math]:", "maths"),
        ("Verifier [math]:", "numeric"),
        ("hub name) [tiny]:", "./nowhere"),
        ("hub name) [tiny]:", "tiny"),
        ("Name of the run [shop]:", "taken"),
        ("Name of the run [shop]:", "mine"),
    ]
    status, shown = talk(answers, cwd=tmp_path)
    assert status == 0, shown
    said = " ".join(shown.split())
    assert "shopp.jsonl: no such file" in said
    assert "no column 'othr'; there are story, result, other" in said
    assert "unknown verifier 'maths' (did you mean 'math'?)" in said
    assert "./nowhere: no such model folder" in said
    assert "taken.yaml: is there already" in said
    config = configs.load(tmp_path / "mine.yaml")
    assert (config.name, config.verifier.name) == ("mine", "numeric")
    assert config.data.train is not None
    assert config.data.train.columns == {"prompt": "story", "reference": "other"}


@pytest.mark.full
def test_columns_that_nobody_can_guess_are_asked_for(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"a": "x", "b": i} for i in range(3)])
    answers = [("Which column is the question?:", "a"), ("Which column is the answer?:", "b")]
    answers += [("for none? [-]:", "-"), ("Is that right? [Y/n]:", END)]
    status, shown = talk(answers, "a.jsonl", cwd=tmp_path)
    assert status != 0
    assert "no column looks like a question" in shown
    assert "Traceback" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.full
def test_yes_asks_nothing_in_a_terminal_either(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "shop.jsonl", stories(40))
    status, shown = talk([], "shop.jsonl", "--yes", cwd=tmp_path)
    assert status == 0, shown
    assert "[Y/n]" not in shown
    assert (tmp_path / "shop.yaml").exists()
