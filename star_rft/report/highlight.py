"""What to mark in a trace: the final answer that was judged, and the equations that do not hold.

What cannot be found in the text is listed below it; nothing is guessed. The time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from star_rft.frontier.label_errors import COMPLAINING
from star_rft.ledger.keys import PROGRAM_VERIFIERS
from star_rft.sampling.verdicts import judged_text
from verifiers.extraction.answer import SENTENCE_LIMIT, last_marker, visible
from verifiers.prose.arithmetic import Number
from verifiers.prose.equations import Equation, find_equations

Kind = Literal["", "answer", "false"]

# Equations are looked for in the last 30,000 characters: a text of equations alone takes 2 ms for each thousand.
EQUATIONS_IN = 30_000
# The most equations that are marked, and the most places; nobody reads more.
EQUATIONS_LIMIT, SPANS_LIMIT = 50, 200
# An answer of this length is a text of its own (of `exact`), and marking all of it would say nothing.
ANSWER_LIMIT = 200

# What may stand between the parts of an equation as it was written, and is not in its plain form.
_GAP = (
    r"(?:[\s$&{}]|<<[^<>\n]{1,200}>>"
    r"|\\(?:left|right|text|mathrm|mathbf|textbf|boxed|[dtc]?frac(?=[^a-z])|[,;!: ()])){0,12}"
)
_WRITTEN = {
    "*": r"(?:\*\*?|[\u00d7\u00b7\u22c5\u2219\u2217]|\\times|\\cdot|\\ast)",
    "/": r"(?:/|[\u00f7\u2215\u2044]|\\div)",
    "-": r"[-\u2212\u2013]",
    "\u2248": r"(?:\u2248|\u2245|\\approx)",
    "=": "[=\uff1d]",
}
_PART = re.compile(r"\d[\d.,]*|\\frac|[^\W\d_]+|[^\s\w${}]|_")
_OPERATORS = "+*/^\u00d7\u00b7\u00f7"
_SIGNED = "-\u2212\u2013"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a trace. `title` explains what is wrong with a false equation."""

    text: str
    kind: Kind = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class MarkedText:
    """`pieces` make up the text exactly; `unplaced` are false equations that could not be found in it."""

    pieces: tuple[Piece, ...]
    unplaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    kind: Kind
    title: str = ""


def marked(text: str, *, answer: str | None, verifier: str, finish_reason: str = "stop") -> MarkedText:
    """Cut a trace into pieces, of which some are its final answer or an equation that does not hold.

    `answer` is what the verifier read. Programs have no marks; what a verifier such as `steps` reports instead of an
    answer is not looked for.
    """
    if verifier in PROGRAM_VERIFIERS:
        return MarkedText((Piece(text),))
    spans, unplaced = _false_spans(text)
    if answer and verifier not in COMPLAINING:
        spans += _answer_spans(judged_text(text, finish_reason), answer)
    return MarkedText(tuple(_pieces(text, spans)), tuple(unplaced))


def explanation(equation: Equation) -> str:
    """Return what is wrong with an equation that does not hold, in words."""
    left, _, right = equation.text.partition("=")
    if re.fullmatch(r"[\s$]*[\d.,]+%?\s*", right):
        return f"{left.strip()} is {_number(equation.left)}, not {right.strip()}"
    return f"the left side is {_number(equation.left)}, the right side {_number(equation.right)}"


def _number(value: Number) -> str:
    exact = Fraction(value)
    if exact.denominator == 1:
        return str(exact.numerator)
    rounded = f"{float(exact):.6g}"
    return rounded if Fraction(rounded) == exact else f"{exact.numerator}/{exact.denominator} (about {rounded})"


# False equations


def _false_spans(text: str) -> tuple[list[_Span], list[str]]:
    first = max(0, len(text) - EQUATIONS_IN)
    part = text[first:]
    false = [equation for equation in find_equations(part) if not equation.holds]
    spans: list[_Span] = []
    unplaced: list[str] = []
    for equation in false[:EQUATIONS_LIMIT]:
        title = explanation(equation)
        found = list(_places(part, equation.text, SPANS_LIMIT - len(spans)))
        spans += [_Span(first + start, first + end, "false", title) for start, end in found]
        if not found:
            unplaced.append(f"{' '.join(equation.text.split())}: {title}")
    if (more := len(false) - EQUATIONS_LIMIT) > 0:
        unplaced.append(f"and {more:,} more false equations")
    return spans, unplaced


def _places(text: str, stated: str, most: int) -> Iterator[tuple[int, int]]:
    """Yield the places of an equation, as it is stated or else as it may have been written."""
    pattern = re.compile(re.escape(stated))
    if pattern.search(text) is None:
        parts = _PART.findall(stated.replace("\\frac", ""))
        pattern = re.compile(_GAP.join(_WRITTEN.get(part, re.escape(part)) for part in parts))
    for match in pattern.finditer(text):
        if most > 0 and _is_whole(text, *match.span()):
            most -= 1
            yield match.span()


def _is_whole(text: str, start: int, end: int) -> bool:
    """Return whether a place holds the equation itself, not a part of another: 1 + 1 = 3 in 11 + 1 = 35."""
    before, after = text[max(0, start - 8) : start], text[end : end + 8]
    if re.search(r"\d[.,]?\Z", before) or re.match(r"\d|[.,]\d|%", after):
        return False
    # "**3 * 4 = 11**" is set in bold, and "- 3 * 4 = 11" at the start of a line an item of a list.
    joined = before.rstrip(" $({")
    if joined.endswith((*_OPERATORS, *_SIGNED)) and not joined.endswith("**"):
        sign = start - len(before) + len(joined) - 1
        if text[text.rfind("\n", 0, start) + 1 : sign].strip():
            return False
    return re.match(rf"[ $]*(?!\*\*)[{re.escape(_OPERATORS + _SIGNED)}][ $(]*\d", after) is None


# The answer


def _answer_spans(text: str, answer: str) -> list[_Span]:
    """Find the answer after the marker that was read, or in the last sentence of a text without one."""
    shown = visible(text)
    if shown is None or len(answer) > ANSWER_LIMIT or not answer.strip():
        return []
    first = text.find(shown, text.rfind("</think>") + len("</think>") if "</think>" in text else 0)
    marker = last_marker(shown)
    if marker is None:
        end = len(shown.rstrip())
        found = _last_place(shown, answer, max(0, end - SENTENCE_LIMIT), end)
    elif marker.kind == "reverse":
        found = _last_place(shown, answer, max(0, marker.start - 60), marker.start)
    else:
        found = _first_place(shown, answer, marker.end, marker.end + SENTENCE_LIMIT)
    spans = [] if found is None else [found]
    if not spans and marker is not None and marker.kind == "box":
        spans = _boxes(shown, answer, marker.end)
    return [_Span(first + start, first + end, "answer") for start, end in spans]


def _first_place(text: str, answer: str, start: int, end: int) -> tuple[int, int] | None:
    at = text.find(answer, start, end)
    while at >= 0 and not _stands_alone(text, at, at + len(answer)):
        at = text.find(answer, at + 1, end)
    return None if at < 0 else (at, at + len(answer))


def _last_place(text: str, answer: str, start: int, end: int) -> tuple[int, int] | None:
    at = text.rfind(answer, start, end)
    while at >= 0 and not _stands_alone(text, at, at + len(answer)):
        at = text.rfind(answer, start, at + len(answer) - 1)
    return None if at < 0 else (at, at + len(answer))


def _boxes(text: str, answer: str, end: int) -> list[tuple[int, int]]:
    """Find the parts of an answer that several boxes gave together: all of them or none."""
    found = []
    for part in reversed(answer.split(", ")):
        at = text.rfind(f"{{{part}}}", max(0, end - SENTENCE_LIMIT), end + SENTENCE_LIMIT)
        if at < 0:
            return []
        found.append((at + 1, at + 1 + len(part)))
    return found


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether the answer is no part of a longer number or word: 5 is not found in 15 or in 5.2."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if text[start].isdigit() and re.search(r"\d[.,]?\Z", before):
        return False
    if text[end - 1].isdigit() and re.match(r"\d|[.,]\d", after):
        return False
    is_word = text[start].isalpha() and before[-1:].isalpha()
    return not is_word and not (text[end - 1].isalpha() and after[:1].isalpha())


# Pieces


def _pieces(text: str, spans: Iterable[_Span]) -> Iterator[Piece]:
    """Cut the text at the spans. Where two overlap, the answer is seen; of two equations the first."""
    flat = _without_overlap([span for span in spans if span.kind == "answer"])
    false = _without_overlap([span for span in spans if span.kind == "false"])
    for answer in list(flat):
        false = [part for span in false for part in _around(span, answer)]
    at = 0
    for span in sorted([*flat, *false], key=lambda span: span.start):
        if span.start > at:
            yield Piece(text[at : span.start])
        yield Piece(text[span.start : span.end], span.kind, span.title)
        at = span.end
    if at < len(text) or not text:
        yield Piece(text[at:])


def _without_overlap(spans: list[_Span]) -> list[_Span]:
    """Keep of spans that overlap the first; the next one keeps what it has beyond it ("2 + 3 = 6 = 7")."""
    kept: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        start = max(span.start, kept[-1].end) if kept else span.start
        if start < span.end:
            kept.append(_Span(start, span.end, span.kind, span.title))
    return kept


def _around(span: _Span, hole: _Span) -> Iterator[_Span]:
    if hole.end <= span.start or span.end <= hole.start:
        yield span
        return
    for start, end in ((span.start, hole.start), (hole.end, span.end)):
        if start < end:
            yield _Span(start, end, span.kind, span.title)
