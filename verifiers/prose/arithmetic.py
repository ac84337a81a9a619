r"""Parses arithmetic in prose: `3 apples * 2`, `$1,200 ÷ 4`, `20% of 50`, `\frac{48}{2}`.

`lex` makes tokens of a text, and `Reader` evaluates the expressions in them in exact fractions. Text never reaches
`eval`, and every step costs a bounded amount, so that the time is linear in the text.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

Number = int | Fraction


def words(text: str) -> frozenset[str]:
    """Return the words of a list that is written as one text."""
    return frozenset(text.split())


# Beyond these limits an expression is unusable: no worked solution has such numbers, and they take long.
_DIGITS_LIMIT = 30
_SIZE_LIMIT = 10**60
_EXPONENT_LIMIT = 64
_DEPTH_LIMIT = 20
_UNIT_WORDS = 2  # the words of a unit that are passed over: "3 red apples * 2"

_LATEX = re.compile(
    r"\\(?:left|right|displaystyle|boxed|fbox|Bigg?|bigg?|quad|qquad|mathbf|mathrm|textbf|mathit|[,;!: ()])(?![a-z])"
    r"|\\(?:text|mbox|textrm|operatorname)(?:bf|it|rm)?\s?\{([^{}\n]{0,80})\}"
    r"|\\(?:begin|end)\{[a-z*]{1,20}\}|\^\s?\{?\s?\\circ\s?\}?"
    r"|\\(?:times|cdot|ast|div|approx|equiv|[dtc]frac|\\|[\[\]$%&])"
)
_LATEX_MEANS = {
    "\\times": "*", "\\cdot": "*", "\\ast": "*", "\\div": "/", "\\approx": "\u2248", "\\dfrac": "\\frac",
    "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\\\": "\n", "\\[": "\n", "\\]": "\n", "\\$": "$", "\\%": "%",
}  # fmt: skip
_UNICODE = str.maketrans(
    {
        "\u00d7": "*", "\u00b7": "*", "\u22c5": "*", "\u2219": "*", "\u2217": "*", "\u00f7": "/", "\u2215": "/",
        "\u2044": "/", "\u2212": "-", "\u2013": "-", "\u2014": " ; ", "\u2245": "\u2248", "\u00a0": " ",
        "\u202f": " ", "\u2009": " ", "\u00b2": "^2", "\u00b3": "^3", "\uff1d": "=",
    }
)  # fmt: skip
# One alternative a kind of token, tried in this order: "per hour" is a unit, not an operator; "words" skips prose.
_TOKEN = re.compile(
    r"(?P<num>(?:\d+(?:,\d+)*+|(?<![\d.])(?=\.\d))(?:\.\d+)*+(?:\s?%|\s(?:percent|per\scent)\b)?)"
    r"|(?P<line>\n|\$\$)"
    r"|(?P<per>(?:/\s?|\bper\s)(?:an?\s)?(?:second|minute|hour|day|week|month|year|mile|person|pound|lb|hr|item)s?\b)"
    r"|(?P<words>(?:[^\W\d_]{2,}[ ,]{1,2}){2,}(?=[^\W\d_]{2}))"
    r"|(?P<hyphen>(?<=\d)-(?=(?:second|minute|hour|day|week|month|year|mile|page|pound|ounce|inch|foot|point|piece)s?\b))"
    r"|(?P<op>[xX](?=[ \t]?[$(]?[\d.])(?<![^\W\d_][xX])|(?:multiplied|divided)\sby\b|(?:times|plus|minus)\b"
    r"|[-+*/^](?!/))"
    r"|(?P<word>[^\W\d_]\w*+(?:(?<=[^\W\d_]{2})['\u2019-][^\W\d_]\w*+)*+)"
    r"|(?P<stop>[<>=!:]=+|=[>=]|[.;:?,#<>\u2264\u2265|]|![\s]|!$)"
    r"|(?P<eq>[=\u2248])"
    r"|(?P<open>[({\[])"
    r"|(?P<close>[)}\]])"
    r"|(?P<frac>\\frac(?![a-z]))"
    r"|(?P<bad>\\[a-zA-Z]+|[!~/\u00b1\u221a\u03c0\u2211\u220f\u221e@_\\])"
)
_OPERATORS = {"x": "*", "X": "*", "ti": "times", "mu": "times", "di": "over", "pl": "+", "mi": "-"}  # by two letters
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_PLAIN_KINDS = frozenset(["num", "word", "words", "stop", "frac", "bad"])
_PRODUCTS = frozenset(["*", "/", "times", "over"])
_SIMPLE = frozenset(["op", "eq", "words", "stop", "line", "end"])
_LETTERS = frozenset("xXtpmd")
_CLOSES = {"(": ")", "{": "}", "[": "]"}
# A number next to one of these words is part of something that is not parsed here.
BINDING = words("of choose mod sqrt sin cos tan log ln pi squared cubed factorial remainder r rem times")
# Words that begin another clause, and so no unit: "3 + 4 so the total".
_CLAUSE = words(
    "so then and is are was were total which that thus therefore hence gives makes because but or for if we he she "
    "they it the this"
)
SHORT_UNITS = words("m g h s l L a A cm mm km dm kg mg lb oz ft in mi mL ml hr gb GB MB mb am pm cl sq")


class Token(NamedTuple):
    """A piece of a text. `kind` is a group of `_TOKEN`, or "end" behind the last one."""

    kind: str
    text: str
    start: int
    end: int


def plain(text: str) -> str:
    """Return a text with LaTeX commands and Unicode signs of arithmetic replaced by ASCII and `≈`."""
    if not text.isascii():
        text = text.translate(_UNICODE)
    if "\\" in text:
        text = _LATEX.sub(_plain_command, text).replace("{,}", ",").replace("&=", "=")
    if "**" in text:
        text = re.sub(r"(?<=\d)\*\*(?=\d)", "^", text).replace("**", "")
    return text


def _plain_command(match: re.Match[str]) -> str:
    if match[1] is not None:
        return match[1]
    if match[0].startswith(("\\begin", "\\end")):
        return "\n"
    return _LATEX_MEANS.get(match[0], "" if match[0] in ("\\,", "\\!") else " ")


def lex(text: str) -> list[Token]:
    """Return the tokens of a text from `plain`. A bracket without a partner on its side of `=` is of kind "stop"."""
    tokens: list[Token] = []
    opened: list[int] = []
    new = tuple.__new__  # three times as fast as Token(...)
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        token = new(Token, (kind, match[0], match.start(), match.end()))
        if kind in _PLAIN_KINDS:
            tokens.append(token)
        elif kind == "op":
            tokens.append(token._replace(text=_OPERATORS[token.text[:2]]) if token.text[0] in _LETTERS else token)
        elif kind in ("eq", "line"):
            while kind == "eq" and tokens and tokens[-1].kind == "line":
                tokens.pop()  # a line that begins with "=" continues the line before
            if opened:
                _unpair(tokens, opened)
            tokens.append(token)
        elif kind == "open":
            opened.append(len(tokens))
            tokens.append(token)
        elif kind == "close":
            tokens.append(_closed(token, tokens, opened))
        # The kinds "per" and "hyphen" give no token: "$5 / hour" is no division, "5-hour" no difference.
    _unpair(tokens, opened)
    return tokens


def _closed(token: Token, tokens: list[Token], opened: list[int]) -> Token:
    if not opened or _CLOSES[tokens[opened[-1]].text] != token.text:
        return token._replace(kind="stop")
    at = opened.pop()
    if len(opened) < _DEPTH_LIMIT:
        return token
    tokens[at] = tokens[at]._replace(kind="bad")
    return token._replace(kind="bad")


def _unpair(tokens: list[Token], opened: list[int]) -> None:
    for at in opened:
        tokens[at] = tokens[at]._replace(kind="stop")
    opened.clear()


class Reader:
    """Recursive descent over tokens that returns the values of expressions.

    Time is linear: `at` only grows, and brackets are paired and at most `_DEPTH_LIMIT` deep.

    Attributes:
        tokens: The tokens, and three of kind "end" for looking ahead.
        percent: What a percent sign divides by: 100, or 1 to ignore it.
        at: Position of the next token.
        is_usable: False where what was read is no arithmetic, or too large.
        is_doubtful: True where what was read has a second reading.
        has_unit: Whether a unit was passed over.
        operators: Number of operators read.
        percents: Number of percent signs read.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = [*tokens, Token("end", "", 0, 0), Token("end", "", 0, 0), Token("end", "", 0, 0)]
        self.percent = 100
        self.at = 0
        self.is_usable = True
        self.is_doubtful = False
        self.has_unit = False
        self.operators = 0
        self.percents = 0

    def starts(self, at: int) -> bool:
        """Whether an operand begins at a position: a number or fraction, perhaps behind brackets and signs."""
        was_sign = False
        while True:  # bounded, because brackets are only so deep and each has at most one sign before it
            token = self.tokens[at]
            if token.text == "-" and not was_sign:
                was_sign = True
            elif token.kind == "open":
                was_sign = False
            else:
                return token.kind in ("num", "frac")
            at += 1

    def sum(self) -> Number:
        """Return the value of the sum that begins at `at`, and move `at` behind it."""
        total = self._product()
        while self.tokens[self.at].text in ("+", "-") and self.starts(self.at + 1):
            is_minus = self.tokens[self.at].text == "-"
            self._step()
            part = self._product()
            total = self._bounded(total - part if is_minus else total + part)
        return total

    def _product(self) -> Number:
        value = self._factor()
        divisions = 0
        while True:
            sign = self.tokens[self.at].text
            if not (sign in _PRODUCTS or (sign == "of" and self._is_share())) or not self.starts(self.at + 1):
                return value
            # "28 / 1/5" may divide by a fifth, or twice; "1/3 of 150" and "20 times 2 people" may be prose.
            divisions += sign in ("/", "over")
            self.is_doubtful |= divisions > 1 or sign in ("of", "times", "over")
            self._step()
            right = self._factor()
            value = self._divided(value, right) if sign in ("/", "over") else self._bounded(value * right)

    def _is_share(self) -> bool:
        """Whether "of" multiplies, as in "20% of 50" and "1/2 of 48", but not in "3 of 20"."""
        before = self.tokens[self.at - 1]
        is_quotient = self.at > 1 and self.tokens[self.at - 2].text == "/"
        return before.kind == "close" or (before.kind == "num" and (is_quotient or not before.text[-1].isdigit()))

    def _step(self) -> None:
        self.operators += 1
        self.at += 1

    def _bounded(self, value: Number) -> Number:
        if isinstance(value, Fraction):
            if value.denominator == 1:
                value = value.numerator
            elif value.denominator > _SIZE_LIMIT:
                self.is_usable = False
                return 1
        if -_SIZE_LIMIT < value < _SIZE_LIMIT:
            return value
        self.is_usable = False
        return 1

    def _divided(self, value: Number, by: Number) -> Number:
        if by == 0:
            self.is_usable = False
            return 1
        if isinstance(value, int) and isinstance(by, int) and value % by == 0:
            return self._bounded(value // by)
        return self._bounded(Fraction(value, by))

    def _factor(self) -> Number:
        token, following = self.tokens[self.at], self.tokens[self.at + 1]
        if token.kind == "num" and following.kind in _SIMPLE and following.text != "^":
            self.at += 1
            return self._figure(token)  # a shortcut for most numbers
        if token.text != "-":
            return self._power()
        self.at += 1
        return -self._power()

    def _power(self) -> Number:
        first = self.at
        value = self._operand()
        while self.tokens[self.at].text == "^" and self.starts(self.at + 1):
            self._step()
            value = self._raised(value, self._operand())
        while self.tokens[self.at].kind == "open" and self._is_glued() and self.starts(self.at):
            self.operators += 1
            self.is_doubtful |= self.tokens[first - 1].text == "/"  # 6 / 2(1 + 2) is 9 or 1
            value = self._bounded(value * self._operand())
        self._skip_unit()
        return value

    def _raised(self, base: Number, exponent: Number) -> Number:
        if not isinstance(exponent, int) or abs(exponent) > _EXPONENT_LIMIT or (base == 0 and exponent < 0):
            self.is_usable = False
            return 1
        return self._bounded(Fraction(base) ** exponent)

    def _is_glued(self) -> bool:
        return self.tokens[self.at].start == self.tokens[self.at - 1].end

    def _operand(self) -> Number:
        token = self.tokens[self.at]
        self.at += 1
        if token.kind == "num":
            return self._number(token)
        if token.kind == "frac":
            return self._fraction()
        if token.kind != "open":
            self.is_usable = False
            return 1
        value = self.sum()
        if self.tokens[self.at].kind == "close":
            self.at += 1
        else:
            self.is_usable = False
        return value

    def _number(self, token: Token) -> Number:
        value = self._figure(token)
        whole, part, slash, below = self.tokens[self.at - 1 : self.at + 3]
        # "2 1/2" is a mixed number: one space apart, and the fraction is below 1.
        if (
            part.kind == below.kind == "num"
            and slash.text == "/"
            and part.start == whole.end + 1
            and whole.text.isdigit()
            and self._figure(part) < self._figure(below)
        ):
            self.at += 3
            value = value + self._divided(self._figure(part), self._figure(below))
        elif part.kind == "frac":  # 2\frac{1}{2}
            self.at += 1
            value = value + self._fraction()
            self.operators -= 1
            self.is_doubtful = True  # it may also be a product
        return value

    def _figure(self, token: Token) -> Number:
        text = token.text
        if text.isdigit() and len(text) <= _DIGITS_LIMIT:
            self.is_doubtful |= text[0] == "0" and len(text) > 1  # "0900" is a time
            return int(text)
        if text[-1] in "%t":  # or "percent"
            text = text.rstrip("% percnt")
            self.percents += 1
            return self._divided(self._figure(token._replace(text=text)), self.percent)
        if len(text) > _DIGITS_LIMIT:
            self.is_usable = False
            return 1
        if "," in text:
            if not _THOUSANDS.fullmatch(text):
                self.is_usable = False
                return 1
            text = text.replace(",", "")
        whole, dot, decimals = text.partition(".")
        if not dot:
            return int(whole)
        if not decimals.isdecimal():  # "1.2.3"
            self.is_usable = False
            return 1
        value = Fraction(int(f"{whole}{decimals}"), 10 ** len(decimals))
        return value.numerator if value.denominator == 1 else value

    def _fraction(self) -> Number:
        token = self.tokens[self.at]
        self.operators += 1
        if token.kind == "num" and len(token.text) == 2 and token.text.isdigit() and token.text[1] != "0":
            self.at += 1
            return self._divided(int(token.text[0]), int(token.text[1]))  # \frac12
        if not (self.starts(self.at) and token.kind in ("open", "num")):
            self.is_usable = False
            return 1
        above = self._operand()
        if self.tokens[self.at].kind not in ("open", "num"):
            self.is_usable = False
            return 1
        return self._divided(above, self._operand())

    def _skip_unit(self) -> None:
        """Pass over a unit that stands before an operator, an equals sign or a closing bracket."""
        at = self.at
        token = self.tokens[at]
        if token.kind != "word":
            return
        if token.start == self.tokens[at - 1].end and len(token.text) < 3 and token.text not in SHORT_UNITS:
            self.is_usable = False  # 5x is algebra
            return
        self.is_doubtful |= len(token.text) == 1
        while token.kind == "word" and at - self.at < _UNIT_WORDS:
            if token.text in _CLAUSE or (len(token.text) < 2 and token.text not in SHORT_UNITS):
                return
            if token.text.lower() in BINDING:
                return
            at += 1
            token = self.tokens[at]
        if token.kind in ("op", "eq", "close"):
            self.at = at
            self.has_unit = True
