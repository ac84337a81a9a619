"""The Python program in a completion: the completion itself, or a fenced block in it, with or without prose."""

from __future__ import annotations

import ast
import re
import textwrap

from verifiers.extract import visible

_FENCE = re.compile(
    r"^[ \t]*(?P<mark>```+|~~~+)[ \t]*(?P<tag>[\w+-]*)[^\n]*\n(?P<body>.*?)(?:^[ \t]*(?P=mark)[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_PYTHON_TAGS = ("python", "py", "python3", "Python")
_CODE_START = re.compile(
    r"^(?:from|import|def|class|async def|if|for|while|try|with|print)\b|^[@#]|^\w+\s*=", re.MULTILINE
)
# A text that is cut this often and still no program is none.
_CUTS_LIMIT = 20


def find_program(completion: str, *, name: str | None = None, prompt: str = "") -> str | None:
    """Return the program of a completion, or None where there is none.

    Of several fenced blocks the last that defines `name` counts, else the last. A `prompt` that is itself Python (a
    HumanEval problem) comes first: it holds the imports, and what a bare function body continues.
    """
    is_bare = _parses(completion)  # then a fence in it is part of a string
    text = completion if is_bare else visible(completion)
    if text is None:
        return None
    blocks = [] if is_bare else list(_FENCE.finditer(text))
    program = _chosen(blocks, name) if blocks else text
    if not program.strip():
        return None
    if prompt and (_parses(prompt) or not _defines(program, name)):
        return _continued(prompt, program, name)
    return program if is_bare or blocks or _parses(program) else _without_prose(program)


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _chosen(blocks: list[re.Match[str]], name: str | None) -> str:
    python = (
        [block for block in blocks if block["tag"] in _PYTHON_TAGS] or [b for b in blocks if not b["tag"]] or blocks
    )
    bodies = [
        textwrap.dedent(block["body"]) if len(block["body"].strip().splitlines()) > 1 else block["body"]
        for block in python
    ]
    return next((body for body in reversed(bodies) if _defines(body, name)), bodies[-1])


def _defines(program: str, name: str | None) -> bool:
    if name is None:
        return True
    first = re.escape(name.partition(".")[0].removesuffix("()"))
    return (
        re.search(rf"^[ \t]*(?:(?:async[ ]+)?def|class)[ ]+{first}\b|^{first}[ ]*=", program, re.MULTILINE) is not None
    )


def _continued(prompt: str, program: str, name: str | None) -> str:
    """Return the prompt and what follows it, a whole function or the body of the prompt's last one."""
    whole = f"{prompt.rstrip()}\n\n{program}" if _defines(program, name) else f"{prompt}{program}"
    return whole if _parses(whole) else _cut(whole) or whole


def _without_prose(text: str) -> str | None:
    """Return the code in a text without fences: from the first line that looks like code to where it stops parsing."""
    start = _CODE_START.search(text)
    if start is None:
        return None
    # What begins as code and is none is a broken program, not the lack of one.
    return _cut(text[start.start() :]) or (text if start.start() == 0 else None)


def _cut(text: str) -> str | None:
    """Cut a text at its first line that is no Python, again and again until the rest is a program."""
    for _ in range(_CUTS_LIMIT):
        try:
            ast.parse(text)
        except SyntaxError as error:
            lines = text.splitlines(keepends=True)
            at = min((error.lineno or 1) - 1, len(lines) - 1)
            text = "".join(lines[:at])
        except (ValueError, RecursionError, MemoryError):
            return None
        else:
            return text if text.strip() else None
    return None
