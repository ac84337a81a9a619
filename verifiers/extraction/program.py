"""Extracts the Python program of a completion: all of it, or a fenced block in prose."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Iterator, Sequence

from verifiers.extraction.answer import TEXT_LIMIT, visible

# Possessive (`*+`), so that a line of 200,000 backticks costs no more than its length.
_FENCE = re.compile(
    r"^[ \t]*+(?P<mark>```++|~~~++)[ \t]*+(?:\{[ \t]*+)?\.?(?P<tag>[\w+-]*+)[^\n]*+\n"
    r"(?P<body>.*?)(?:^[ \t]*+(?P=mark)[ \t\r]*+$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_FENCE_LINE = re.compile(r"^[ \t]*+(?:```|~~~)", re.MULTILINE)
_PYTHON_TAGS = ("python", "py", "python3", "py3")
_CODE_START = re.compile(
    r"^(?:from|import|def|class|async def|if|for|while|try|with|print)\b|^[@#]|^\w+\s*=", re.MULTILINE
)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
# Most cuts at a syntax error before a text counts as no program; and the characters that all of its parsing may cover.
_CUTS_LIMIT, _PARSED_LIMIT = 20, 500_000
# Fences inside strings of a program that are tried as part of it.
_FENCES_LIMIT = 8


def find_program(completion: str, *, name: str | None = None, prompt: str = "") -> str | None:
    r"""Return the program of a completion, or None where there is none.

        >>> verifiers.find_program("Here it is:\n```python\nx = 1\n```")
        'x = 1\n'

    Args:
        completion: The text of a completion.
        name: The function or class that the program must define: of several fenced blocks the last one that defines
            it is taken, else the last.
        prompt: The problem's text. Where it is Python, as in HumanEval, the program is put after it, for it may need
            its imports or continue its last function.
    """
    # Where the whole text is a program, a fence in it is part of a string.
    is_bare = len(completion) <= TEXT_LIMIT and _parses(completion)
    text = completion if is_bare else visible(completion)
    if text is None:
        return None
    blocks = [] if is_bare else list(_FENCE.finditer(text))
    program = _chosen(text, blocks, name) if blocks else text
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


def _chosen(text: str, blocks: list[re.Match[str]], name: str | None) -> str:
    python = (
        [block for block in blocks if block["tag"].lower() in _PYTHON_TAGS]
        or [block for block in blocks if not block["tag"]]
        or blocks
    )
    at = next((i for i in reversed(range(len(python))) if _defines(python[i]["body"], name)), len(python) - 1)
    program = next(filter(_parses, _readings(text, python[at])), None)
    if program is None:
        return _cut(_dedented(python[at]["body"])) or _dedented(python[at]["body"])
    return _with_helpers(program, [_dedented(block["body"]) for block in python[:at]])


def _readings(text: str, block: re.Match[str]) -> Iterator[str]:
    """Yield what a block may be: up to its closing fence, up to a mark inside it, up to each later fence.

    A later one closes it where the fences before are parts of a string in the program.
    """
    yield _dedented(block["body"])
    yield _dedented(block["body"].partition(block["mark"])[0])
    start = block.start("body")
    for number, fence in enumerate(_FENCE_LINE.finditer(text, block.end())):
        if number == _FENCES_LIMIT or fence.start() - start > _PARSED_LIMIT // _FENCES_LIMIT:
            return
        yield _dedented(text[start : fence.start()])


def _dedented(body: str) -> str:
    body = body.replace("\r\n", "\n")
    return textwrap.dedent(body) if len(body.strip().splitlines()) > 1 else body


def _with_helpers(program: str, earlier: Sequence[str]) -> str:
    """Return a program after those of the earlier blocks that define names which it reads and does not bind."""
    earlier = [block for block in earlier if _parses(block)]
    if not earlier:
        return program
    used, bound = _names(program)
    missing = used - bound - vars(builtins).keys()
    return "\n\n".join([*(block for block in earlier if _names(block)[1] & missing), program])


def _names(program: str) -> tuple[set[str], set[str]]:
    """Return (names that a program reads, names that it binds anywhere)."""
    used: set[str] = set()
    bound: set[str] = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return used, bound


def _defines(program: str, name: str | None) -> bool:
    if name is None:
        return True
    first = re.escape(name.partition(".")[0].removesuffix("()"))
    return (
        re.search(rf"^[ \t]*(?:(?:async[ ]+)?def|class)[ ]+{first}\b|^{first}[ ]*=", program, re.MULTILINE) is not None
    )


def _continued(prompt: str, program: str, name: str | None) -> str:
    """Return the prompt and the program after it, which is a whole function or the body of the prompt's last one."""
    first = "".join(line.rstrip("\n") + "\n" for line in _FUTURE.findall(program))  # only allowed at the top
    prompt, program = first + prompt, _FUTURE.sub("", program)
    whole = f"{prompt.rstrip()}\n\n{program}" if _defines(program, name) else f"{prompt}{program}"
    return whole if _parses(whole) else _cut(whole) or whole


def _without_prose(text: str) -> str | None:
    """Return the code in a text without fences: from the first line that looks like code to where it stops parsing."""
    start = _CODE_START.search(text)
    if start is None:
        return None
    # A text that begins like code but does not parse is a broken program, which is more than no program.
    return _cut(text[start.start() :]) or (text if start.start() == 0 else None)


def _cut(text: str) -> str | None:
    """Return a text cut before the line of its syntax error, repeatedly, until it parses; None if nothing is left."""
    for _ in range(min(_CUTS_LIMIT, 1 + _PARSED_LIMIT // (len(text) + 1))):
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
