"""Tests whether two expressions are equal, by their values at points: exact for fractions, else in floats.

Two expressions that differ at a point are different; that settles most wrong answers without sympy.
"""

from __future__ import annotations

import cmath
import functools
from fractions import Fraction

from verifiers.math.algebra import Node, UnsupportedSyntax, Value, evaluate, symbols

# Points without special meaning; the positive ones lie in the domain of roots and logarithms. Fractions, so that
# polynomials are compared exactly: (x+2)^5 and its expansion differ in floats near -2.
_POSITIVE = (0, 1, 2, 3)
_ANYWHERE = (4, 5, 6)


def _points(names: list[str], which: tuple[int, ...]) -> list[dict[str, Value]]:
    return [{name: _coordinate(point, i) for i, name in enumerate(names)} for point in which]


@functools.cache
def _coordinate(point: int, unknown: int) -> Fraction:
    """One of 0.3 to 4.4, negative for half of those that may be; mixed well, so that no points lie in one plane."""
    mixed = (point * 1009 + unknown + 1) * 0x9E3779B1 % 2**32
    mixed = (mixed ^ (mixed >> 15)) * 0x85EBCA77 % 2**32
    mixed = (mixed ^ (mixed >> 13)) * 0xC2B2AE3D % 2**32
    mixed ^= mixed >> 16
    value = Fraction(mixed % 277 + 19, 67) + Fraction(1, 1031)
    return -value if point >= _ANYWHERE[0] and mixed & 0x10000 else value


def same_expression(first: Node, second: Node) -> bool | None:
    """True: equal exactly or at all points. False: different at a positive point. None: cannot tell."""
    names = sorted(symbols(first) | symbols(second))
    if symbols(first) != symbols(second) and "log base" in names:
        return None
    if not names:
        return _close(evaluate(first, {}), evaluate(second, {}))
    agreed = 0
    for which in (_POSITIVE, _ANYWHERE):
        for point in _points(names, which):
            try:
                is_same = _close(evaluate(first, point), evaluate(second, point))
            except UnsupportedSyntax:
                continue
            if not is_same:
                # Elsewhere the branches of roots and logarithms may differ where the expressions do not.
                return False if which is _POSITIVE else None
            agreed += 1
    return True if agreed >= 3 else None


def _close(first: Value, second: Value) -> bool:
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    try:
        a, b = complex(first), complex(second)
    except OverflowError as error:
        raise UnsupportedSyntax("too large for a float") from error
    if cmath.isnan(a) or cmath.isnan(b) or cmath.isinf(a) or cmath.isinf(b):
        raise UnsupportedSyntax("not finite")
    # Relative only: 1e-7 is not 2e-7. What cancels to nearly nothing, as sin(pi) does, is nothing.
    return abs(a - b) <= 1e-10 * max(abs(a), abs(b)) or (not a * b and max(abs(a), abs(b)) < 1e-14)


def same_up_to_scale(first: Node, second: Node) -> bool | None:
    """Whether `first` = c * `second` for one constant c that is not 0, as for the sides of two equations."""
    names = sorted(symbols(first))
    if not names:
        return None
    if symbols(first) != symbols(second):
        return False
    ratios: list[Value] = []
    for point in _points(names, _POSITIVE) + _points(names, _ANYWHERE):
        try:
            a, b = evaluate(first, point), evaluate(second, point)
            if abs(complex(b)) < 1e-9 or abs(complex(a)) < 1e-9:
                return None
            ratios.append(a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) / complex(b))
        except (UnsupportedSyntax, OverflowError):
            continue
    if len(ratios) < 4:
        return None
    return all(_close(ratio, ratios[0]) for ratio in ratios)
