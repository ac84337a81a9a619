"""Tests whether two expressions are equal by their values at a few fixed points.

Values are exact where they are rational, else floats. Expressions that differ at a point are different, which
settles most wrong answers without sympy; those that agree at all points are taken as equal.
"""

from __future__ import annotations

import cmath
import functools
from fractions import Fraction

from verifiers.math.algebra import Node, UnsupportedSyntax, Value, evaluate, symbols

# Numbers of points, see `_coordinate`. Those with positive coordinates lie in the domain of roots and logarithms.
# Coordinates are fractions, so that polynomials are compared exactly: (x+2)^5 and its expansion differ in floats
# near -2.
_POSITIVE = (0, 1, 2, 3)
_ANYWHERE = (4, 5, 6)


def _points(names: list[str], which: tuple[int, ...]) -> list[dict[str, Value]]:
    return [{name: _coordinate(point, i) for i, name in enumerate(names)} for point in which]


@functools.cache
def _coordinate(point: int, unknown: int) -> Fraction:
    """Return the coordinate of a point for an unknown: between 0.28 and 4.41, or for half of `_ANYWHERE` negative.

    Coordinates are pseudo-random, so that no two unknowns are in a simple relation at all points.
    """
    # The primes and the final mix of the hash xxHash32.
    mixed = (point * 1009 + unknown + 1) * 0x9E3779B1 % 2**32
    mixed = (mixed ^ (mixed >> 15)) * 0x85EBCA77 % 2**32
    mixed = (mixed ^ (mixed >> 13)) * 0xC2B2AE3D % 2**32
    mixed ^= mixed >> 16
    # 67 and 1031 are prime: no coordinate is a whole number or a simple fraction.
    value = Fraction(mixed % 277 + 19, 67) + Fraction(1, 1031)
    return -value if point >= _ANYWHERE[0] and mixed & 0x10000 else value


def same_expression(first: Node, second: Node) -> bool | None:
    """Whether two expressions are equal: exactly without unknowns, else at all points; None where it cannot be told."""
    names = sorted(symbols(first) | symbols(second))
    # `\log` of unknown base against an expression without it: it depends on the base.
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
                continue  # undefined at this point, as log(x - 5) is
            if not is_same:
                # At negative points equal expressions may take different branches of a root or logarithm.
                return False if which is _POSITIVE else None
            agreed += 1
    return True if agreed >= 3 else None  # of 7 points


def _close(first: Value, second: Value) -> bool:
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    try:
        a, b = complex(first), complex(second)
    except OverflowError as error:
        raise UnsupportedSyntax("too large for a float") from error
    if cmath.isnan(a) or cmath.isnan(b) or cmath.isinf(a) or cmath.isinf(b):
        raise UnsupportedSyntax("not finite")
    # Relative, because 1e-7 is not 2e-7; but a value near 0 equals 0, as sin(pi) in floats.
    return abs(a - b) <= 1e-10 * max(abs(a), abs(b)) or (not a * b and max(abs(a), abs(b)) < 1e-14)


def same_up_to_scale(first: Node, second: Node) -> bool | None:
    """Whether `first` = c * `second` for a constant c other than 0; None where it cannot be told.

    For the differences left minus right of two equations, this means that the equations are equivalent.
    """
    names = sorted(symbols(first))
    if not names:
        return None
    if symbols(first) != symbols(second):
        return False
    ratios: list[Value] = []
    for point in _points(names, _POSITIVE) + _points(names, _ANYWHERE):
        try:
            a, b = evaluate(first, point), evaluate(second, point)
            if abs(complex(b)) < 1e-9 or abs(complex(a)) < 1e-9:  # by chance a root: the ratio says nothing
                return None
            ratios.append(a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) / complex(b))
        except (UnsupportedSyntax, OverflowError):
            continue
    if len(ratios) < 4:
        return None
    return all(_close(ratio, ratios[0]) for ratio in ratios)
