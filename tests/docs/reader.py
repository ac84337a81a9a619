"""A reader who does what a page says, block by block, in a folder of their own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import duckdb

from star_rft.ledger import Ledger
from tests.docs import shell
from tests.docs.pages import Block, Command, commands, missing
from tests.paths import ROOT

# What makes the runs of the pages small. Each takes every later command of the same run with it.
SHORT = "train.epochs=1 sample.max_tokens=64 eval.max_tokens=64"
SMALL = "rounds=2 data.train.options.n=24 data.dev.options.n=8 eval.kl_traces=4 train.epochs=1"
SMALLER = (
    (r"star-rft run quickstart .*options\.n=", ""),
    (
        r"star-rft run quickstart name=warmer ",
        f"rounds=1 data.train.options.n=12 data.dev.options.n=8 eval.kl_traces=0 {SHORT}",
    ),
    (r"star-rft run (quickstart|configs/quickstart\.yaml)(?= |$)", SMALL),
    (
        r"star-rft run shop\.yaml(?= |$)",
        f"rounds=1 data.train.limit=24 data.dev.limit=8 sample.unit=64 eval.kl_traces=0 {SHORT}",
    ),
    (
        r"star-rft run mine\.yaml(?= |$)",
        f"rounds=1 data.train.limit=16 data.dev.limit=6 data.test.limit=6 eval.kl_traces=0 {SHORT}",
    ),
    (r"star-rft (bench|best-of-n) ", "--limit 8"),
    (r"star-rft controls ", "--only random"),
    (r"star-rft view ", "--no-open --port 0"),
)
# The same command without the installation before it.
INSTEAD = {"make demo": f"star-rft run quickstart {SMALL}"}
INTERRUPTED = 130
LANGUAGES = ("bash", "console", "sql", "python", "yaml", "json", "text")

CHECK = """
import yaml

from star_rft import config as configs
from star_rft.build.problems import verifier_of

some = {"name": "x", "rounds": 0, "data": {"train": "words", "dev": "words"}}
verifier_of(configs.load(some | yaml.safe_load(text)))
"""


class PageError(AssertionError):
    """A page says what is not so; the text names page and line."""


@dataclass(slots=True)
class Reader:
    folder: Path

    def follow(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if block.reason_not_run is None:
                self._do(block)

    def _do(self, block: Block) -> None:
        if block.kind == "file":
            path = self.folder / block.argument
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.content + "\n")
        elif block.kind == "from":
            path = ROOT / block.argument
            if block.content not in path.read_text():
                raise PageError(f"{block.where}: does not stand in {block.argument}:\n{block.content}")
            shutil.copy(path, self.folder / path.name)
        act = {
            "bash": self._run_all,
            "console": self._run_all,
            "python": self._python,
            "yaml": self._config,
            "json": self._json,
        }.get(block.language)
        if act is not None and block.kind not in ("file", "from"):
            act(block)

    def _run_all(self, block: Block) -> None:
        found = list(commands(block))
        if not found:
            raise PageError(f"{block.where}: holds no command")
        for number, command in enumerate(found, start=1):
            before = _before_interrupt(command.shown)
            wanted = INTERRUPTED if before else 0
            if block.kind == "exit" and number == len(found):
                wanted = int(block.argument)
            self._run(block, command, wanted, before)

    def _run(self, block: Block, command: Command, wanted: int, before: str | None) -> None:
        added = _smaller(command.text)
        text = INSTEAD.get(command.text, f"{command.text} {added}".rstrip())
        done = shell.run(text, self.folder, interrupt_after=before)
        printed = (done.out + done.err).replace(f" {added}", "") if added else done.out + done.err
        if done.status != wanted:
            raise PageError(
                f"{block.where}: {command.text}\nended with {done.status}, not {wanted}:\n{printed[-3000:]}"
            )
        if command.shown is None:
            return
        if command.text.startswith("star-rft sql ") and done.status == 0:
            if header(command.shown) != header(printed):
                raise PageError(f"{block.where}: {command.text}\nshows other columns than\n{printed}")
            return
        if block.kind == "begins":
            if not (command.shown.startswith(block.argument) and done.out.startswith(block.argument)):
                raise PageError(f"{block.where}: {command.text}\nbegins otherwise:\n{printed}")
        elif lost := missing(command.shown, printed):
            raise PageError(f"{block.where}: {command.text}\nprinted no line like\n" + "\n".join(lost) + f"\n{printed}")

    def _python(self, block: Block) -> None:
        self._program(block, block.content + "\n")

    def _config(self, block: Block) -> None:
        """Hold sections of a config against what a config may be, and its names against what there is."""
        self._program(block, f"text = {block.content!r}\n{CHECK}")

    def _program(self, block: Block, text: str) -> None:
        done = shell.run_python(text, self.folder)
        if done.status:
            raise PageError(f"{block.where}: ended with {done.status}:\n{done.err[-3000:]}")

    def _json(self, block: Block) -> None:
        for line in block.content.splitlines():
            json.loads(line)


def answers(blocks: Sequence[Block]) -> Iterator[tuple[Block, Block]]:
    """Yield each query of a page with the block that shows its answer."""
    for block, after in pairwise(blocks):
        if block.language == "sql":
            if after.language != "text":
                raise PageError(f"{block.where}: no answer in a text block follows this query")
            yield block, after


def answer(run: Path, query: str) -> duckdb.DuckDBPyRelation:
    """Ask a ledger as `star-rft sql` does."""
    return Ledger(run).connect().sql(query)


def header(shown: str) -> list[str]:
    """Return the column names of a table as DuckDB draws it."""
    line = shown.splitlines()[1]
    return [cell.strip() for cell in line.strip("│").split("│")]


def _smaller(command: str) -> str:
    """Return what is added to a command so that it takes seconds."""
    if "--dry-run" in command:
        return ""
    return next((overrides for pattern, overrides in SMALLER if re.match(pattern, command)), "")


def _before_interrupt(shown: str | None) -> str | None:
    """Return the line after which a reader presses Ctrl-C, where the page shows that."""
    if shown is None or "^C" not in shown.splitlines():
        return None
    lines = shown.splitlines()
    return lines[lines.index("^C") - 1]
