r"""Parses and evaluates expressions such as `\frac{1+\sqrt{5}}{2}` or `4x^2(4x+11)`, without sympy or `eval`.

A tree (`Node`) is a tuple of an operator and its operands: ("+", ("num", 1), ("sym", "x")). Values are exact
fractions where they are rational, else complex floats. `verifiers.math.identity` compares trees by their values.
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_TOKEN_LIMIT = 400
_DEPTH_LIMIT = 40
# Largest exact powers (in bits of the result) and factorials that are calculated.
_BITS_LIMIT = 50_000
_FACTORIAL_LIMIT = 3_000

Value = Fraction | complex
Node = tuple[Any, ...]


class UnsupportedSyntax(ValueError):
    """The text is outside the grammar, or takes too long to evaluate."""


class UndefinedValue(UnsupportedSyntax):
    """The text is inside the grammar but has no value, as 1/0."""


# A number, a LaTeX command, letters, or one sign.
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|(\\[a-zA-Z]+)|([a-zA-Z]+)|([-+*/^_(){}|!\[\]]))")
_FUNCTIONS: Mapping[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "sec": lambda z: 1 / cmath.cos(z),
    "csc": lambda z: 1 / cmath.sin(z), "cot": lambda z: 1 / cmath.tan(z), "arcsin": cmath.asin,
    "arccos": cmath.acos, "arctan": cmath.atan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "ln": cmath.log, "exp": cmath.exp,
}  # fmt: skip
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_NAMED = (*_FUNCTIONS, "log", "sqrt")
_CONSTANTS: Mapping[str, complex] = {"pi": math.pi, "e": math.e, "i": 1j}
_GREEK_TEXT = (
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi varphi chi psi "
    "omega Gamma Delta Theta Lambda Sigma Phi Psi Omega ell"
)
_GREEK = frozenset(_GREEK_TEXT.split())
# Opening brackets and what closes them.
_SHAPES = {"\\lfloor": "\\rfloor", "\\lceil": "\\rceil", "(": ")", "{": "}", "|": "|", "[": "]"}

_RADIANS: Node = ("/", ("const", "pi"), ("num", Fraction(180)))


@dataclass(slots=True)
class _Parser:
    """Recursive descent over tokens; each method returns a node and moves `at` behind what it read.

    The grammar, loosest first: sum, product (also without a sign: 2x), factor (with ^ and !), primary.
    """

    tokens: list[str]
    at: int = 0
    depth: int = 0  # of nested sums
    calls: int = 0  # of functions whose argument is being read

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise UnsupportedSyntax(f"expected {token}")

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > _DEPTH_LIMIT:
            raise UnsupportedSyntax("nested too deeply")
        node = self.product()
        while self.peek() in ("+", "-"):
            node = (self.next(), node, self.product())
        self.depth -= 1
        return node

    def product(self) -> Node:
        if self.peek() in ("+", "-"):
            sign = self.next()
            node = self.product()
            return node if sign == "+" else ("neg", node)
        node = self.factor()
        while True:
            token = self.peek()
            if token in ("*", "\\cdot", "\\times", "/"):
                self.next()
                sign = self.next() if self.peek() in ("+", "-") else ""
                right = self.factor()
                node = ("/" if token == "/" else "*", node, ("neg", right) if sign == "-" else right)
            # A product without a sign; not before a digit, for "2 3" is no product.
            elif self.starts_factor() and not (token[0].isdigit() or token[0] == "."):
                node = ("*", node, self.factor())
            else:
                return node

    def starts_factor(self) -> bool:
        token = self.peek()
        if not token or token in ("}", ")", "]", "|", "\\rfloor", "\\rceil"):
            return False
        return token[0].isalnum() or token[0] in ".\\({"

    def factor(self) -> Node:
        node = self.primary()
        while self.peek() in ("^", "!"):
            if self.next() == "!":
                node = ("!", node)
            elif self.takes_degrees():
                # sin 30° converts to radians; outside functions the degree sign is a unit and dropped.
                node = ("*", node, _RADIANS) if self.calls else node
            else:
                node = ("^", node, self.exponent())
        return node

    def takes_degrees(self) -> bool:
        for sign in (["\\circ"], ["{", "\\circ", "}"]):  # after "^"
            if self.tokens[self.at : self.at + len(sign)] == sign:
                self.at += len(sign)
                return True
        return False

    def exponent(self) -> Node:
        if self.peek() == "-":
            self.next()
            return ("neg", self.exponent())
        return self.primary()

    def primary(self) -> Node:
        token = self.next()
        if not token:
            raise UnsupportedSyntax("ends early")
        if token in _SHAPES:
            node = self.sum()
            self.expect(_SHAPES[token])
            return (token, node) if token in ("|", "\\lfloor", "\\lceil") else node
        if token[0].isdigit() or token[0] == ".":
            return self.number(token)
        name = token.lstrip("\\")
        if name == "frac":
            return ("/", self.argument(), self.argument())
        if name == "binom":
            return ("binom", self.argument(), self.argument())
        if name == "sqrt":
            return self.root()
        if name in _FUNCTIONS or name == "log":
            return self.call(name)
        if name in _CONSTANTS or len(token) == 1 or name in _GREEK:
            return self.symbol(name)
        raise UnsupportedSyntax(f"unknown {token}")

    def number(self, token: str) -> Node:
        if len(token) > 400:
            raise UnsupportedSyntax("a number too long")
        value = Fraction(f"0{token}" if token[0] == "." else token.rstrip("."))
        # 2\frac{1}{2} is a mixed number, not a product.
        if "." not in token and self.peek() == "\\frac":
            start = self.at
            part = self.primary()
            if part[1][0] == part[2][0] == "num" and part[2][1]:
                return ("num", value + part[1][1] / part[2][1])
            self.at = start  # 2\\frac{x}{2} is a product: read the fraction again as a factor
        return ("num", value)

    def argument(self) -> Node:
        r"""Return what a command such as \frac takes: a group, a letter or a digit, so that \frac12 is one half."""
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:
            self.tokens[self.at] = token[1:]
            return ("num", Fraction(token[0]))
        return self.primary()

    def root(self) -> Node:
        degree: Node = ("num", Fraction(2))
        if self.peek() == "[":
            self.next()
            degree = self.sum()
            self.expect("]")
        return ("^", self.primary(), ("/", ("num", Fraction(1)), degree))  # a root is a power of 1/degree

    def call(self, name: str) -> Node:
        # Between a function and its argument: \sin^2 x is (sin x)^2, \log_2 has a base, \sin^{-1} is the inverse.
        power: Node | None = None
        base: Node | None = None
        while self.peek() in ("^", "_"):
            if self.next() == "_":
                base = self.argument()
            else:
                power = self.exponent()
        if power == ("neg", ("num", Fraction(1))):
            name, power = _INVERSES.get(name, ""), None
            if not name:
                raise UnsupportedSyntax("an unknown inverse")
        self.calls += 1
        node: Node = ("call", name, self.operand())
        self.calls -= 1
        if name == "log":
            # Without a base it may be 10, e or 2. As an unknown it cancels where both expressions use it alike.
            node = ("/", ("call", "ln", node[2]), ("call", "ln", base) if base else ("sym", "log base"))
        return ("^", node, power) if power else node

    def operand(self) -> Node:
        r"""Return a function's argument: a group, or the product that follows, as in \sin 4x."""
        if self.peek() in ("(", "{", "|"):
            return self.factor()
        sign = self.next() if self.peek() == "-" else ""
        node = self.factor()
        while self.starts_factor() and self.peek().lstrip("\\") not in (*_NAMED, "(", "cdot", "times"):
            node = ("*", node, self.factor())
        return ("neg", node) if sign else node

    def symbol(self, name: str) -> Node:
        if self.peek() == "_":
            self.next()
            if self.peek() == "{":
                self.next()
                parts = []  # a subscript is part of the name: x_{12}
                while (part := self.next()) not in ("}", ""):
                    parts.append(part)
                return ("sym", f"{name}_{''.join(parts)}")
            return ("sym", f"{name}_{self.next()}")
        return ("const", name) if name in _CONSTANTS else ("sym", name)


def parse(text: str) -> Node:
    """Return the tree of a cleaned expression; raise UnsupportedSyntax outside the grammar.

    For "2x+1" it is ("+", ("*", ("num", 2), ("sym", "x")), ("num", 1)), where the numbers are fractions.
    """
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or len(tokens) > _TOKEN_LIMIT:
            raise UnsupportedSyntax("not an expression")
        word = match[3]
        # Letters without a backslash are a product of unknowns, but three or more that name no function are a word.
        if word is not None and word not in (*_NAMED, "pi"):
            if len(word) > 2:
                raise UnsupportedSyntax(f"a word, {word}")
            tokens.extend(word)
        else:
            tokens.append(match[1] or match[2] or word or match[4])
        at = match.end()
    tokens = [token for token in tokens if token not in ("\\limits",)]
    parser = _Parser(tokens)
    node = parser.sum()
    if parser.at != len(parser.tokens):
        raise UnsupportedSyntax(f"unexpected {parser.peek()}")
    return node


def symbols(node: Node) -> frozenset[str]:
    """Return the names of the unknowns of a tree."""
    if node[0] == "sym":
        return frozenset([node[1]])
    return frozenset().union(*(symbols(part) for part in node[1:] if isinstance(part, tuple)))


def evaluate(node: Node, point: Mapping[str, Value]) -> Value:
    """Return the value of a tree at a point (a value for each unknown), a Fraction where it is exactly rational.

    Raises UndefinedValue where it divides by zero, and UnsupportedSyntax where it is too large or undefined otherwise.
    """
    try:
        return _evaluate(node, point)
    except ZeroDivisionError as error:
        raise UndefinedValue(str(error)) from error
    except (OverflowError, ValueError) as error:
        raise UnsupportedSyntax(str(error)) from error


def _evaluate(node: Node, point: Mapping[str, Value]) -> Value:
    kind = node[0]
    if kind == "num":
        value: Fraction = node[1]
        return value
    if kind == "sym":
        return point[node[1]]
    if kind == "const":
        return _CONSTANTS[node[1]]
    if kind == "call":
        return _FUNCTIONS[node[1]](complex(_evaluate(node[2], point)))
    values = [_evaluate(part, point) for part in node[1:]]
    if kind == "^":
        return _power(values[0], values[1])
    if kind in _OPERATIONS:
        return _OPERATIONS[kind](*values)
    # Fractions stay exact only among themselves.
    first, second = values if all(isinstance(value, Fraction) for value in values) else map(complex, values)
    if kind == "+":
        return first + second
    if kind == "-":
        return first - second
    return first * second if kind == "*" else first / second


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if bits * abs(exponent.numerator) > _BITS_LIMIT:
                raise UnsupportedSyntax("a power too large")
            return base**exponent.numerator
        if base >= 0 and (root := _exact_root(base, exponent.denominator)) is not None:
            return _power(root, Fraction(exponent.numerator))
        if base < 0 and exponent.denominator % 2:
            # The real root, as for \sqrt[3]{-8}, where Python gives the principal complex one.
            size = _power(-base, exponent)
            return -size if exponent.numerator % 2 else size
    return complex(base) ** complex(exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """Return the rational root of this degree, or None. Roots above square ones are found by a float and verified."""
    if degree > 64:
        return None
    roots = []
    for part in (value.numerator, value.denominator):
        root = math.isqrt(part) if degree == 2 else round(float(part) ** (1 / degree))
        if root**degree != part:
            return None
        roots.append(root)
    return Fraction(*roots)


def _factorial(value: Value) -> Value:
    if isinstance(value, Fraction) and value.denominator == 1:
        if not 0 <= value <= _FACTORIAL_LIMIT:
            raise UnsupportedSyntax("a factorial too large, or of no natural number")
        return Fraction(math.factorial(value.numerator))
    # At a point where an unknown is no whole number, n! is gamma(n + 1), so that n!/(n-1)! equals n there too.
    if value.imag or not 0 < value.real < 100:
        raise UnsupportedSyntax("a factorial of no positive number")
    return complex(math.gamma(float(value.real) + 1))


def _binomial(n: Value, k: Value) -> Value:
    whole = [part for part in (n, k) if isinstance(part, Fraction) and part.denominator == 1]
    if len(whole) != 2 or not 0 <= whole[1] <= whole[0] <= _FACTORIAL_LIMIT:
        raise UnsupportedSyntax("no binomial coefficient")
    return Fraction(math.comb(whole[0].numerator, whole[1].numerator))


def _rounded(value: Value, how: Callable[[Fraction | float], int]) -> Value:
    if isinstance(value, Fraction):
        return Fraction(how(value))
    if abs(value.imag) > 1e-12:  # beyond rounding errors
        raise UnsupportedSyntax("the floor of a complex number")
    return Fraction(how(value.real))


_OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "neg": lambda value: -value,
    "!": _factorial,
    "binom": _binomial,
    "|": lambda value: abs(value),
    "\\lfloor": lambda value: _rounded(value, math.floor),
    "\\lceil": lambda value: _rounded(value, math.ceil),
}
