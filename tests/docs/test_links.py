"""Links lead somewhere, and what a page mentions exists: files, headings, commands, options."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from star_rft.cli import app
from star_rft.config.load import CHANGEABLE
from tests.docs.pages import PAGES, ROOT
from tests.small_runs import call

LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")
FENCES = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(
    r"`((?:benchmarks|examples|scripts|configs|tests|star_rft|verifiers|docs)/[\w./-]+?)(?:::\w+)?(?=[` ])"
)
# A command in a code span, or in an indented block.
SPAN = re.compile(r"`((?:star-rft|python -m verifiers) [^`\n]+(?:\n[^`\n]+)?)`", re.MULTILINE)
# The README is also the page of the package elsewhere, so that its links to files of the repository are absolute.
REPOSITORY = re.compile(
    r"https://(?:github\.com/star-rft/star-rft/blob|raw\.githubusercontent\.com/star-rft/star-rft)/main/"
)
SOURCE = re.compile(r'(?:src|srcset|href)="([^"\s]+)"')
INDENTED = re.compile(r"^    (star-rft (?:[^\n]*\\\n)*[^\n]+)", re.MULTILINE)
RECIPES = {path.stem for path in (ROOT / "configs").glob("*.yaml")}
# A page tells the reader to write it.
IMAGINED = {"verifiers/checks/acrostic.py"}


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCES.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def targets(page: Path) -> list[str]:
    """Return where a page's links lead and its pictures come from."""
    text = FENCES.sub("", page.read_text())
    return [*LINK.findall(text), *SOURCE.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in targets(page):
        inside = REPOSITORY.match(target)
        if inside is None and target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target[inside.end() if inside else 0 :].partition("#")
        file = ((ROOT if inside else page.parent) / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert lost == []


def test_the_links_and_pictures_of_the_readme_work_wherever_it_is_shown() -> None:
    found = targets(ROOT / "README.md")
    assert [target for target in found if not target.startswith(("https://", "#"))] == []
    pictures = [target for target in found if target.endswith(".png")]
    assert len(pictures) == 3
    assert all(target.startswith("https://raw.githubusercontent.com/") for target in pictures)


def test_the_readme_names_every_extra() -> None:
    text = (ROOT / "README.md").read_text()
    table = text.partition("| what it adds |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert named == set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_pictures_are_small_enough_to_be_fetched_with_the_page() -> None:
    large = {path.name: path.stat().st_size for path in (ROOT / "docs").glob("*.png")}
    small = {path.name: path.stat().st_size for path in (ROOT / "docs" / "report").glob("*.png")}
    assert len(large) == 6
    assert len(small) == 4
    assert max(large.values()) < 400_000
    assert max(small.values()) < 150_000


def test_every_page_is_on_the_map() -> None:
    found = targets(ROOT / "docs" / "README.md")
    linked = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in found if "://" not in target}
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
    known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(), re.MULTILINE)
    assert set(named) <= set(known)


def mentioned_runs() -> list[str]:
    """Return the runs of recipes that pages mention without running them; what has a placeholder is none."""
    found = [text for page in PAGES for text in [*SPAN.findall(page.read_text()), *INDENTED.findall(page.read_text())]]
    plain = {re.sub(r"\s*\\?\n\s*", " ", text) for text in found if text.startswith("star-rft run ")}
    return sorted(text for text in plain if text.split()[2] in RECIPES and "..." not in text and ".jsonl" not in text)


@pytest.mark.full
@pytest.mark.parametrize("command", mentioned_runs())
def test_a_run_that_a_page_mentions_could_begin(command: str, tmp_path: Path) -> None:
    done = call(*shlex.split(command)[1:], "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_may_change_in_a_run_is_what_the_page_says() -> None:
    page = (ROOT / "docs" / "faq.md").read_text()
    (said,) = re.findall(r"These may change in a run: (.*?)\.\s+To go on", page, re.DOTALL)
    kept = {"about", "name", "run_dir", "versions", "machine", "forked_from"}  # which name a run, or are found by it
    assert set(re.findall(r"`([\w.]+)`", said)) == CHANGEABLE - kept


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
