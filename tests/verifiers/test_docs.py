"""docs/verifiers.md says what is true. `python tests/verifiers/test_docs.py` writes its list of verifiers anew."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

import verifiers
from verifiers import registry
from verifiers.__main__ import main

ROOT = Path(verifiers.__file__).parent.parent
PAGE = ROOT / "docs" / "verifiers.md"
BLOCK = re.compile(r"<!-- ([a-z-]+) ?([^ ]*) -->\n```[a-z]+\n(.*?)\n```", re.DOTALL)
LIST = re.compile(r"(?<=<!-- builtins -->\n).*(?=<!-- /builtins -->)", re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    """Return (argument, content) of the blocks of code that carry this mark."""
    return [(argument, content) for mark, argument, content in BLOCK.findall(PAGE.read_text()) if mark == kind]


def list_of_verifiers() -> str:
    """Return the page's list: what each docstring says, and the options."""
    parts = []
    for name in registry.builtin_names():
        check = verifiers.get(name)
        text = re.sub(r"\n    ", "\n", (check.function.__doc__ or "").strip())
        text = re.sub(r"^(?=`\w+`: )", "- ", text, flags=re.MULTILINE)  # one line an option is a list
        options = ", ".join(f"`{key}={value!r}`" for key, value in check.options.items())
        parts.append(f"### {name}\n\n{text}\n\nOptions: {options or 'none'}\n")
    return "\n".join(parts)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, as the reader has it."""
    for name, content in blocks("file"):
        (tmp_path / name).write_text(content + "\n")
    (tmp_path / "acrostic.py").write_text((Path(__file__).parent / "acrostic.py").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_of_the_page_stands_in_tests() -> None:
    found = blocks("from")
    assert len(found) == 3
    for path, content in found:
        assert content in (ROOT / path).read_text(), f"not in {path}:\n{content}"


def test_the_commands_of_the_page_print_what_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = blocks("run")
    assert len(found) == 4
    for _, content in found:
        command, _, expected = content.partition("\n")
        words = shlex.split(command.removeprefix("$ "))
        assert words[:3] == ["python", "-m", "verifiers"]
        status = main([*words[3:], "--workers", "1"])
        out, err = capsys.readouterr()
        printed = err if status else re.sub(r'"seconds": [\d.e-]+', '"seconds": ...', out)
        assert printed.strip() == expected


def test_the_python_of_the_page_runs(folder: Path) -> None:
    ((_, content),) = blocks("run-python")
    exec(compile(content, str(PAGE), "exec"), {})


def test_the_configs_of_the_page_load() -> None:
    problem_sets, configs = pytest.importorskip("star_rft.problem_sets"), pytest.importorskip("star_rft.config")
    found = blocks("config")
    assert len(found) == 2
    for _, content in found:
        problem_sets.check_verifier(
            configs.load({"name": "x", "rounds": 0, "data": {"dev": "words"}} | yaml.safe_load(content))
        )


def test_the_table_of_reasons_is_whole() -> None:
    rows = re.findall(r"^\| (correct|incorrect|unknown) \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(reason for _, reason in rows) == sorted(verifiers.REASONS)
    assert {status for status, _ in rows} == set(verifiers.STATUSES)


def test_the_list_of_verifiers_is_what_their_docstrings_say() -> None:
    found = LIST.search(PAGE.read_text())
    assert found
    assert found[0] == list_of_verifiers(), "run: python tests/verifiers/test_docs.py"


def test_the_files_of_the_page_are_json_lines() -> None:
    for _, content in blocks("file"):
        assert all(set(json.loads(line)) == {"id", "completion", "reference"} for line in content.splitlines())


if __name__ == "__main__":
    PAGE.write_text(LIST.sub(lambda _: list_of_verifiers(), PAGE.read_text()))
