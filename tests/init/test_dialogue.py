"""`star-rft init` in a terminal: what it asks, what it proposes, and that a wrong answer is asked for again."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from star_rft import config as configs
from tests.init.files import stories
from tests.jsonl import write_jsonl
from tests.small_runs import status_of

SECONDS = 60.0  # in which nothing is shown
END = "\x04"  # Ctrl-D


def talk(answers: Sequence[tuple[str, str]], *arguments: str, cwd: Path) -> tuple[int, str]:
    """Run init in a pseudo-terminal and answer what it asks: (the end of a question, the line to type).

    Returns its status and all that was shown. An answer is typed once its question stands last on the screen.
    """
    ours, theirs = pty.openpty()
    typist = Typist(ours, list(answers))
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name in ("CI", "NO_COLOR"):
            patch.delenv(name, raising=False)
        for name, value in (("TERM", "xterm"), ("COLUMNS", "80")):
            patch.setenv(name, value)
        for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            patch.setattr(sys, stream, stack.enter_context(open(os.dup(theirs), mode)))
        typist.start()
        status = status_of("init", *arguments, cwd=cwd)
    os.close(theirs)
    typist.join()
    os.close(ours)
    assert not typist.answers, f"was not asked {typist.answers[0][0]!r}: {plain(typist.shown)}"
    return status, plain(typist.shown)


class Typist(threading.Thread):
    """Reads a terminal until its program has left it, or asks what it has no answer to for too long."""

    def __init__(self, terminal: int, answers: list[tuple[str, str]]) -> None:
        super().__init__(daemon=True)
        self.terminal, self.answers, self.shown = terminal, answers, ""

    def run(self) -> None:
        seen = 0
        with suppress(OSError):  # the other end is closed
            while select.select([self.terminal], [], [], SECONDS)[0]:
                self.shown += os.read(self.terminal, 4096).decode()
                if self.answers and plain(self.shown[seen:]).rstrip().endswith(self.answers[0][0]):
                    seen = len(self.shown)
                    os.write(self.terminal, f"{self.answers.pop(0)[1]}\n".encode())
            os.write(self.terminal, END.encode())


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


def test_every_proposal_can_be_taken_with_the_enter_key(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "shop.jsonl", stories(40))
    answers = [("Data [word_problems]:", "shop.jsonl"), ("Is that right? [Y/n]:", ""), ("Verifier [math]:", "")]
    answers += [("folder or a hub name) [tiny]:", ""), ("Name of the run [shop]:", "")]
    status, shown = talk(answers, cwd=tmp_path)
    assert status == 0, shown
    assert "Wrote shop.yaml." in shown
    assert "star-rft run shop.yaml --dry-run" in shown
    assert configs.load(tmp_path / "shop.yaml").verifier.name == "math"


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


def test_columns_that_nobody_can_guess_are_asked_for(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"a": "x", "b": i} for i in range(3)])
    answers = [("Which column is the question?:", "a"), ("Which column is the answer?:", "b")]
    answers += [("for none? [-]:", "-"), ("Is that right? [Y/n]:", END)]
    status, shown = talk(answers, "a.jsonl", cwd=tmp_path)
    assert status != 0
    assert "no column looks like a question" in shown
    assert "Traceback" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_yes_asks_nothing_in_a_terminal_either(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "shop.jsonl", stories(40))
    status, shown = talk([], "shop.jsonl", "--yes", cwd=tmp_path)
    assert status == 0, shown
    assert "[Y/n]" not in shown
    assert (tmp_path / "shop.yaml").exists()
