"""The contamination check: exact, normalised and 13-gram overlap of training and held-out questions.

Only the held-out questions are indexed, with about 200 bytes a word, and training questions are streamed, so time is
linear in both.

Two problems that share 13 words need not be the same: "At the same rate, how many additional hours would it take to
travel an additional" is in unrelated GSM8K problems, and templates repeat whole sentences. So a training problem
*holds* a held-out one by n-grams (kind "ngram") if they share a 13-gram and either

- have the same answer, the same numbers in the same order, and 4/5 of their words in common: a problem that was
  slightly reworded; or
- one shared passage has 9/10 of the words and all numbers of the held-out question: a problem quoted in a longer text.

Any other shared 13-gram is a phrase, which is counted and reported but is no contamination. N-grams that are in many
held-out problems are boilerplate and do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from star_rft.errors import UserError
from star_rft.types import Problem

Kind = Literal["exact", "normalised", "ngram", "phrase"]

N = 13
# An n-gram in more held-out problems than this is part of an instruction or a template.
COMMON = 10
# Shares of words. Near copies in MAWPS (AddSub and SingleEq) are above, built-in problems of one template below.
REWORDED = 0.8
QUOTED = 0.9
EXAMPLES = 3
# An occurrence is one integer, problem << POSITION_BITS | word: a tuple would take three times the memory.
POSITION_BITS = 20

# Separators of thousands are removed ("1,200" is "1200"), decimal points are not ("3.5" is not "35"). Arithmetic signs
# are tokens, so that "3 + 4" is not "3 - 4". Hyphens, as in "twenty-five", and dashes are removed.
_TOKEN = re.compile(
    r"\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|[^\W\d_]+|[+*/^=<>%\u00d7\u00f7\u2212]|(?<!-)-(?!-)|(?<=[\d)])!"
)
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")


class ContaminationError(UserError):
    """The training set holds held-out problems, and the config does not allow it."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two problems that overlap; `passage` is the longest shared one, as a share of the held-out words."""

    kind: Kind
    train: Problem
    held_out: Problem
    passage: float


@dataclass(frozen=True, slots=True)
class ContaminationReport:
    """The overlap of two sets of problems.

    Attributes:
        train: Number of training problems.
        held_out: Number of held-out problems.
        counts: Held-out problems by their strongest kind of overlap; "phrase" is no contamination.
        train_ids: Training problems that hold a held-out one; without them the sets are clean.
        examples: Up to `EXAMPLES` pairs of each kind.
    """

    train: int
    held_out: int
    counts: Mapping[Kind, int]
    train_ids: frozenset[str]
    examples: tuple[Overlap, ...] = ()

    @property
    def contaminated(self) -> int:
        """Return the number of held-out problems that a training problem holds."""
        return self.counts["exact"] + self.counts["normalised"] + self.counts["ngram"]

    def __str__(self) -> str:
        exact, same, ngram, phrase = (self.counts[kind] for kind in get_args(Kind))
        return (
            f"{self.contaminated} of {self.held_out} held-out problems are among the {self.train} training "
            f"problems ({exact} exact, {same} normalised, {ngram} by {N}-grams; {phrase} more share a phrase)"
        )


@dataclass(slots=True)
class _HeldOut:
    """The index of the held-out problems, in which each training problem is looked up.

    `exact`, `normalised` and `ngrams` give the numbers of problems by prompt, normalised prompt and hash of an n-gram
    (there packed with the position). `words` is the number of words of each problem, and `key` what `_key` returns.
    """

    problems: Sequence[Problem]
    exact: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    normalised: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    ngrams: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    words: list[int] = field(default_factory=list)
    key: list[tuple[str, ...]] = field(default_factory=list)


def overlaps(train: Iterable[Problem], held_out: Iterable[Problem]) -> ContaminationReport:
    """Compare the questions of two sets of problems.

    Args:
        train: Read once, so it may be an iterator.
        held_out: Kept in memory.
    """
    index = _index(list(held_out))
    best: dict[int, Overlap] = {}
    train_ids = set()
    total = 0
    for problem in train:
        total += 1
        for position, (kind, passage) in _matches(index, problem).items():
            overlap = Overlap(kind, problem, index.problems[position], passage)
            if kind != "phrase":
                train_ids.add(problem.id)
            if position not in best or _rank(overlap) < _rank(best[position]):
                best[position] = overlap
    counts: dict[Kind, int] = {kind: sum(o.kind == kind for o in best.values()) for kind in get_args(Kind)}
    examples = [o for kind in counts for o in [o for o in best.values() if o.kind == kind][:EXAMPLES]]
    return ContaminationReport(total, len(index.problems), counts, frozenset(train_ids), tuple(examples))


def require_clean(report: ContaminationReport) -> None:
    """Raise ContaminationError if a training problem holds a held-out one; the text shows one pair."""
    if report.contaminated:
        first = report.examples[0]
        raise ContaminationError(
            f"{report}. For example ({first.kind}) {_excerpt(first.held_out.prompt)!r} is held out, and "
            f"{_excerpt(first.train.prompt)!r} is trained on. Set data.contamination to drop, which leaves such "
            "training problems out, or to allow"
        )


def normalised(text: str) -> str:
    """Return the words, numbers and signs of a text in lower case, with single spaces and no punctuation."""
    return " ".join(_tokens(text))


def _tokens(text: str) -> list[str]:
    plain = _HYPHEN.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    return [token.replace(",", "") for token in _TOKEN.findall(plain)]


def _words(tokens: Sequence[str]) -> list[str]:
    """Return the tokens without signs, as 13 tokens of LaTeX are no phrase."""
    return [token for token in tokens if token[0].isalnum()]


def _key(words: Sequence[str], reference: object) -> tuple[str, ...]:
    """Return what rewording does not change: the numbers in their order, and the answer as text."""
    return (*(word for word in words if word[0].isdigit()), normalised(str(reference)))


def _ngrams(words: Sequence[str]) -> list[int]:
    return [hash(tuple(words[at : at + N])) for at in range(len(words) - N + 1)]


def _index(problems: Sequence[Problem]) -> _HeldOut:
    index = _HeldOut(problems)
    for position, problem in enumerate(problems):
        tokens = _tokens(problem.prompt)
        words = _words(tokens)
        index.exact[problem.prompt].append(position)
        if tokens:  # without tokens, as in a question of punctuation only, it would equal all such
            index.normalised[" ".join(tokens)].append(position)
        index.words.append(len(words))
        index.key.append(_key(words, problem.reference))
        for at, ngram in enumerate(_ngrams(words)):
            index.ngrams[ngram].append(position << POSITION_BITS | at)
    for ngram in [g for g, found in index.ngrams.items() if _is_boilerplate(found)]:
        del index.ngrams[ngram]
    return index


def _unpack(packed: int) -> tuple[int, int]:
    return packed >> POSITION_BITS, packed & ((1 << POSITION_BITS) - 1)


def _is_boilerplate(found: Sequence[int]) -> bool:
    return len(found) > COMMON and len({position for position, _ in map(_unpack, found)}) > COMMON


def _longest_run(starts: set[int]) -> tuple[int, int]:
    """Return the first and the last of the longest sequence of consecutive integers."""
    best = (0, -1)
    for start in sorted(starts):
        if start - 1 not in starts:
            end = start
            while end + 1 in starts:
                end += 1
            best = max(best, (start, end), key=lambda run: run[1] - run[0])
    return best


def _common(words: Sequence[str], held_out: Problem) -> float:
    """Return the share of the longer text's words that are in the other one too, in any order."""
    others = _words(_tokens(held_out.prompt))
    return (Counter(words) & Counter(others)).total() / max(len(words), len(others))


def _holds_numbers(held_out: Problem, first: int, end: int) -> bool:
    words = _words(_tokens(held_out.prompt))
    return not any(word[0].isdigit() for word in [*words[:first], *words[end:]])


def _matches(index: _HeldOut, problem: Problem) -> dict[int, tuple[Kind, float]]:
    """Return the strongest kind of overlap of a training problem with each held-out one, by number, and the passage."""
    tokens = _tokens(problem.prompt)
    words = _words(tokens)
    starts: dict[int, set[int]] = defaultdict(set)
    for ngram in _ngrams(words):
        # `get`, as indexing would store every training n-gram in the defaultdict.
        for position, at in map(_unpack, index.ngrams.get(ngram, ())):
            starts[position].add(at)
    key = _key(words, problem.reference)
    found: dict[int, tuple[Kind, float]] = {}
    for position, shared in starts.items():
        first, last = _longest_run(shared)
        passage = (last - first + N) / index.words[position]
        reworded = index.key[position] == key and _common(words, index.problems[position]) >= REWORDED
        quoted = passage >= QUOTED and _holds_numbers(index.problems[position], first, last + N)
        found[position] = ("ngram" if reworded or quoted else "phrase", passage)
    found |= dict.fromkeys(index.normalised.get(" ".join(tokens), ()), ("normalised", 1.0))
    found |= dict.fromkeys(index.exact.get(problem.prompt, ()), ("exact", 1.0))
    return found


def _rank(overlap: Overlap) -> tuple[int, float]:
    return get_args(Kind).index(overlap.kind), -overlap.passage


def _excerpt(text: str) -> str:
    return text if len(text) <= 80 else text[:80] + "..."
