r"""Parses arithmetic in prose: `3 apples * 2`, `$1,200 ÷ 4`, `20% of 50`, `\frac{48}{2}`.

A text becomes tokens, and a reader takes expressions from them, exactly. Text never reaches `eval`, and every
step costs a bounded amount, so the time is linear in the text.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

Number = int | Fraction


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# No figure of a worked solution is longer; longer ones cost more than they are worth.
DIGITS_LIMIT = 30
SIZE_LIMIT = 10**60
EXPONENT_LIMIT = 64
DEPTH_LIMIT = 20
UNIT_WORDS = 2

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
# After a number these bind it to something that is not read here.
BINDING = words("of choose mod sqrt sin cos tan log ln pi squared cubed factorial remainder r rem times")
# These end a clause: "3 + 4 so the total" has no unit "so the total".
_CLAUSE = words(
    "so then and is are was were total which that thus therefore hence gives makes because but or for if we he she "
    "they it the this"
)
SHORT_UNITS = words("m g h s l L a A cm mm km dm kg mg lb oz ft in mi mL ml hr gb GB MB mb am pm cl sq")


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def plain(text: str) -> str:
    """Return the text with LaTeX and look-alike signs of arithmetic written plainly."""
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
    """Return the tokens of a plain text; brackets without a partner on their side of `=` become "stop"."""
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
                tokens.pop()  # a line that begins with "=" goes on from the line before
            if opened:
                _unpair(tokens, opened)
            tokens.append(token)
        elif kind == "open":
            opened.append(len(tokens))
            tokens.append(token)
        elif kind == "close":
            tokens.append(_closed(token, tokens, opened))
        # "$5 / hour" is the unit of a number and no division, "5-hour" no difference: both are passed over
    _unpair(tokens, opened)
    return tokens


def _closed(token: Token, tokens: list[Token], opened: list[int]) -> Token:
    if not opened or _CLOSES[tokens[opened[-1]].text] != token.text:
        return token._replace(kind="stop")
    at = opened.pop()
    if len(opened) < DEPTH_LIMIT:
        return token
    tokens[at] = tokens[at]._replace(kind="bad")
    return token._replace(kind="bad")


def _unpair(tokens: list[Token], opened: list[int]) -> None:
    for at in opened:
        tokens[at] = tokens[at]._replace(kind="stop")
    opened.clear()


class Reader:
    """Recursive descent over tokens. `at` only grows, and groups are paired and shallow: linear time."""

    def __init__(self, tokens: list[Token], *, percent: int = 100) -> None:
        self.tokens = [*tokens, Token("end", "", 0, 0), Token("end", "", 0, 0), Token("end", "", 0, 0)]
        self.percent = percent
        self.at = 0
        self.is_usable = True
        self.is_doubtful = False
        self.has_unit = False
        self.operators = 0
        self.percents = 0

    def starts(self, at: int) -> bool:
        """Whether an operand begins here."""
        was_sign = False
        while True:  # groups are only so deep, and one sign may stand before each
            token = self.tokens[at]
            if token.text == "-" and not was_sign:
                was_sign = True
            elif token.kind == "open":
                was_sign = False
            else:
                return token.kind in ("num", "frac")
            at += 1

    def sum(self) -> Number:
        total = self.product()
        while self.tokens[self.at].text in ("+", "-") and self.starts(self.at + 1):
            is_minus = self.tokens[self.at].text == "-"
            self.step()
            part = self.product()
            total = self.bounded(total - part if is_minus else total + part)
        return total

    def product(self) -> Number:
        value = self.factor()
        divisions = 0
        while True:
            sign = self.tokens[self.at].text
            if not (sign in _PRODUCTS or (sign == "of" and self.is_share())) or not self.starts(self.at + 1):
                return value
            # "28 / 1/5" divides by a fifth or twice; "1/3 of 150" and "20 times 2 people" may be plain words.
            divisions += sign in ("/", "over")
            self.is_doubtful |= divisions > 1 or sign in ("of", "times", "over")
            self.step()
            right = self.factor()
            value = self.divided(value, right) if sign in ("/", "over") else self.bounded(value * right)

    def is_share(self) -> bool:
        """ "20% of 50" and "1/2 of 48" multiply; "3 of 20" does not."""
        before = self.tokens[self.at - 1]
        is_quotient = self.at > 1 and self.tokens[self.at - 2].text == "/"
        return before.kind == "close" or (before.kind == "num" and (is_quotient or not before.text[-1].isdigit()))

    def step(self) -> None:
        self.operators += 1
        self.at += 1

    def bounded(self, value: Number) -> Number:
        if isinstance(value, Fraction):
            if value.denominator == 1:
                value = value.numerator
            elif value.denominator > SIZE_LIMIT:
                self.is_usable = False
                return 1
        if -SIZE_LIMIT < value < SIZE_LIMIT:
            return value
        self.is_usable = False
        return 1

    def divided(self, value: Number, by: Number) -> Number:
        if by == 0:
            self.is_usable = False
            return 1
        if isinstance(value, int) and isinstance(by, int) and value % by == 0:
            return self.bounded(value // by)
        return self.bounded(Fraction(value, by))

    def factor(self) -> Number:
        token, following = self.tokens[self.at], self.tokens[self.at + 1]
        if token.kind == "num" and following.kind in _SIMPLE and following.text != "^":
            self.at += 1
            return self.figure(token)  # most numbers, without the detour
        if token.text != "-":
            return self.power()
        self.at += 1
        return -self.power()

    def power(self) -> Number:
        first = self.at
        value = self.operand()
        while self.tokens[self.at].text == "^" and self.starts(self.at + 1):
            self.step()
            value = self.raised(value, self.operand())
        while self.tokens[self.at].kind == "open" and self.is_glued() and self.starts(self.at):
            self.operators += 1
            self.is_doubtful |= self.tokens[first - 1].text == "/"  # 6 / 2(1 + 2)
            value = self.bounded(value * self.operand())
        self.skip_unit()
        return value

    def raised(self, base: Number, exponent: Number) -> Number:
        if not isinstance(exponent, int) or abs(exponent) > EXPONENT_LIMIT or (base == 0 and exponent < 0):
            self.is_usable = False
            return 1
        return self.bounded(Fraction(base) ** exponent)

    def is_glued(self) -> bool:
        return self.tokens[self.at].start == self.tokens[self.at - 1].end

    def operand(self) -> Number:
        token = self.tokens[self.at]
        self.at += 1
        if token.kind == "num":
            return self.number(token)
        if token.kind == "frac":
            return self.fraction()
        if token.kind != "open":
            self.is_usable = False
            return 1
        value = self.sum()
        if self.tokens[self.at].kind == "close":
            self.at += 1
        else:
            self.is_usable = False
        return value

    def number(self, token: Token) -> Number:
        value = self.figure(token)
        whole, part, slash, below = self.tokens[self.at - 1 : self.at + 3]
        # "2 1/2" is a mixed number; its parts stand close together, and the part is below 1.
        if (
            part.kind == below.kind == "num"
            and slash.text == "/"
            and part.start == whole.end + 1
            and whole.text.isdigit()
            and self.figure(part) < self.figure(below)
        ):
            self.at += 3
            value = value + self.divided(self.figure(part), self.figure(below))
        elif part.kind == "frac":  # 2\frac{1}{2}
            self.at += 1
            value = value + self.fraction()
            self.operators -= 1
            self.is_doubtful = True  # or a product
        return value

    def figure(self, token: Token) -> Number:
        text = token.text
        if text.isdigit() and len(text) <= DIGITS_LIMIT:
            self.is_doubtful |= text[0] == "0" and len(text) > 1  # "0900" is a time
            return int(text)
        if text[-1] in "%t":  # or "percent"
            text = text.rstrip("% percnt")
            self.percents += 1
            return self.divided(self.figure(token._replace(text=text)), self.percent)
        if len(text) > DIGITS_LIMIT:
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

    def fraction(self) -> Number:
        token = self.tokens[self.at]
        self.operators += 1
        if token.kind == "num" and len(token.text) == 2 and token.text.isdigit() and token.text[1] != "0":
            self.at += 1
            return self.divided(int(token.text[0]), int(token.text[1]))  # \frac12
        if not (self.starts(self.at) and token.kind in ("open", "num")):
            self.is_usable = False
            return 1
        above = self.operand()
        if self.tokens[self.at].kind not in ("open", "num"):
            self.is_usable = False
            return 1
        return self.divided(above, self.operand())

    def skip_unit(self) -> None:
        """Pass over a unit that stands before an operator, an equals sign or a closing bracket."""
        at = self.at
        token = self.tokens[at]
        if token.kind != "word":
            return
        if token.start == self.tokens[at - 1].end and len(token.text) < 3 and token.text not in SHORT_UNITS:
            self.is_usable = False  # 5x is algebra
            return
        self.is_doubtful |= len(token.text) == 1
        while token.kind == "word" and at - self.at < UNIT_WORDS:
            if token.text in _CLAUSE or (len(token.text) < 2 and token.text not in SHORT_UNITS):
                return
            if token.text.lower() in BINDING:
                return
            at += 1
            token = self.tokens[at]
        if token.kind in ("op", "eq", "close"):
            self.at = at
            self.has_unit = True
