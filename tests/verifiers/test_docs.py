"""docs/verifiers.md lists what there is. `python -m tests.verifiers.test_docs` writes its list anew."""

from __future__ import annotations

import re
from pathlib import Path

import verifiers
from verifiers import registry

PAGE = Path(verifiers.__file__).parent.parent / "docs" / "verifiers.md"
LIST = re.compile(r"(?<=<!-- builtins -->\n).*(?=<!-- /builtins -->)", re.DOTALL)


def list_of_verifiers() -> str:
    """Return the page's list: what each docstring says, and the options."""
    parts = []
    for name in registry.VERIFIERS.builtin_names():
        check = verifiers.get(name)
        text = re.sub(r"\n    ", "\n", (check.function.__doc__ or "").strip())
        text = re.sub(r"^(?=`\w+`: )", "- ", text, flags=re.MULTILINE)  # one line an option is a list
        options = ", ".join(f"`{key}={value!r}`" for key, value in check.options.items())
        parts.append(f"### {name}\n\n{text}\n\nOptions: {options or 'none'}\n")
    return "\n".join(parts)


def test_the_table_of_reasons_is_whole() -> None:
    rows = re.findall(r"^\| (correct|incorrect|unknown) \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(reason for _, reason in rows) == sorted(verifiers.REASONS)
    assert {status for status, _ in rows} == set(verifiers.STATUSES)


def test_the_list_of_verifiers_is_what_their_docstrings_say() -> None:
    found = LIST.search(PAGE.read_text())
    assert found
    assert found[0] == list_of_verifiers(), "run: python -m tests.verifiers.test_docs"


if __name__ == "__main__":
    PAGE.write_text(LIST.sub(lambda _: list_of_verifiers(), PAGE.read_text()))
