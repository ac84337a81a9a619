"""Finds words by which a completion does not commit to an answer: hedges, cases, suppositions, retractions."""

from __future__ import annotations

import re

NUMBER = re.compile(
    r"(?<![\w.,/^_])-?(?:\$|€|£)?-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+(?:\.\d+)?)?%?(?![\d/])"
    r"|(?<![\w.])-?\.\d+%?"
)
_HEDGE = re.compile(
    r"\b(?:maybe|may be|perhaps|possibly|probably|might|could|either|neither|one of|between|around|about|approximately"
    r"|roughly|nearly|almost|at least|at most|(?:more|less|fewer|greater|larger|smaller|bigger|higher|lower) than"
    r"|not sure|unsure|unlikely|unclear|depends|anything but|or so|or (?:more|less)|not|never|no longer|cannot)\b"
    r"|n't\b|^[~≈<>]|\\approx|\b(?:close to|near|over|under|up to|above|below|beyond|exceeds)\s+(?:[$€£~]|\\\$)?\d",
    re.IGNORECASE,
)
# "half of 18" states another number than 18.
_MULTIPLE = re.compile(
    r"\b(?:twice|thrice|half|double|triple|third|quarter|(?<!\\)times|root)\s(?:of\s)?(?:the\s)?(?:[$]|\\\$)?\d"
    r"|\d\s[a-z]{1,20}\s(?:less|fewer)\b",
    re.IGNORECASE,
)
_RETRACTION = re.compile(
    r"\b(?:wait|actually|hold on|oops|sorry|scratch that|on second thought|correction|re-?check\w*|let me re\w*"
    r"|recomput\w*|forgot|should (?:be|have)"
    r"|(?:that|this|it|which)(?:'s|\u2019s| is| was| seems| looks) (?:wrong|incorrect|not (?:right|correct))"
    r"|(?:made|is|was|found) (?:a|an|my|the) (?:\w{1,15} )?(?:mistake|error)|my mistake|I was wrong)\b"
    r"|(?:^|[.!?\n])[\s*]{0,3}No[,.]",
    re.IGNORECASE,
)
_AFTERTHOUGHT = re.compile(
    r",?\s(?:because|since|which|so that|where|given|as (?:we|the|it)|when|after|I hope)\b"
    r"|,\s(?:not|rather than|instead of)\b"
)
_CASES = re.compile(r"\b(?:otherwise|else|respectively)\b", re.IGNORECASE)
# Words before an answer that is only supposed, or denied.
_SUPPOSED = re.compile(
    r"(?:\b(?:suppose|assume|assuming|if|whether|unless)(?:[ ]that)?"
    r"|(?:n't|\bnot|\bnever|\bdoubt|\bcannot)\b[^.\n,:;]{0,30})"
    r"[ ](?:(?:that[ ])?(?:the|my|our|your)[ ])?(?:\w{1,10}[ ])?\Z",
    re.IGNORECASE,
)
_WORD_OR_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
# Characters before a marker in which a supposition is searched.
_SUPPOSED_LENGTH = 60


def is_hedged(stated: str) -> bool:
    """Whether an answer is stated with a doubt, or as a multiple of the number in it ("twice 9")."""
    return _HEDGE.search(stated) is not None or _MULTIPLE.search(stated) is not None


def names_cases(content: str) -> bool:
    """Whether an answer gives several values for several cases, as in "5 if n is even, otherwise 6"."""
    return _CASES.search(content) is not None


def without_afterthought(sentence: str) -> str:
    """Return a sentence without what follows its answer: a reason, a condition, or "not ..."."""
    return _AFTERTHOUGHT.split(sentence, maxsplit=1)[0]


def is_supposed(text: str, at: int) -> bool:
    """Whether the words before `at` suppose or deny, as in "suppose the answer is" or "I don't think the answer is"."""
    return _SUPPOSED.search(text[max(0, at - _SUPPOSED_LENGTH) : at]) is not None


def is_retracted(content: str, rest: str) -> bool:
    """Whether `rest`, the text after an answer, takes it back and ends with another number."""
    if not rest or rest.isspace():
        return False
    retraction = _RETRACTION.search(rest)
    numbers = NUMBER.findall(rest, retraction.start()) if retraction else []
    return bool(numbers) and numbers[-1].strip("$€£%,") not in _WORD_OR_NUMBER.findall(content)
