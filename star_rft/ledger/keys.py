"""Dedup keys, computed once when a trace is verified: traces with one key say the same."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass

from star_rft.types import digest
from verifiers.extraction.program import find_program
from verifiers.prose.equations import Equation, find_equations

KEY_VERSION = 2
# The verifiers whose completions are programs.
PROGRAM_VERIFIERS = frozenset({"code"})
TEXT_LIMIT = 200_000

_SPACE = re.compile(r"\s+")
_TIMES = re.compile(r"(?<=[\d)%])\s*[x×]\s*(?=[\d($])", re.IGNORECASE)
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_BRACED_NUMBER = re.compile(r"\(([\d.]+)\)")
_SPELLING = re.compile(r"[^\d.+\-*/^()=%≈]")


@dataclass(frozen=True, slots=True)
class Keys:
    """What is stored with a verdict. `invalid_steps`: the equations of the trace that do not hold."""

    text: str
    equations: str
    program: str
    invalid_steps: int


def keys_of(text: str, verifier: str) -> Keys:
    """Return the keys of a trace; each falls back to the text: nothing found must never be a key that many share."""
    by_text = digest("text", normalised(text))
    if verifier in PROGRAM_VERIFIERS:
        return Keys(by_text, by_text, program_key(text) or by_text, 0)
    found = list(find_equations(text[-TEXT_LIMIT:]))
    by_equations = digest("equations", equations(found)) if found else by_text
    return Keys(by_text, by_equations, by_text, sum(not equation.holds for equation in found))


def normalised(text: str) -> str:
    return _SPACE.sub(" ", text).strip().casefold()


def equations(found: list[Equation]) -> list[str]:
    """Return equations in order, without what is only spelling: spaces, units, currency, thousands.

    RFT's key (2308.01825, section 3.3) is the list of `<<a*b=c>>` annotations; here plain `a * b = c` and LaTeX
    count too.
    """
    plain = (_FRACTION.sub(r"(\1)/(\2)", equation.text).replace("{", "(").replace("}", ")") for equation in found)
    return [_BRACED_NUMBER.sub(r"\1", _SPELLING.sub("", _TIMES.sub("*", text))) for text in plain]


def program_key(text: str) -> str | None:
    """Return a key of the program in a text that its names, comments and layout do not change; None without one."""
    program = find_program(text)
    try:
        tree = ast.parse(program or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return digest("program", ast.dump(_RenamedNames().visit(tree))) if tree.body else None


class _RenamedNames(ast.NodeTransformer):
    """Numbers a program's own names in the order in which they occur; docstrings go.

    Builtins, attributes and what is imported keep their names. So do keyword arguments of calls, which may be
    another module's.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}
        self._kept = set(vars(builtins))

    def _number(self, name: str) -> str:
        return name if name in self._kept else self._numbers.setdefault(name, f"v{len(self._numbers)}")

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> ast.AST:
        self._kept |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        return node

    visit_ImportFrom = visit_Import

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._number(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._number(node.arg))  # annotations say nothing about what it computes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        node.name = self._number(node.name)
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        if not isinstance(node, ast.ClassDef):
            node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_ClassDef = visit_FunctionDef
