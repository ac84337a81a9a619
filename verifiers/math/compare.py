r"""Compares structured answers: lists, sets, tuples, intervals, matrices, equations, inequalities, `\pm`.

`same_answer` takes cleaned text and returns True, False, or None where these rules cannot tell.
"""

from __future__ import annotations

import cmath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from verifiers.math import algebra, identity, literals
from verifiers.math.conventions import DEFAULT, Conventions
from verifiers.math.latex import TEXT_CLOSE, TEXT_OPEN, squeeze
from verifiers.math.literals import is_words, same_words, same_written
from verifiers.math.numbers import Numeral, gives, is_rounding, parse_numeral, same_number
from verifiers.math.units import NONE as NO_UNIT
from verifiers.math.units import Unit, parse_unit, same_unit

_DEPTH_LIMIT = 6
_PARTS_LIMIT = 120

_MATRIX = re.compile(
    r"\\begin\s?\{(?:[pbvBV]?matrix|array)\}\s?(?:\{[lcr| ]*\})?(.*?)\\end\s?\{(?:[pbvBV]?matrix|array)\}", re.DOTALL
)
# The left side of "x_1 = 5": letters with subscripts, f(x), \angle ABC, AB, A^{-1}, ratios of such names.
_NAME = re.compile(
    r"\(?(?:[a-zA-Z](?:_\{?\w+\}?)?'?|\\[a-zA-Z]+(?:_\{?\w+\}?)?)(?:,[a-zA-Z](?:_\{?\w+\}?)?)*\)?"
    r"|(?:[a-zA-Z]|\\[a-zA-Z]+)_?\w?'{0,2}\([\w,]{1,8}\)"
    r"|\|?\\?(?:overline|angle|triangle|mathbf|vec|widehat)?\{?[A-Z]{1,4}\}?\|?"
    r"|[A-Z]\^\{-1\}|\\frac\{[A-Z]{1,3}\}\{[A-Z]{1,3}\}|[A-Za-z]\w{0,6}:[A-Za-z]\w{0,6}"
    r"|[A-Z]_?\{?\w{0,6}\}?:[A-Z]_?\{?\w{0,6}\}?"
)
_MEMBERSHIP = re.compile(r"^\s*[a-zA-Z]\s?\\in\s?(?=\\\{)")
_TUPLE_NAME = re.compile(r"\(([a-zA-Z](?:,[a-zA-Z])+)\)")
_JOINERS = re.compile(rf"{TEXT_OPEN}\s?,?\s?(?:and|or)\s?,?\s?{TEXT_CLOSE}|\s?,?\s(?:and|or)\s|(?<=\d)or(?=[A-Za-z]\W)")
_AMOUNTS = re.compile(r"(?<![\d.])(\d{1,15}(?:\.\d+)?)\s?([a-z]{1,12})\.?(?:\s?,?\s?(?:and\s)?|$)", re.IGNORECASE)
# \mathrm{e} is the letter e; after a number it would be a unit.
_UPRIGHT = re.compile(rf"(?<![\d\s]){TEXT_OPEN}([A-Za-z]){TEXT_CLOSE}")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Scope:
    """The conventions of a comparison, and how deep inside an answer it is: lists hold tuples, tuples hold values."""

    rules: Conventions = DEFAULT
    depth: int = 0

    def inside(self) -> Scope:
        """Return the scope for the parts of an answer."""
        return Scope(self.rules, self.depth + 1)


_TOP = Scope()


def same_answer(reference: str, answer: str, scope: Scope = _TOP) -> bool | None:
    """Whether two cleaned answers are the same: True, False, or None where these rules cannot tell."""
    if scope.depth > _DEPTH_LIMIT:
        return None
    left, right = squeeze(reference), squeeze(answer)
    if not right:
        return False
    if left == right:
        return True
    numbers = parse_numeral(reference), parse_numeral(answer)
    if numbers[0] and numbers[1]:
        return same_number(numbers[0], numbers[1], scope.rules)
    written = same_written(reference, answer)
    if written is not None:
        return written
    # The order matters: "x = (1, 2)" is an equation before it is a tuple, and "1 < x < 3" a range before a list.
    for rule in (_same_amounts, _same_matrix, _same_equation, _same_range, _same_collection):
        verdict = rule(reference, answer, scope)
        if verdict is not None:
            return verdict
    if is_words(reference) or is_words(answer):
        return same_words(reference, answer, case=scope.rules.case_sensitive)
    return _same_value(reference, answer, scope.rules)


def _same_amounts(reference: str, answer: str, scope: Scope) -> bool | None:
    """Compare amounts in several units, as "3 hours and 30 minutes", unit by unit."""
    amounts = [_amounts(text) for text in (reference, answer)]
    if amounts[0] is None and amounts[1] is None:
        return None
    if amounts[0] is None or amounts[1] is None or len(amounts[0]) != len(amounts[1]):
        return False
    pairs = zip(amounts[0], amounts[1], strict=True)
    return all(a.unit.known == b.unit.known and same_number(a, b, scope.rules) for a, b in pairs)


def _amounts(text: str) -> list[Numeral] | None:
    plain = text.replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").strip()
    found = [f"{match[1]} {match[2]}" for match in _AMOUNTS.finditer(plain)]
    if len(found) < 2 or _AMOUNTS.sub("", plain).strip():
        return None
    amounts = [parse_numeral(part) for part in found]
    return [a for a in amounts if a] if all(a is not None and a.unit.known for a in amounts) else None


def _same_matrix(reference: str, answer: str, scope: Scope) -> bool | None:
    rows = []
    for text in (reference, answer):
        match = _MATRIX.search(text)
        # A matrix with a factor or a power is left to the last tier.
        outside = text[: match.start()] + text[match.end() :] if match else ""
        if match is None or squeeze(outside).strip("()[]{}"):
            return None
        rows.append([[cell.strip() for cell in row.split("&")] for row in match[1].split("\\\\") if row.strip()])
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    cells = [[cell for row in matrix for cell in row] for matrix in rows]
    return _same_in_order(cells[0], cells[1], scope)


def _split(text: str, separators: str) -> list[str]:
    """Split at separators outside all brackets."""
    parts, start, level = [], 0, 0
    for i, char in enumerate(text):
        if char in "([{":
            level += 1
        elif char in ")]}":
            level -= 1
        elif char in separators and level == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return parts


def _same_equation(reference: str, answer: str, scope: Scope) -> bool | None:
    sides = [_equation_sides(text) for text in (reference, answer)]
    if len(sides[0]) == 1 and len(sides[1]) == 1:
        return None
    if "" in (*sides[0], *sides[1]):
        return False
    if (named := _same_named_values(reference, answer, scope)) is not None:
        return named
    if any(_is_bare_list(text) for text in (reference, answer)):
        return None  # a list of equations is compared as a list
    (*left_names, left), (*right_names, right) = sides
    if any(_contradicts(names, value) for names, value in ((left_names, left), (right_names, right))):
        return False
    if not left_names or not right_names:
        names, stated = (left_names, left) if left_names else (right_names, right)
        if _is_name(names[0]) and scope.rules.names:
            return same_answer(left, right, scope.inside())
        # "2+1=3" states 3, if it is true.
        is_true = same_answer(names[-1], stated, scope.inside())
        return same_answer(left, right, scope.inside()) if is_true else False
    if _is_name(left_names[0]) and _is_name(right_names[0]):
        if squeeze(left_names[0]) == squeeze(right_names[0]):
            return same_answer(left, right, scope.inside())
        if not _free_symbols(left) and not _free_symbols(right):
            return False  # x=5 is not y=5
    return _same_up_to_scale(sides[0], sides[1])


def _is_bare_list(text: str) -> bool:
    return text[:1] not in "([{" and len(_items(text)) > 1 and parse_numeral(text) is None


def _contradicts(names: Sequence[str], value: str) -> bool:
    """Whether an equation contradicts itself, as x = 42 = 43 does."""
    stated = parse_numeral(value)
    middle = [parse_numeral(name) for name in names[1:]]
    return stated is not None and any(number is not None and not same_number(stated, number) for number in middle)


def _same_named_values(reference: str, answer: str, scope: Scope) -> bool | None:
    """Compare (x,y) = (1,2) with x = 1, y = 2; None unless the two answers are one of each form."""
    tuples = [_named_values(text) for text in (reference, answer)]
    if (tuples[0] is None) == (tuples[1] is None):
        return None
    listed = _items(answer if tuples[0] else reference)
    if not all("=" in part for part in listed):
        return None
    return _same_unordered(tuples[0] or listed, tuples[1] or listed, scope)


def _named_values(text: str) -> list[str] | None:
    names, equals, values = squeeze(text).partition("=")
    match = _TUPLE_NAME.fullmatch(names)
    if not equals or match is None or not _is_one_group(values):
        return None
    pairs = match[1].split(","), _split(values[1:-1], ",;")
    return [f"{name}={value}" for name, value in zip(*pairs, strict=True)] if len(pairs[0]) == len(pairs[1]) else None


def _equation_sides(text: str) -> list[str]:
    if re.search(r"[<>!]=|=>|\\(?:le|ge|ne)(?![a-z])|<|>|\\begin", text):
        return [text]
    return _split(text, "=")


def _is_name(side: str) -> bool:
    bare = side.replace("\\overline", "").replace("m\\angle", "\\angle").replace("\\angle", "").strip()
    return _NAME.fullmatch(squeeze(bare)) is not None or is_words(side)


def _free_symbols(text: str) -> frozenset[str]:
    try:
        return algebra.symbols(algebra.parse(text))
    except algebra.UnsupportedSyntax:
        return frozenset(["?"])


def _same_up_to_scale(first: Sequence[str], second: Sequence[str]) -> bool | None:
    """Whether two equations are equal: left minus right of one is a constant times left minus right of the other."""
    if len(first) != 2 or len(second) != 2:
        return None
    try:
        trees = [("-", algebra.parse(a), algebra.parse(b)) for a, b in (first, second)]
        return identity.same_up_to_scale(*trees)
    except algebra.UnsupportedSyntax:
        return None


def _same_range(reference: str, answer: str, scope: Scope) -> bool | None:
    """Compare intervals, their unions, and inequalities in one unknown."""
    if not literals.is_range(reference) and not literals.is_range(answer):
        return None
    left, right = literals.pieces(reference), literals.pieces(answer)
    if left is None or right is None:
        return None
    unknowns = literals.unknown_of(reference), literals.unknown_of(answer)
    if None not in unknowns and unknowns[0] != unknowns[1]:
        return False  # x > 3 is not y > 3
    return _same_unordered(left, right, scope) if len(left) == len(right) else False


def _same_collection(reference: str, answer: str, scope: Scope) -> bool | None:
    left, right = _collection(reference), _collection(answer)
    if left is None and right is None:
        return None
    kinds = [parsed[0] if parsed else "" for parsed in (left, right)]
    parts = [parsed[1] if parsed else [text] for parsed, text in ((left, reference), (right, answer))]
    if max(map(len, parts)) > _PARTS_LIMIT:
        return None
    # A tuple or interval keeps its order and its brackets; lists and braces are sets unless the rules order them.
    ordered = [kind for kind in kinds if kind and kind != "set"]
    if ordered:
        if kinds[0] != kinds[1]:
            return False  # a tuple is neither a list nor an interval, nor (0,1) the same as [0,1)
        return _same_in_order(parts[0], parts[1], scope) if len(parts[0]) == len(parts[1]) else False
    if scope.rules.ordered:
        return _same_in_order(parts[0], parts[1], scope) if len(parts[0]) == len(parts[1]) else False
    # Parts may be named or not: "x = 1 and x = 2" equals "1, 2".
    return _same_unordered(parts[0], parts[1], scope)


def _collection(text: str) -> tuple[str, list[str]] | None:
    """Return ("set", parts) of a list or braces, (the brackets, parts) of a tuple or interval; None for one value."""
    text = _MEMBERSHIP.sub("", text.strip())
    if text.startswith("\\{") and text.endswith("\\}"):
        return "set", _items(text[2:-2])
    if text[:1] in _CLOSERS and text[-1:] in ")]}" and len(_split(text, ",;")) == 1 and _is_one_group(text):
        inner = _split(text[1:-1], ",;")
        if text[0] == "{":
            return ("set", inner) if len(inner) > 1 else None
        return (text[0] + text[-1], inner) if len(inner) > 1 else None
    parts = _items(text) if parse_numeral(text) is None else []  # 12,345 is one number
    return ("set", parts) if len(parts) > 1 or "\\pm" in text else None


def _is_one_group(text: str) -> bool:
    level = 0
    for i, char in enumerate(text):
        level += (char in "([{") - (char in ")]}")
        if level == 0:
            return i == len(text) - 1
    return False


def _items(text: str) -> list[str]:
    parts = [part for part in _split(_JOINERS.sub(",", text), ",;") if part]
    return [expanded for part in parts for expanded in _both_signs(part)]


def _both_signs(part: str) -> list[str]:
    if part.count("\\pm") != 1:
        return [part]
    return [part.replace("\\pm", sign).strip().removeprefix("+") for sign in ("+", "-")]


def _same_in_order(left: Sequence[str], right: Sequence[str], scope: Scope) -> bool | None:
    is_unsure = False
    for a, b in zip(left, right, strict=True):
        verdict = same_answer(a, b, scope.inside())
        if verdict is False:
            return False
        is_unsure = is_unsure or verdict is None
    return None if is_unsure else True


def _same_unordered(left: Sequence[str], right: Sequence[str], scope: Scope) -> bool | None:
    """Whether the parts can be paired as equal; None where a part may have a partner but it cannot be told."""
    left, right = _distinct(left), _distinct(right)
    if len(left) != len(right):
        return False
    # table[i][j]: whether part i of the left equals part j of the right.
    table = [[same_answer(part, other, scope.inside()) for other in right] for part in left]
    if any(True not in line and None not in line for line in [*table, *zip(*table, strict=True)]):
        return False
    free = set(range(len(right)))
    for row in table:
        match = next((i for i in sorted(free) if row[i]), None)
        if match is None:
            return None if None in (verdict for line in table for verdict in line) else False
        free.remove(match)
    return True


def _distinct(parts: Sequence[str]) -> list[str]:
    return list({squeeze(part): part for part in parts}.values())


def _same_value(reference: str, answer: str, rules: Conventions) -> bool | None:
    """Compare two answers as expressions of the closed grammar, with their units and percent signs."""
    left, right = _valued(reference), _valued(answer)
    if left is None or right is None:
        return None
    if not same_unit(left.unit, right.unit, rules.units):
        return False
    try:
        first, second = _tree(left.text), _tree(right.text)
        verdict = identity.same_expression(first, second)
        # As values they differ; the one with the percent sign may still be a hundredth of the bare number's.
        if verdict is False and rules.percent and left.is_percent != right.is_percent:
            factor = ("num", Fraction(1, 100))
            scaled = (("*", first, factor), second) if left.is_percent else (first, ("*", second, factor))
            verdict = identity.same_expression(*scaled)
        if verdict is False and not algebra.symbols(first) | algebra.symbols(second):
            return _gives(left.text, second, rules.decimals) or _gives(right.text, first, rules.decimals)
        return verdict
    except algebra.UndefinedValue:
        return False
    except algebra.UnsupportedSyntax:
        return None


@dataclass(frozen=True, slots=True)
class _ValuedText:
    """An expression, and whether a percent sign or which unit follows it."""

    text: str
    is_percent: bool
    unit: Unit


def _valued(text: str) -> _ValuedText | None:
    text, unit = _UPRIGHT.sub(r"\1", text), NO_UNIT
    if TEXT_OPEN in text:
        text, _, tail = text.partition(TEXT_OPEN)
        found = parse_unit(TEXT_OPEN + tail)
        if found is None or not text.strip():
            return None
        unit = found
    text = text.rstrip()
    return _ValuedText(text.removesuffix("%").rstrip(), text.endswith("%"), unit)


def _tree(text: str) -> algebra.Node:
    """Return the tree of an expression, which may be a numeral: 1e-20 is not 1 * e - 20."""
    numeral = parse_numeral(text)
    return ("num", numeral.value) if numeral and not numeral.is_percent else algebra.parse(text)


def _gives(decimal: str, tree: algebra.Node, places: int) -> bool:
    """Whether a decimal rounds the value of an expression to at least `places`, as 3.14159265 does pi."""
    numeral = parse_numeral(decimal)
    if numeral is None:
        return False
    value = algebra.evaluate(tree, {})
    if isinstance(value, Fraction):
        return is_rounding(numeral, value, places)
    if abs(value.imag) > 1e-12 * abs(value.real):
        return False
    return cmath.isfinite(value) and gives(numeral, Fraction(value.real), places)
