r"""Extracts the final answer of a completion.

The last marker counts: `#### x`, `\boxed{x}`, `<answer>x</answer>`, "the answer is x", "A: x". Only text after
`</think>` is read, and only up to where the model continues with a new question. Every pattern is bounded or
anchored, so that the time is linear in the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from verifiers.extraction.hedges import NUMBER, is_hedged, is_retracted, is_supposed, names_cases, without_afterthought
from verifiers.extraction.markers import FORMAL, Marker, find_markers
from verifiers.types import Reason

# What the answer was found by: a kind of marker, or none ("fallback").
_Source = Literal["box", "hash", "tag", "prose", "fallback"]
Fallback = Literal["none", "sentence", "last_number"]
FALLBACKS = ("none", "sentence", "last_number")


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of `extract`.

    Attributes:
        answer: The text of the final answer; None exactly when there is a reason.
        reason: `no_answer` or `ambiguous` where there is no answer.
    """

    answer: str | None
    reason: Reason | None = None


_NO_ANSWER = Extraction(None, "no_answer")
_AMBIGUOUS = Extraction(None, "ambiguous")

_END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "<|im_start|>user")
# Characters of "### **Instruction 100** :" with the spaces that `_RUN_ON` allows in it.
_RUN_ON_LENGTH = 40
_RUN_ON = re.compile(
    r"\n[ \t]{0,8}(?:#{1,3} |\*\*)?(?:Question|Q|Problem|Exercise|Human|User|Input|Instruction|Example)"
    r"(?: ?\d{1,3})?(?:\*\*)?[ \t]{0,4}:",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(r"\b(?:minus|negative)\s(?=\d|\\|\$)", re.IGNORECASE)
# Text between two boxes that form one answer: "and", "or", a comma, the name of the next value ("x =").
_JOINT = re.compile(
    r"(?:[\s,;$()\[\]\\]|\\quad|\\qquad|\\text|[{}]|\b(?:and|or)\b|[a-zA-Z](?:_\{?\w{1,2}\}?)?\s{0,2}=)*"
)
_JOINT_LIMIT = 60
_DIGIT = re.compile(r"\d")
_SOLID = re.compile(r"\S")
# A stop before a space or the end, but not that of "a.m." or "p.m." unless a capital letter follows.
_SENTENCE_END = re.compile(r"(?<![ap])(?<!\b[ap]\.m)[.!?](?=[\s*$]|$)|[.!?](?=\s+[A-Z])")
# A box inside a formula is not the answer: 2\boxed{5}, -\boxed{5}, \frac{\boxed{5}}{2}, \boxed{5}^2, \boxed{5}x.
_INSIDE_BEFORE = re.compile(r"(?:[\d^_]|(?:^|[\s$(=:])-|\\d?frac\{|\}\{)\Z")
_INSIDE_AFTER = re.compile(r"\s?(?:\^|\\cdot|\\times|[*/+](?=\s?[\d\\]))|[a-zA-Z](?![a-zA-Z])")
_COPULA = re.compile(r"\b(?:is|are|was|were|equals|be)\s|(?<![<>!:])=")
_MATH_SEGMENT = re.compile(r"\$([^$]{1,200})\$|\\\((.{1,200}?)\\\)")
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")
_TAG_END = re.compile(r"</answer>", re.IGNORECASE)
_FENCE = re.compile(r"^```\w{0,10}\n|\n?```$")
_DISPLAY = re.compile(r"(?:\$\$([^$]{1,300})\$\$|\\\[((?:(?!\\\[|\\\]).){1,300})\\\])[.\s]*$", re.DOTALL)
_LABEL = re.compile(
    r"(?:\*\*)?(?:Total|Sum|Amount|Cost|Number|Value|Solution|Output|Conclusion)(?:\*\*)?:(?:\*\*)?\s*", re.IGNORECASE
)
_LONE_NUMBER = re.compile(r"[-$\\\[(]*[\d.,]+[\])$\\]*\.?")
_BRACE = re.compile(r"(?<!\\)[{}]")
_BARE = re.compile(r"[^\s$.,]+")
# A last line from which `extract` would get the same number.
_PLAIN_LINE = re.compile(
    r"(?:####[ ]?|A:[ ]|(?:So[ ]|Therefore,?[ ]|Thus,?[ ]|Hence,?[ ])?[Tt]he[ ](?:final[ ])?answer[ ]is:?[ ]"
    r"|#{1,6}[ ](?:Final[ ])?Answer:?[ ]?\n{1,3}|\*\*(?:Final[ ])?Answer:?\*\*:?[ ]?\n{1,3}"
    r"|(?:Final[ ]Answer|Answer):[ ]|\*\*(?:Final[ ])?Answer:\*\*[ ]|(?P<tag><answer>[ ]?)"
    r"|(?:[\w ,.]{0,60}(?:[ ]is|:)[ ]?)?\$?(?P<box>\\boxed\{))"
    r"(?P<answer>(?:\\?\$)?(?P<whole>-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,15}))(?:\.0{1,6})?)"
    r"(?(box)\})(?(tag)[ ]?</answer>|\$?\.?)(?:[ ]I[ ]hope[ ]it[ ]is[ ]correct\.)?$"
)
_NUMBER_STARTS = frozenset("0123456789$-\\")
# No real answer is longer, has more boxes, or is followed by so much text. Without these limits a hostile text takes
# quadratic time.
_BOX_LIMIT = 5_000
_BOXES_LIMIT = 64
TEXT_LIMIT = 200_000
# Characters. No sentence that states an answer is longer.
SENTENCE_LIMIT = 1000


def visible(completion: str) -> str | None:
    """Return the text after the last `</think>` and before an end token; None where `<think>` is never closed."""
    _, closed, text = completion.rpartition("</think>")
    if not closed and "<think>" in completion:
        return None
    has_any = "<|" in text or "</s>" in text
    ends = [at for token in _END_TOKENS if (at := text.find(token)) >= 0] if has_any else []
    return (text[: min(ends)] if ends else text)[-TEXT_LIMIT:]


def extract(completion: str, *, fallback: Fallback = "none") -> Extraction:
    """Return the final answer of a completion, or why there is none.

        >>> verifiers.extract("The total is 12, so the answer is $12.").answer
        '$12'

    Args:
        completion: The text of a completion.
        fallback: What counts as the answer without a marker: "none", "sentence" (the one value that the last sentence
            states) or "last_number" (the last number anywhere).
    """
    text = visible(completion)
    if text is None or not text.strip():
        return _NO_ANSWER
    text, markers = _before_run_on(text)
    marker = _last_meaning_marker(text, markers)
    if marker is None:
        return _AMBIGUOUS if any(m.kind == "prose" for m in markers) else _without_marker(text, fallback)
    kind = marker.kind
    if kind == "box":
        return _boxed(text, [m for m in markers if m.kind == "box" and m.start <= marker.start])
    if kind == "tag":
        closing = _TAG_END.search(text, marker.end)
        end = closing.start() if closing else len(text)
        return _sentence_value(text[marker.end : end].strip(), text[end:], "tag")
    if kind == "hash":
        content, _, rest = text[marker.end :].lstrip(" \t").partition("\n")
        if not content.strip():
            content, _, rest = rest.lstrip().partition("\n")
        return _sentence_value(content.strip(), rest, "hash")
    if kind == "reverse":
        return _checked(text[max(0, marker.start - 60) : marker.start].split()[-1], "", "prose")
    return _prose(text, marker.end)


def last_marker(text: str) -> Marker | None:
    """Return the marker that `extract` takes the answer from, or None; `text` is what `visible` returned."""
    return _last_meaning_marker(*_before_run_on(text))


def plain_number(completion: str) -> tuple[str, int] | None:
    """Return (answer, its value) where the last line marks a whole number; None where only `extract` can tell.

    A shortcut for `extract(completion).answer` that reads little more than the last line.
    """
    if "think>" in completion or "<|" in completion or "</s>" in completion:
        return None
    # Where a new question follows, the line before it takes the place of the last line.
    end = next(_new_questions(completion, 0), None)
    text = (completion if end is None else completion[:end]).rstrip()
    start = text.rfind("\n") + 1
    if text[start : start + 1] in _NUMBER_STARTS and (heading := text.rfind("nswer", max(0, start - 20), start)) > 0:
        start = text.rfind("\n", 0, heading) + 1
    match = _PLAIN_LINE.match(text, start)
    if match is None:
        return None
    if match["box"] and text.count("box") > 1:
        return None  # two boxes may be one answer
    return match["answer"], int(match["whole"].replace(",", ""))


def _sentence_value(content: str, rest: str, source: _Source) -> Extraction:
    """Return the answer after a hash or inside a tag, which is a value or a sentence that states one."""
    found = _checked(content, rest, source)
    if found.answer is None or not re.match(r"[A-Za-z]{2,}[ ,]", found.answer) or "\\" in found.answer:
        return found
    return _stated_value(found.answer)


def _before_run_on(text: str) -> tuple[str, list[Marker]]:
    """Return the text up to the first new question after an answer, and the markers in it.

    A question before any answer is the model repeating its own.
    """
    markers = find_markers(text)
    if markers and (answer := _SOLID.search(text, markers[0].end)):
        for heading in _new_questions(text, markers[0].start):
            if answer.start() < heading:
                return text[:heading], [m for m in markers if m.end <= heading]
    return text, markers


def _new_questions(text: str, at: int) -> Iterator[int]:
    """Yield the positions of lines that begin a new question. They are found by their colons, from `at` on."""
    at = text.find(":", at)
    while at >= 0:
        line = text.rfind("\n", max(0, at - _RUN_ON_LENGTH), at)
        if line >= 0 and _RUN_ON.match(text, line):
            yield line
        at = text.find(":", at + 1)


def _last_meaning_marker(text: str, markers: list[Marker]) -> Marker | None:
    """Return the last marker of an answer.

    Prose after a formal marker counts only if it states a value, which "the answer is clear" does not.
    """
    has_formal = any(m.kind in FORMAL for m in markers)
    for marker in reversed(markers):
        if marker.kind == "hash" and _is_heading(text, marker.end, len(markers)):
            continue
        if marker.kind == "prose" and is_supposed(text, marker.start):
            continue
        if marker.kind in FORMAL or not has_formal:
            return marker
        sentence = _sentence_at(text, marker.end)[0]
        if _DIGIT.search(sentence) or "\\" in sentence:
            return marker
    return None


def _is_heading(text: str, at: int, markers: int) -> bool:
    """Whether #### is a heading: "#### Step 2: the total", or only words with text below and other markers."""
    line, _, below = text[at : at + SENTENCE_LIMIT].partition("\n")
    if re.match(r"\s*(?:step|part|case|method|solution|explanation|verification)\b", line, re.IGNORECASE):
        return True
    return markers > 1 and bool(below.strip()) and re.fullmatch(r"[A-Za-z ]{8,60}:?\s*", line) is not None


def _checked(content: str, rest: str, source: _Source) -> Extraction:
    """Return an answer unless it is empty, hedged, or taken back by the text after it, `rest`."""
    if "<<" in content:
        content = _ANNOTATION.sub("", content)
    if not content.strip(" .?$*\\"):
        return _NO_ANSWER
    if source != "box":
        stated = content if source == "fallback" else without_afterthought(content)
        if is_hedged(stated) or names_cases(content):
            return _AMBIGUOUS if source != "fallback" or _DIGIT.search(content) else _NO_ANSWER
    if is_retracted(content, rest):
        return _AMBIGUOUS
    if source == "hash":
        content = re.sub(r"[.!]+$", "", content)
    return Extraction(content)


def _boxed(text: str, boxes: list[Marker]) -> Extraction:
    """Return the contents of the last box, and of the boxes joined to it, as one answer."""
    contents: list[str] = []
    start, rest = len(text), ""
    for box in reversed(boxes[-_BOXES_LIMIT:]):
        content, end = _braced(text, box.end)
        if _INSIDE_BEFORE.search(text[max(0, box.start - 8) : box.start]) or _INSIDE_AFTER.match(text, end):
            return _AMBIGUOUS
        if not contents:
            rest = text[end:]
        elif end > start:
            continue  # a box around the one that was read
        elif start - end > _JOINT_LIMIT or not _JOINT.fullmatch(gap := text[end:start]) or "and so" in gap:
            break
        start = box.start
        if not content.strip(" ?\\~$"):
            return _NO_ANSWER
        if content.strip() not in contents:
            contents.insert(0, content.strip())
    return _checked(", ".join(contents), rest, "box")


def _braced(text: str, at: int) -> tuple[str, int]:
    """Return (content, end) of the group in braces at `at`; an unclosed one ends with its line."""
    if text[at : at + 1] != "{":
        bare = _BARE.match(text, at)
        return (bare[0], bare.end()) if bare else ("", at)
    depth = 0
    for brace in _BRACE.finditer(text, at, at + _BOX_LIMIT):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[at + 1 : brace.start()], brace.end()
    line = text[at + 1 : at + _BOX_LIMIT].partition("\n")[0]
    end = at + 1 + len(line)
    # At the end of the text, generation stopped inside the box, and digits may be missing.
    if not text[end:].strip() and not line.rstrip(" .").endswith(("$", "\\]", "\\)")):
        return "", end
    return line.rstrip("$ ."), end


def _sentence_at(text: str, at: int) -> tuple[str, str]:
    """Return (the sentence that begins at `at`, or on the next line with text; the text after it)."""
    while at < len(text) and text[at].isspace():
        at += 1
    for opening, closing in (("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$")):
        if text.startswith(opening, at) and (end := text.find(closing, at + 2, at + SENTENCE_LIMIT)) > 0:
            line_end = text.find("\n", end)
            tail = text[end + 2 : line_end if line_end >= 0 else len(text)][:SENTENCE_LIMIT]
            stop = _SENTENCE_END.search(tail)
            tail = tail[: stop.start()] if stop else tail
            return text[at + 2 : end].strip() + tail, text[end + 2 + len(tail) :]
    line_end = text.find("\n", at)
    line = text[at : line_end if line_end >= 0 else len(text)][:SENTENCE_LIMIT]
    line = _TAG_END.split(line, maxsplit=1)[0]
    stop = _SENTENCE_END.search(line)
    end = stop.start() if stop else len(line)
    return line[:end].strip().lstrip(",:").lstrip(), text[at + end :]


def _prose(text: str, at: int) -> Extraction:
    sentence, rest = _sentence_at(text, at)
    checked = _checked(sentence, rest, "prose")
    if checked.answer is None:
        return checked
    return _stated_value(checked.answer)


def _stated_value(sentence: str) -> Extraction:
    """Return the one value that a sentence states, as in "Jane has 3 apples left"; anything else is returned whole."""
    sentence = _NEGATIVE.sub("-", without_afterthought(sentence).strip(" *`\"'"))
    if not re.match(r"[A-Za-z]{2,}[ ,]", sentence) or not _DIGIT.search(sentence):
        return Extraction(sentence) if sentence else _NO_ANSWER
    parts = _COPULA.split(sentence)
    last = parts[-1].strip()
    if len(parts) > 1 and not re.match(r"[A-Za-z]{2,}\s", last) and _DIGIT.search(last):
        # "is 3 more than 2 pears": with a second number it is unclear which one is the answer.
        if "\\" in last or "$" in last or len(NUMBER.findall(last)) <= 1 or last[0] in "([{":
            return Extraction(last)
        return _AMBIGUOUS
    segments = [match[1] or match[2] for match in _MATH_SEGMENT.finditer(sentence)]
    if len(segments) == 1:
        return Extraction(segments[0])
    numbers = NUMBER.findall(last)
    if len(numbers) == 1 and len(_DIGIT.findall(last)) == len(_DIGIT.findall(numbers[0])):
        return Extraction(numbers[0])
    return _AMBIGUOUS


def _without_marker(text: str, fallback: Fallback) -> Extraction:
    if fallback == "none":
        return _NO_ANSWER
    if fallback == "last_number":
        numbers = NUMBER.findall(text)
        return Extraction(numbers[-1]) if numbers else _NO_ANSWER
    stripped = text.strip()
    if "```" in stripped:
        stripped = _FENCE.sub("", stripped).strip()
    if (
        stripped.rstrip(" .").endswith(("$", "]"))
        and (display := _DISPLAY.search(stripped[-SENTENCE_LIMIT:])) is not None
    ):
        return _checked(display[1] or display[2], "", "fallback")
    line = stripped.rpartition("\n")[2].strip()[-SENTENCE_LIMIT:]
    if line.startswith("**") and line.endswith("**"):
        return _checked(line.strip("* "), "", "fallback")
    if re.search(r"[=+*/\u00d7\u00f7-]$", line):
        return _NO_ANSWER  # cut off in mid-equation
    if label := _LABEL.match(line):
        line = line[label.end() :]
        return _checked(line, "", "fallback") if _LONE_NUMBER.fullmatch(line) else _NO_ANSWER
    is_prose = re.match(r"[A-Za-z]{2,}[ ,]", line) is not None
    if "\n" not in stripped and not is_prose:
        return _checked(line, "", "fallback")
    if not is_prose or not line.endswith((".", "!", "$", "**", "\\]", "\\)")):
        # The last line of a chain of thought without a full stop may be cut off before its answer.
        return _checked(line, "", "fallback") if _LONE_NUMBER.fullmatch(line) else _NO_ANSWER
    last_sentence = _SENTENCE_END.split(line[:-1])[-1].strip()
    checked = _checked(last_sentence, "", "fallback")
    if checked.answer is None or not _DIGIT.search(last_sentence):
        return checked if checked.answer is None else _NO_ANSWER
    return _stated_value(last_sentence)


def reference_answer(reference: str) -> str:
    """Return the final answer of a reference, which may be a whole worked solution."""
    if "####" in reference:
        return reference.rpartition("####")[2].strip()
    if "\\boxed" in reference or "<answer>" in reference or "\\fbox" in reference:
        # In a reference an unclosed box is a typing error, and nothing is missing; so close it.
        return extract(reference).answer or extract(f"{reference}}}").answer or ""
    return reference.strip()
