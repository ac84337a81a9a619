"""Flags selected traces that may be right by luck or by trickery, which a final answer cannot show.

Each kind is a reason to read a trace, not a verdict: nothing is dropped for it here. In order of how often a person
should look: an answer that no equation comes to, text that goes in circles, a second verifier that disagrees, a stated
equation that does not hold.
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
# Above this share of its word 4-grams said before, a text of at least so many of them goes in circles.
REPEATED_SHARE, REPEATED_GRAMS = 0.5, 20
# A sentence of so many words that is said so often does, too.
SENTENCE_WORDS, SENTENCE_TIMES = 3, 3

_SENTENCE = re.compile(r"\n+|(?<=[.?!])\s+")
_OPERATOR = re.compile(r"[-+*/^]")
# Looser than `find_equations`, which accuses of invalid steps: a number after an equals sign. What stands before it on
# its line, up to the equals sign before, says whether anything led to it.
_STATED = re.compile(
    r"=[ \t]*\$?[ \t]*(-?(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,15})?(?:/\d{1,15})?%?)(?![\d.,]*[\d*/^+])"
)
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")
_WORKED = re.compile(r"[\w)%][ \t]?[-+*/^x][ \t]?[$(]*[\w.]")
_UNKNOWN = re.compile(r"(?:^|[^\w+*/^-])[ \t]*([a-zA-Z])[ \t]*$")
_LEFT, _BEFORE = 200, 4000  # characters, so that the time stays linear in the text
# "7 + 0 =" and "7 * 1 =" come to nothing new.
_IDENTITY = re.compile(r"(?:[-+] ?\$?0|[*/] ?\$?1) ?=")


@dataclass(frozen=True, slots=True)
class FlaggedTraces:
    """`traces` were looked at, `flagged` of them for at least one reason; `counts` has every kind, also at 0.

    `table` (FLAGGED) holds a row a trace and kind, ordered by sample and kind.
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
    """Look at the traces that a round selected, in batches: only what is flagged stays in memory.

    `second` is a pool of another verifier (or of the same with other options); it judges against `references`, by
    problem id. Only its `incorrect` is a disagreement: `unknown` says nothing about the trace.
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
    """Draw rows of a FLAGGED table to read, by a hash of the seed: which does not depend on the order of the table."""
    rows = [row for row in table.to_pylist() if kind is None or row["kind"] == kind]
    return sorted(rows, key=lambda row: digest("doubts", seed, row["sample_id"], row["kind"]))[:count]


def of_trace(row: Mapping[str, Any], second: Verdict | None = None) -> Iterator[tuple[Kind, str]]:
    """Yield what is doubtful about one trace, with a detail for a person to read.

    `row` has text, answer, verifier and invalid_steps; `second` is what another verifier said.
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
    """Say that a numeric answer is not the result of any equation of the text, where that is so.

    A result may be rounded as far as the answer shows, and be in dollars for cents or a share for percents. `7 + 0 = 7`
    derives nothing. Programs, and answers that are no number, are left alone. Reference solutions are flagged too,
    where a step was done in the head: fewer than one in fifty of GSM8K's, which a test holds.
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
    # "7 = 3 + 4" has its result on the left; of a false equation only what it claims counts.
    results = {Fraction(equation.right)} | ({Fraction(equation.left)} if equation.holds else set())
    return any(_is_answer(result, answer) for result in results) and not _is_identity(equation.text)


def _is_answer(result: Fraction, answer: Numeral) -> bool:
    # 25 may come from 0.25 dollars, or from 25%; and 25% from 25.
    wanted = {answer.value, answer.value / 100} | ({answer.value * 100} if answer.is_percent else set())
    room = Fraction(1, 2 * 10**answer.places)
    is_rounded = result.denominator > 1 and abs(result - answer.value) <= room
    return is_rounded or result in wanted


def _is_worked_out(text: str, answer: Numeral) -> bool:
    """Whether the answer follows an operation and an equals sign, or is an unknown that was estimated with before.

    "a total of 10 + 40 + 20 = 70"; "30 snakes * 3 birds/snake = 90"; "6x = 240, so x = 40".
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
        if (unknown := _UNKNOWN.search(left)) and _is_reckoned_with(unknown[1], text[max(start - _BEFORE, 0) : start]):
            return True
    return False


def _is_reckoned_with(unknown: str, text: str) -> bool:
    return (
        re.search(rf"\d[ \t]?\*?[ \t]?{unknown}\b|[-+*/(][ \t]?{unknown}\b|\b{unknown}[ \t]?[-+*/^]", text) is not None
    )


def _is_identity(stated: str) -> bool:
    left = stated.partition("=")[0]
    return len(_OPERATOR.findall(left)) == 1 and _IDENTITY.search(stated) is not None


def repetition(text: str) -> str | None:
    """Say how a text repeats itself, if it does."""
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
