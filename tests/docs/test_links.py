"""Links lead somewhere, and what a page mentions exists: files, headings, commands, options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from star_rft.cli import app
from tests.docs.pages import PAGES, ROOT

LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")
FENCES = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`((?:benchmarks|scripts|configs|tests|star_rft|verifiers|docs)/[\w./-]+?)(?:::\w+)?(?=[` ])")
# A command in a code span, or in an indented block.
SPAN = re.compile(r"`((?:star-rft|python -m verifiers) [^`\n]+(?:\n[^`\n]+)?)`", re.MULTILINE)
INDENTED = re.compile(r"^    (star-rft (?:[^\n]*\\\n)*[^\n]+)", re.MULTILINE)
# A page tells the reader to write it.
IMAGINED = {"verifiers/checks/acrostic.py"}


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCES.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in LINK.findall(FENCES.sub("", page.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert lost == []


def test_pictures_are_small_enough_to_be_fetched_with_the_page() -> None:
    large = {path.name: path.stat().st_size for path in (ROOT / "docs").glob("*.png")}
    small = {path.name: path.stat().st_size for path in (ROOT / "docs" / "report").glob("*.png")}
    assert len(large) == 2
    assert len(small) == 4
    assert max(large.values()) < 400_000
    assert max(small.values()) < 150_000


def test_every_page_is_on_the_map() -> None:
    targets = LINK.findall((ROOT / "docs" / "README.md").read_text())
    linked = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in targets if "://" not in target}
    assert [page.name for page in PAGES if page not in linked and page.parent.name == "docs"] == ["README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = set(FILE.findall(page.read_text())) - IMAGINED
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_mentions_exists_with_its_options(page: Path) -> None:
    text, wrong = page.read_text(), []
    for found in [*SPAN.findall(text), *INDENTED.findall(text)]:
        words = shlex.split(re.sub(r"\\?\n\s*", " ", found), comments=True)
        if words[0] == "star-rft" and (problem := fault(words[1:])):
            wrong.append(f"{' '.join(words)}: {problem}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_that_a_page_names_exists(page: Path) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^|`)make (\w+)", page.read_text(), re.MULTILINE)
    assert set(named) <= set(targets)


def fault(words: list[str]) -> str | None:
    """Say what is wrong with the words after `star-rft`; placeholders such as RUN are fine."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for text in " ".join(map(shlex.quote, words)).split(" '|' "):  # "sample | verify | select RUN" names several
        name, *rest = shlex.split(text)
        command = root.commands.get(name)
        if command is None:
            return None if name.startswith("-") else f"there is no command {name!r}"
        options = {"--help"}.union(*([*given.opts, *given.secondary_opts] for given in command.params))
        unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options]
        if unknown:
            return f"no option {unknown[0]}"
    return None
