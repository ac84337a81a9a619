"""Numbers in English words: "twenty-one", "two hundred and five", "three quarters"."""

from __future__ import annotations

from fractions import Fraction

_ONES_TEXT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS_TEXT = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS_TEXT = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_ONES = {word: value for value, word in enumerate(_ONES_TEXT.split())}
_TENS = {word: 20 + 10 * i for i, word in enumerate(_TENS_TEXT.split())}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    word + plural: value for value, word in enumerate(_ORDINALS_TEXT.split()) if value > 2 for plural in ("", "s")
}
ORDINALS = {word: value for value, word in enumerate(_ORDINALS_TEXT.split())}
STARTS = frozenset({*_ONES, *_TENS})


def read_number(words: list[str]) -> tuple[Fraction, int] | None:
    """Return the number that the first words state and how many words that takes, or None."""
    if not words or words[0] not in STARTS:
        return None
    total, below, used = 0, 0, 0
    for i, word in enumerate(words):
        after_tens = i > 0 and words[i - 1] in _TENS
        after_number = i > 0 and (words[i - 1] in _ONES or after_tens)
        if word in _ONES and (not after_number or (after_tens and 0 < _ONES[word] < 10)):
            below += _ONES[word]
        elif word in _TENS and not after_number:
            below += _TENS[word]
        elif word == "hundred" and 0 < below < 100:
            below *= 100
        elif word in SCALES and below:
            total, below = total + below * SCALES[word], 0
        elif word == "and" and words[i - 1] in ("hundred", *SCALES) and i + 1 < len(words) and words[i + 1] in STARTS:
            continue
        else:
            break
        used = i + 1
    value = Fraction(total + below)
    if used < len(words) and 0 < value < 20:
        # "three quarters"; but "twenty third" is an ordinal, and so is "one third of August".
        part, is_plural = words[used], words[used].endswith("s")
        if part in _PARTS and is_plural == (value != 1):
            return value / _PARTS[part], used + 1
    return value, used
