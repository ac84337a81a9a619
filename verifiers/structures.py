r"""Answers with an inside: lists, sets, tuples, intervals, matrices, equations, inequalities, `\pm`.

`same_answer` takes cleaned text and decides what it can: True, False, or None for the last tier to decide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from verifiers import expressions
from verifiers.latex import TEXT_CLOSE, TEXT_OPEN, squeeze
from verifiers.numerals import is_rounding, parse_numeral, same_number

DEPTH_LIMIT = 6
PARTS_LIMIT = 200

_MATRIX = re.compile(r"\\begin\s?\{(?:[pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*?)\\end\s?\{(?:[pbvBV]?matrix|array)\}")
_NAME = re.compile(
    r"\(?(?:[a-zA-Z](?:_\{?\w+\}?)?'?|\\[a-zA-Z]+(?:_\{?\w+\}?)?)(?:,[a-zA-Z](?:_\{?\w+\}?)?)*\)?"
    r"|(?:[a-zA-Z]|\\[a-zA-Z]+)_?\w?\([\w,]{1,8}\)"
    r"|\|?\\?(?:overline|angle|triangle|mathbf|vec|widehat)?\{?[A-Z]{1,4}\}?\|?"
    r"|[A-Z]\^\{-1\}|\\frac\{[A-Z]{1,3}\}\{[A-Z]{1,3}\}|[A-Z]\w{0,6}:[A-Z]\w{0,6}"
    r"|[A-Z]_?\{?\w{0,6}\}?:[A-Z]_?\{?\w{0,6}\}?"
)
_BASE = re.compile(r"[0-9A-F]+_\{?\d{1,2}\}?")
_CLOCK = re.compile(r"(\d{1,2}:\d{2})\s?([ap])?\.?\s?m?\.?", re.IGNORECASE)
_RATIO = re.compile(r"[\d.]+(?::[\d.]+)+")
_RELATION = re.compile(r"<=|>=|\\le(?![a-z])|\\ge(?![a-z])|<|>")
_OR = re.compile(rf"{TEXT_OPEN}\s?or\s?{TEXT_CLOSE}|\sor\s|\\lor(?![a-z])")
# \\mathrm{e} is the letter e; after a number it would be a unit.
_UPRIGHT = re.compile(rf"(?<![\d\s]){TEXT_OPEN}([A-Za-z]){TEXT_CLOSE}")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


def same_answer(reference: str, answer: str, *, depth: int = 0) -> bool | None:
    """Whether two cleaned answers are the same: True, False, or None where these rules cannot tell."""
    if depth > DEPTH_LIMIT:
        return None
    left, right = squeeze(reference), squeeze(answer)
    if not right:
        return False
    if left == right:
        return True
    numbers = parse_numeral(reference), parse_numeral(answer)
    if numbers[0] and numbers[1]:
        return same_number(numbers[0], numbers[1])
    for rule in (_same_written, _same_matrix, _same_equation, _same_range, _same_collection):
        verdict = rule(reference, answer, depth)
        if verdict is not None:
            return verdict
    if _is_words(reference) or _is_words(answer):
        return left.casefold().strip("'\"") == right.casefold().strip("'\"")
    return _same_value(reference, answer)


def _is_words(text: str) -> bool:
    r"""Plain words, or all of it inside \text{}: no expression to evaluate."""
    bare = text.replace(TEXT_OPEN, "").replace(TEXT_CLOSE, "")
    if text.startswith(TEXT_OPEN) and text.endswith(TEXT_CLOSE) and text.count(TEXT_OPEN) == 1:
        return True
    has_word = re.search(r"[A-Za-z]{3}", bare) is not None or bare.casefold() in ("no", "up")
    return has_word and re.fullmatch(r"[A-Za-z][A-Za-z' -]*", bare) is not None


def _same_written(reference: str, answer: str, depth: int) -> bool | None:
    """Number bases, clock times and ratios compare as written; the empty set only equals itself."""
    left, right = squeeze(reference), squeeze(answer)
    for pattern in (_BASE, _RATIO):
        if pattern.fullmatch(left) or pattern.fullmatch(right):
            clocks = _CLOCK.fullmatch(left), _CLOCK.fullmatch(right)
            if clocks[0] and clocks[1] and clocks[0][1] == clocks[1][1]:
                return not (clocks[0][2] and clocks[1][2]) or clocks[0][2].lower() == clocks[1][2].lower()
            if "=" in left or "=" in right:
                return None
            return left.replace("{", "").replace("}", "") == right.replace("{", "").replace("}", "")
    clocks = _CLOCK.fullmatch(left), _CLOCK.fullmatch(right)
    if clocks[0] and clocks[1]:
        same_half = not (clocks[0][2] and clocks[1][2]) or clocks[0][2].lower() == clocks[1][2].lower()
        return clocks[0][1] == clocks[1][1] and same_half
    if clocks[0] or clocks[1] or "\\emptyset" in (left, right):
        return {left, right} == {"\\emptyset", "\\{\\}"}
    return None


def _same_matrix(reference: str, answer: str, depth: int) -> bool | None:
    rows = []
    for text in (reference, answer):
        match = _MATRIX.search(text)
        # What stands around a matrix (a factor, a power) is for the last tier.
        outside = text[: match.start()] + text[match.end() :] if match else ""
        if match is None or squeeze(outside).strip("()[]{}"):
            return None
        rows.append([[cell.strip() for cell in row.split("&")] for row in match[1].split("\\\\") if row.strip()])
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    cells = [[cell for row in matrix for cell in row] for matrix in rows]
    return _same_in_order(cells[0], cells[1], depth)


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


def _same_equation(reference: str, answer: str, depth: int) -> bool | None:
    sides = [_equation_sides(text) for text in (reference, answer)]
    if len(sides[0]) == 1 and len(sides[1]) == 1:
        return None
    if any(len(_split(text, ",;")) > 1 and text[:1] not in "([{" for text in (reference, answer)):
        return None  # a list of equations is a list first
    (*left_names, left), (*right_names, right) = sides
    if not left_names or not right_names:
        names, stated = (left_names, right) if left_names else (right_names, left)
        if _is_name(names[0]):
            return same_answer(left, right, depth=depth + 1)
        if left_names or not stated:
            return False
        # "2+1=3" states 3, if it is true.
        is_true = same_answer(names[-1], right, depth=depth + 1)
        return same_answer(left, right, depth=depth + 1) if is_true else False
    if _is_name(left_names[0]) and _is_name(right_names[0]):
        if squeeze(left_names[0]) == squeeze(right_names[0]):
            return same_answer(left, right, depth=depth + 1)
        if not _free_symbols(left) and not _free_symbols(right):
            return False  # x=5 is not y=5
    return _same_up_to_scale(sides[0], sides[1])


def _equation_sides(text: str) -> list[str]:
    if re.search(r"[<>!]=|=>|\\(?:le|ge|ne)(?![a-z])|<|>|\\begin", text):
        return [text]
    return _split(text, "=")


def _is_name(side: str) -> bool:
    bare = side.replace("\\overline", "").replace("\\angle", "").strip()
    return _NAME.fullmatch(squeeze(bare)) is not None or _is_words(side)


def _free_symbols(text: str) -> frozenset[str]:
    try:
        return expressions.symbols(expressions.parse(text))
    except expressions.Unsupported:
        return frozenset(["?"])


def _same_up_to_scale(first: Sequence[str], second: Sequence[str]) -> bool | None:
    """Two equations in the same unknowns are equal if their differences of sides have one constant ratio."""
    if len(first) != 2 or len(second) != 2:
        return None
    try:
        trees = [("-", expressions.parse(a), expressions.parse(b)) for a, b in (first, second)]
        return expressions.same_up_to_scale(*trees)
    except expressions.Unsupported:
        return None


def _same_range(reference: str, answer: str, depth: int) -> bool | None:
    """Intervals, their unions, and inequalities in one unknown."""
    has_range = [
        _RELATION.search(text) or "\\cup" in text or _bracketed(text)[0] != _closing(text)
        for text in (reference, answer)
    ]
    if not any(has_range):
        return None
    left, right = _pieces(reference), _pieces(answer)
    if left is None or right is None:
        return None
    return _same_unordered(left, right, depth) if len(left) == len(right) else False


def _bracketed(text: str) -> str:
    return text[:1] if text[:1] in ("(", "[") else " "


def _closing(text: str) -> str:
    return {")": "(", "]": "["}.get(text[-1:], " ")


def _pieces(text: str) -> list[str] | None:
    r"""Return the intervals of a union, an inequality as its interval; None for anything else."""
    if len(choices := _OR.split(text)) > 1:
        ranges = [_pieces(choice) for choice in choices]
        return None if None in ranges else [piece for pieces in ranges if pieces for piece in pieces]
    text = re.sub(r"^\s*[a-zA-Z]\s?\\in\s?", "", text.strip())
    text = re.sub(r"^\\\{\s?([a-zA-Z])\s?[|:]\s?(.*)\\\}$", r"\2", text)
    if "\\cup" in text or (_bracketed(text) != " " and not _RELATION.search(text)):
        parts = [part.strip() for part in text.split("\\cup")]
        return [part.replace("+\\infty", "\\infty").replace("+ \\infty", "\\infty") for part in parts]
    signs = [sign[0] for sign in _RELATION.finditer(text)]
    terms = [term.strip() for term in _RELATION.split(text)]
    if len(signs) == 1:
        if re.fullmatch(r"[a-zA-Z]", terms[1]) and not re.fullmatch(r"[a-zA-Z]", terms[0]):
            terms, signs = [terms[1], terms[0]], [_flipped(signs[0])]
        if not re.fullmatch(r"[a-zA-Z]", terms[0]):
            return None
        bound, is_closed = terms[1], "e" in signs[0] or "=" in signs[0]
        if ">" in signs[0] or "g" in signs[0]:
            return [f"{'[' if is_closed else '('}{bound}, \\infty)"]
        return [f"(-\\infty, {bound}{']' if is_closed else ')'}"]
    if len(signs) == 2 and re.fullmatch(r"[a-zA-Z]", terms[1]):
        if ">" in signs[0] or "g" in signs[0]:
            terms, signs = terms[::-1], [_flipped(sign) for sign in signs[::-1]]
        opening = "[" if "e" in signs[0] or "=" in signs[0] else "("
        closing = "]" if "e" in signs[1] or "=" in signs[1] else ")"
        return [f"{opening}{terms[0]}, {terms[2]}{closing}"]
    return None


def _flipped(sign: str) -> str:
    return {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "\\le": "\\ge", "\\ge": "\\le"}[sign]


def _same_collection(reference: str, answer: str, depth: int) -> bool | None:
    left, right = _collection(reference), _collection(answer)
    if left is None and right is None:
        return None
    kinds = [parsed[0] if parsed else "" for parsed in (left, right)]
    parts = [parsed[1] if parsed else [text] for parsed, text in ((left, reference), (right, answer))]
    if max(map(len, parts)) > PARTS_LIMIT:
        return None
    ordered = [kind for kind in kinds if kind and kind != "set"]
    if ordered:
        if kinds[0] != kinds[1]:
            return False  # a tuple is neither a list nor an interval, nor (0,1) the same as [0,1)
        return _same_in_order(parts[0], parts[1], depth) if len(parts[0]) == len(parts[1]) else False
    # The values of a list without their names: "x = 1 and x = 2" is 1, 2.
    return _same_unordered(parts[0], parts[1], depth)


def _collection(text: str) -> tuple[str, list[str]] | None:
    r"""Return ("set", parts) for lists and braces, (its brackets, parts) for tuples; None for one value."""
    text = text.strip()
    if text.startswith("\\{") and text.endswith("\\}"):
        return "set", _items(text[2:-2])
    if text[:1] in _CLOSERS and text[-1:] in ")]}" and len(_split(text, ",;")) == 1 and _is_one_group(text):
        inner = _split(text[1:-1], ",;")
        if text[0] == "{":
            return ("set", inner) if len(inner) > 1 else None
        return (text[0] + text[-1], inner) if len(inner) > 1 else None
    parts = _items(text)
    return ("set", parts) if len(parts) > 1 or "\\pm" in text else None


def _is_one_group(text: str) -> bool:
    level = 0
    for i, char in enumerate(text):
        level += (char in "([{") - (char in ")]}")
        if level == 0:
            return i == len(text) - 1
    return False


def _items(text: str) -> list[str]:
    text = re.sub(rf"{TEXT_OPEN}\s?,?\s?(?:and|or)\s?,?\s?{TEXT_CLOSE}", ",", text)
    text = re.sub(r"\s?,?\s(?:and|or)\s", ",", text)
    parts = [part for part in _split(text, ",;") if part]
    return [expanded for part in parts for expanded in _both_signs(part)]


def _both_signs(part: str) -> list[str]:
    if part.count("\\pm") != 1:
        return [part]
    return [part.replace("\\pm", sign).strip().removeprefix("+") for sign in ("+", "-")]


def _same_in_order(left: Sequence[str], right: Sequence[str], depth: int) -> bool | None:
    is_unsure = False
    for a, b in zip(left, right, strict=True):
        verdict = same_answer(a, b, depth=depth + 1)
        if verdict is False:
            return False
        is_unsure = is_unsure or verdict is None
    return None if is_unsure else True


def _same_unordered(left: Sequence[str], right: Sequence[str], depth: int) -> bool | None:
    """Whether each part has its partner; a part that can be neither matched nor refuted leaves it open."""
    left, right = _distinct(left), _distinct(right)
    if len(left) != len(right):
        return False
    is_unsure = False
    rest = list(right)
    for part in left:
        verdicts = [same_answer(part, other, depth=depth + 1) for other in rest]
        if True in verdicts:
            rest.pop(verdicts.index(True))
        elif None in verdicts:
            is_unsure = True
        else:
            return False
    return None if is_unsure else True


def _distinct(parts: Sequence[str]) -> list[str]:
    return list({squeeze(part): part for part in parts}.values())


def _same_value(reference: str, answer: str) -> bool | None:
    """Compare as expressions of the closed grammar."""
    reference, answer = (_UPRIGHT.sub(r"\1", text) for text in (reference, answer))
    if TEXT_OPEN in reference or TEXT_OPEN in answer:
        reference, answer = (re.sub(rf"{TEXT_OPEN}[^{TEXT_CLOSE}]*{TEXT_CLOSE}$", "", t) for t in (reference, answer))
        if TEXT_OPEN in reference or TEXT_OPEN in answer or not reference or not answer:
            return None
    percents = [text.endswith("%") for text in (reference, answer)]
    if any(percents):
        reference, answer = reference.rstrip("% "), answer.rstrip("% ")
    try:
        left, right = expressions.parse(reference), expressions.parse(answer)
        verdict = expressions.same_expression(left, right)
        if verdict is False and percents[0] != percents[1]:
            factor = ("num", Fraction(1, 100))
            scaled = [("*", tree, factor) if p else tree for tree, p in zip((left, right), percents, strict=True)]
            verdict = expressions.same_expression(*scaled)
        if verdict is False and not expressions.symbols(left) | expressions.symbols(right):
            return _is_rounded_value(reference, right) or _is_rounded_value(answer, left)
        return verdict
    except expressions.Unsupported:
        return None


def _is_rounded_value(decimal: str, tree: expressions.Node) -> bool:
    """Whether a decimal of 6 places or more gives an irrational value, as 3.14159265 gives pi."""
    numeral = parse_numeral(decimal)
    if numeral is None:
        return False
    value = expressions.evaluate(tree, {})
    if isinstance(value, Fraction):
        return is_rounding(numeral, value)
    if abs(value.imag) > 1e-12 or numeral.places < 6 or numeral.digits < 6:
        return False
    return abs(float(numeral.value) - value.real) < 10.0**-numeral.places
