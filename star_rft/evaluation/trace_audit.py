"""Flags on selected traces that may be correct by luck or by a trick, which a check of the final answer cannot show.

A flag is a reason to read a trace; no trace is dropped for it. The kinds:

    no_derivation, underived   no equation of the text gives the answer: there is none, or none of them does
    repeated                   the text repeats itself
    disagrees                  a second verifier judges it incorrect
    invalid_step               a stated equation is false
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa

from star_rft.ledger import FLAGGED, batches
from star_rft.ledger.keys import PROGRAM_VERIFIERS, TEXT_LIMIT
from star_rft.sampling.verdicts import judged_text
from star_rft.sampling.writer import VerifierPool
from star_rft.types import digest
from verifiers.math.latex import clean
from verifiers.math.numbers import Numeral, parse_numeral
from verifiers.prose.arithmetic import plain
from verifiers.prose.equations import Equation, find_equations
from verifiers.types import Verdict

if TYPE_CHECKING:
    import duckdb

Kind = Literal["no_derivation", "underived", "repeated", "disagrees", "invalid_step"]
KINDS: tuple[Kind, ...] = get_args(Kind)

N_GRAM = 4
# A text of at least REPEATED_GRAMS word 4-grams is flagged where more than this share of them repeat an earlier one.
REPEATED_SHARE, REPEATED_GRAMS = 0.5, 20
# So is a text in which a sentence of at least SENTENCE_WORDS words occurs SENTENCE_TIMES times.
SENTENCE_WORDS, SENTENCE_TIMES = 3, 3

_SENTENCE = re.compile(r"\n+|(?<=[.?!])\s+")
_OPERATOR = re.compile(r"[-+*/^]")
# A number after an equals sign. This is looser than `find_equations`, whose results may be called invalid steps: here
# the text before it, on the same line and up to the equals sign before, decides whether it is a result.
_STATED = re.compile(
    r"=[ \t]*\$?[ \t]*(-?(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,15})?(?:/\d{1,15})?%?)(?![\d.,]*[\d*/^+])"
)
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")
_WORKED = re.compile(r"[\w)%][ \t]?[-+*/^x][ \t]?[$(]*[\w.]")
_UNKNOWN = re.compile(r"(?:^|[^\w+*/^-])[ \t]*([a-zA-Z])[ \t]*$")
_LEFT, _BEFORE = 200, 4000  # characters, so that the time stays linear in the text
# "7 + 0 =" and "7 * 1 =" derive nothing new.
_IDENTITY = re.compile(r"(?:[-+] ?\$?0|[*/] ?\$?1) ?=")


@dataclass(frozen=True, slots=True)
class FlaggedTraces:
    """The flagged traces of a round.

    Attributes:
        traces: How many traces were checked.
        flagged: How many of them have at least one flag.
        counts: Flags by kind, those without any included.
        table: The table FLAGGED, a row a trace and kind, ordered by sample id and kind.
    """

    traces: int
    flagged: int
    counts: dict[str, int]
    table: pa.Table


def flagged_traces(
    con: duckdb.DuckDBPyConnection,
    *,
    round_index: int,
    references: Mapping[str, Any] | None = None,
    second: VerifierPool | None = None,
) -> FlaggedTraces:
    """Check the traces that a round selected, in batches: only flags are kept in memory.

    Args:
        con: A connection of `Ledger.connect`.
        round_index: The round.
        references: Reference answers by problem id, for `second`.
        second: Pool of another verifier, or of the same one with other options. Its `incorrect` is a disagreement; its
            `unknown` is not.
    """
    if second is not None and references is None:
        raise ValueError("a second verifier needs the problems' references")
    found: list[dict[str, Any]] = []
    traces = 0
    query = (
        "select t.sample_id, t.problem_id, t.text, t.answer, t.verifier, t.finish_reason, t.invalid_steps"
        f" from selection s join traces t using (sample_id) where s.in_round = {int(round_index)} and s.is_selected"
    )
    for rows in batches(con, query):
        verdicts = _second_verdicts(rows, second, references or {})
        for row, verdict in zip(rows, verdicts, strict=True):
            where = {"in_round": round_index, "sample_id": row["sample_id"], "problem_id": row["problem_id"]}
            found += [where | {"kind": kind, "detail": detail} for kind, detail in of_trace(row, verdict)]
        traces += len(rows)
    found.sort(key=lambda flag: (flag["sample_id"], flag["kind"]))
    counts = Counter(flag["kind"] for flag in found)
    return FlaggedTraces(
        traces=traces,
        flagged=len({flag["sample_id"] for flag in found}),
        counts={kind: counts[kind] for kind in KINDS},
        table=pa.Table.from_pylist(found, schema=FLAGGED),
    )


def drawn(table: pa.Table, *, count: int, seed: int = 0, kind: Kind | None = None) -> list[dict[str, Any]]:
    """Return `count` random rows of a table FLAGGED, for a person to read. The order of the table does not matter."""
    rows = [row for row in table.to_pylist() if kind is None or row["kind"] == kind]
    return sorted(rows, key=lambda row: digest("doubts", seed, row["sample_id"], row["kind"]))[:count]


def of_trace(row: Mapping[str, Any], second: Verdict | None = None) -> Iterator[tuple[Kind, str]]:
    """Yield the kind of each flag of a trace, with a detail for a person to read.

    Args:
        row: Its text, answer, verifier and invalid_steps.
        second: The verdict of another verifier.
    """
    if (found := derivation(row["text"], row["answer"], row["verifier"])) is not None:
        yield found
    if (detail := repetition(row["text"])) is not None:
        yield "repeated", detail
    if second is not None and second.status == "incorrect":
        said = "" if second.answer is None else f", answer {second.answer!r}"
        yield "disagrees", f"{second.verifier} says incorrect ({second.reason}{said})"
    if row["invalid_steps"] and row["verifier"] not in PROGRAM_VERIFIERS:
        equations = [equation.text for equation in find_equations(row["text"][-TEXT_LIMIT:]) if not equation.holds]
        yield "invalid_step", "; ".join(equations)


def derivation(text: str, answer: str | None, verifier: str) -> tuple[Kind, str] | None:
    """Return the flag of a numeric answer that no equation of the text gives; None where one does.

    A result may be rounded to the digits of the answer, be in dollars for cents, or a share for percents. `7 + 0 = 7`
    derives nothing. Programs, and answers that are no numbers, get no flag. Some correct solutions are flagged, where a
    step is not written down: fewer than one in fifty of GSM8K's reference solutions, which a test checks.
    """
    number = None if answer is None or verifier in PROGRAM_VERIFIERS else parse_numeral(clean(answer))
    if number is None:
        return None
    text = text[-TEXT_LIMIT:]
    equations = list(find_equations(text))
    if any(_comes_to(equation, number) for equation in equations) or _is_worked_out(text, number):
        return None
    if not equations:
        return "no_derivation", f"answer {answer}, and no equation"
    return "underived", f"answer {answer}; the last of {len(equations)} equations is {equations[-1].text}"


def _comes_to(equation: Equation, answer: Numeral) -> bool:
    # "7 = 3 + 4" has its result on the left. Of a false equation only the right side, which it claims, counts.
    results = {Fraction(equation.right)} | ({Fraction(equation.left)} if equation.holds else set())
    return any(_is_answer(result, answer) for result in results) and not _is_identity(equation.text)


def _is_answer(result: Fraction, answer: Numeral) -> bool:
    # 25 may come from 0.25 dollars, or from 25%; and 25% from 25.
    wanted = {answer.value, answer.value / 100} | ({answer.value * 100} if answer.is_percent else set())
    room = Fraction(1, 2 * 10**answer.places)
    is_rounded = result.denominator > 1 and abs(result - answer.value) <= room
    return is_rounded or result in wanted


def _is_worked_out(text: str, answer: Numeral) -> bool:
    """Return whether the answer follows an operation and an equals sign, or is an unknown that was used before.

    Examples: "a total of 10 + 40 + 20 = 70"; "30 snakes * 3 birds/snake = 90"; "6x = 240, so x = 40".
    """
    text = plain(_ANNOTATION.sub("", text))
    for match in _STATED.finditer(text):
        number = parse_numeral(match[1])
        if number is None or not _is_answer(number.value, answer):
            continue
        end = match.start()
        first = max(end - _LEFT, 0)
        start = max(text.rfind("\n", first, end) + 1, text.rfind("=", first, end) + 1, first)
        left = text[start:end]
        if _WORKED.search(left) and any(map(str.isdigit, left)) and not _is_identity(left + "="):
            return True
        if (unknown := _UNKNOWN.search(left)) and _is_used(unknown[1], text[max(start - _BEFORE, 0) : start]):
            return True
    return False


def _is_used(unknown: str, text: str) -> bool:
    """Return whether an unknown (a letter) is an operand in a text."""
    return (
        re.search(rf"\d[ \t]?\*?[ \t]?{unknown}\b|[-+*/(][ \t]?{unknown}\b|\b{unknown}[ \t]?[-+*/^]", text) is not None
    )


def _is_identity(stated: str) -> bool:
    left = stated.partition("=")[0]
    return len(_OPERATOR.findall(left)) == 1 and _IDENTITY.search(stated) is not None


def repetition(text: str) -> str | None:
    """Return how a text repeats itself, in words; None where it does not."""
    said = Counter(
        sentence.casefold()
        for part in _SENTENCE.split(text)
        if len((sentence := " ".join(part.split())).split(" ")) >= SENTENCE_WORDS
    )
    if said and (most := said.most_common(1)[0])[1] >= SENTENCE_TIMES:
        return f"{most[1]} times: {most[0][:80]}"
    words = text.casefold().split()
    grams = len(words) - N_GRAM + 1
    if grams < REPEATED_GRAMS:
        return None
    share = 1 - len({tuple(words[i : i + N_GRAM]) for i in range(grams)}) / grams
    return f"{share:.0%} of its {N_GRAM}-grams were said before" if share > REPEATED_SHARE else None


def _second_verdicts(
    rows: Sequence[Mapping[str, Any]], second: VerifierPool | None, references: Mapping[str, Any]
) -> Sequence[Verdict | None]:
    if second is None:
        return [None] * len(rows)
    pairs = ((judged_text(row["text"], row["finish_reason"]), references[row["problem_id"]]) for row in rows)
    return list(second.verify_iter(pairs))
