"""The documentation as tests see it: pages, and their fenced blocks with the invisible mark before each.

    ```bash       commands, which must succeed
    ```console    `$ command` with what it prints; `...` stands for anything, `^C` interrupts it there
    ```sql        a query over runs/quickstart; the ```text after it is its answer
    ```python     a program
    ```yaml       sections of a config
    ```json       lines of JSON

An HTML comment before a block says more: `<!-- file NAME -->` (the reader writes it there), `<!-- from PATH -->` (it
stands in that file of the repository, which the reader then has), `<!-- not run: REASON -->`, `<!-- exit N -->` (how
the last command ends), `<!-- begins TEXT -->` (only this beginning of its output is the same in every run).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Why a block may not be run here. Each stands for something that a test machine does not have.
REASONS = ("it installs", "it runs the tests", "it needs a GPU", "it needs the hub", "it is a fragment")

_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>[a-z]*)\n(?P<content>.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `mark` is the comment before it, "" without one; `line` is where the fence opens."""

    page: Path
    line: int
    language: str
    mark: str
    content: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def kind(self) -> str:
        return self.mark.partition(" ")[0].removesuffix(":")

    @property
    def argument(self) -> str:
        return self.mark.partition(" ")[2]

    @property
    def reason_not_run(self) -> str | None:
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else None


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page with the output that the page shows, None where it shows none."""

    text: str
    shown: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(Block(page, line, match["language"], match["mark"] or "", match["content"].rstrip("\n")))
    return found


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a bash or console block; comments and line ends with a backslash are taken away."""
    text = re.sub(r"\\\n\s*", "", block.content)
    if block.language == "bash":
        for line in text.splitlines():
            if bare := _without_comment(line):
                yield Command(bare, None)
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield Command(_without_comment(command), shown)


def _without_comment(line: str) -> str:
    """Drop a comment: a # that begins the line or stands after two spaces."""
    return re.sub(r"(^|\s{2,})#.*$", "", line).strip()


# What differs from run to run: ids, numbers, lengths of rules and paddings.
_ID = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b")
_NUMBER = re.compile(r"(?<![\w@.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?(?![\w@])")
_RULE = re.compile(r"[─━═-]{2,}")
# A run made small may end with another verdict than the one that a page shows.
_VERDICT = re.compile(r"^The model is (?:better|worse|not measurably different):")


def shape(line: str) -> str:
    """Return what a line of output has in common with that of another run: its words, in order."""
    line = _VERDICT.sub("The model is VERDICT:", line)
    line = _RULE.sub("-", _NUMBER.sub("N", _ID.sub("ID", line)))
    return " ".join(line.split())


def shapes(text: str) -> list[str]:
    return [found for line in text.splitlines() if (found := shape(line))]


def missing(shown: str, printed: str) -> list[str]:
    """Return the lines that a page shows and that were not printed, by their shape; `...` stands for anything."""
    there = shapes(printed)
    lost = []
    for line in shapes(shown):
        pattern = re.escape(line).replace(re.escape("..."), ".*")
        if line != "^C" and not any(re.fullmatch(pattern, other) for other in there):
            lost.append(line)
    return lost
