"""Dedup keys of a trace, computed once when it is verified: traces with equal keys are duplicates."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass

from star_rft.types import digest
from verifiers.extraction.program import find_program
from verifiers.prose.equations import Equation, find_equations

KEY_VERSION = 2  # to be raised with every change of what a key is
# The verifiers whose completions are programs.
PROGRAM_VERIFIERS = frozenset({"code"})
TEXT_LIMIT = 200_000  # characters from the end of a text in which equations are looked for

_SPACE = re.compile(r"\s+")
_TIMES = re.compile(r"(?<=[\d)%])\s*[x×]\s*(?=[\d($])", re.IGNORECASE)
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_BRACED_NUMBER = re.compile(r"\(([\d.]+)\)")
_SPELLING = re.compile(r"[^\d.+\-*/^()=%≈]")


@dataclass(frozen=True, slots=True)
class Keys:
    """Columns that are stored with a verdict: three keys, and the number of stated equations that are false."""

    text: str
    equations: str
    program: str
    invalid_steps: int


def keys_of(text: str, verifier: str) -> Keys:
    """Return the keys of a trace.

    Where a text has no equations, or no program, that key is the key of the text. Otherwise all such texts would count
    as duplicates of each other.
    """
    by_text = digest("text", _SPACE.sub(" ", text).strip().casefold())
    if verifier in PROGRAM_VERIFIERS:
        return Keys(by_text, by_text, program_key(text) or by_text, 0)
    found = list(find_equations(text[-TEXT_LIMIT:]))
    by_equations = digest("equations", equations(found)) if found else by_text
    return Keys(by_text, by_equations, by_text, sum(not equation.holds for equation in found))


def equations(found: list[Equation]) -> list[str]:
    """Return the equations in order, without spaces, units, currency signs and separators of thousands.

    RFT's key is the list of GSM8K's `<<a*b=c>>` annotations (arXiv 2308.01825, section 3.3); here plain `a * b = c`
    and LaTeX count too.
    """
    plain = (_FRACTION.sub(r"(\1)/(\2)", equation.text).replace("{", "(").replace("}", ")") for equation in found)
    return [_BRACED_NUMBER.sub(r"\1", _SPELLING.sub("", _TIMES.sub("*", text))) for text in plain]


def program_key(text: str) -> str | None:
    """Return a hash of the syntax tree of the program in a text; None without a program that can be parsed.

    Programs that differ in their own names, comments, docstrings, annotations and layout have one key.
    """
    program = find_program(text)
    try:
        tree = ast.parse(program or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return digest("program", ast.dump(_RenamedNames().visit(tree))) if tree.body else None


class _RenamedNames(ast.NodeTransformer):
    """Replaces a program's own names by numbers in the order in which they occur, and removes docstrings.

    Builtins, attributes and imported names stay. So do keyword arguments of calls, as the function that is called may
    be another module's.
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
        return ast.arg(self._number(node.arg))  # without its annotation, which does not change what is computed

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        node.name = self._number(node.name)
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        if not isinstance(node, ast.ClassDef):
            node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_ClassDef = visit_FunctionDef
