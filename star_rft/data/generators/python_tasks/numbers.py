"""Functions of one number or two."""

from __future__ import annotations

from collections.abc import Mapping

from star_rft.data.generators.python_tasks.family import LARGE, MIDDLE, Family
from star_rft.data.generators.python_tasks.inputs import Kind

N: Mapping[str, Kind] = {"n": "number"}
ON_NUMBERS = (
    Family(
        "plus",
        1,
        N,
        {"k": MIDDLE},
        (("add_number", "returns `n` plus {k}"), ("increase", "returns the number that is {k} more than `n`")),
        "return n + {k}",
    ),
    Family(
        "linear",
        1,
        N,
        {"a": range(2, 8), "b": range(1, 10)},
        (("scale_and_shift", "multiplies `n` by {a}, adds {b} and returns the result"),),
        "return n * {a} + {b}",
    ),
    Family(
        "square_minus",
        1,
        N,
        {"k": MIDDLE},
        (("square_minus", "returns the square of `n` minus {k}"), ("lower_square", "squares `n` and subtracts {k}")),
        "return n * n - {k}",
    ),
    Family(
        "is_multiple",
        1,
        N,
        {"k": MIDDLE},
        (
            ("is_multiple", "returns True if `n` is a multiple of {k}, and False otherwise"),
            ("can_be_divided", "returns whether `n` can be divided by {k} without a remainder"),
        ),
        "return n % {k} == 0",
    ),
    Family(
        "remainder",
        1,
        {"n": "natural"},
        {"k": range(3, 27)},
        (("remainder", "returns the remainder when `n` is divided by {k}"), ("left_over", "returns `n` modulo {k}")),
        "return n % {k}",
    ),
    Family(
        "is_above",
        1,
        N,
        {"k": range(-5, 25)},
        (("is_above", "returns True if `n` is greater than {k}, and False otherwise"),),
        "return n > {k}",
    ),
    Family(
        "is_between",
        1,
        N,
        {"low": range(1, 9), "high": range(10, 31, 4)},
        (("is_between", "returns True if `n` is between {low} and {high}, both included, and False otherwise"),),
        "return {low} <= n <= {high}",
    ),
    Family(
        "weighted_sum",
        1,
        {"x": "number", "y": "number"},
        {"a": range(2, 7), "b": range(2, 7)},
        (("weighted_sum", "returns {a} times `x` plus {b} times `y`"),),
        "return {a} * x + {b} * y",
    ),
    Family(
        "larger_plus",
        1,
        {"a": "number", "b": "number"},
        {"k": MIDDLE},
        (("larger_plus", "returns the larger of `a` and `b`, plus {k}"),),
        "return max(a, b) + {k}",
    ),
    Family(
        "distance_times",
        1,
        {"a": "number", "b": "number"},
        {"k": MIDDLE},
        (("scaled_distance", "returns the absolute difference of `a` and `b`, multiplied by {k}"),),
        "return abs(a - b) * {k}",
    ),
    Family(
        "pass_or_fail",
        1,
        {"score": "natural"},
        {"k": LARGE},
        (("grade", 'returns "pass" if `score` is at least {k}, and "fail" otherwise'),),
        'return "pass" if score >= {k} else "fail"',
    ),
    Family(
        "clamp",
        2,
        N,
        {"low": range(-4, 5), "high": range(8, 25, 4)},
        (("limit", "returns {low} if `n` is less than {low}, {high} if `n` is greater than {high}, and else `n`"),),
        "return max({low}, min({high}, n))",
    ),
    Family(
        "multiple_of_either",
        2,
        N,
        {"a": range(2, 10), "b": range(3, 14)},
        (("is_multiple_of_either", "returns True if `n` is a multiple of {a} or of {b}, and False otherwise"),),
        "return n % {a} == 0 or n % {b} == 0",
        lambda params: params["a"] < params["b"] and params["b"] % params["a"] != 0,
    ),
    Family(
        "halve_or_grow",
        2,
        {"n": "natural"},
        {"a": range(2, 6), "b": range(1, 8)},
        (("next_number", "returns half of `n` if `n` is even, and {a} times `n` plus {b} if it is odd"),),
        "return n // 2 if n % 2 == 0 else {a} * n + {b}",
    ),
    Family(
        "sum_of_multiples_up_to",
        2,
        {"n": "natural"},
        {"k": MIDDLE},
        (("sum_multiples", "returns the sum of all multiples of {k} from 1 to `n`, `n` included"),),
        "return sum(i for i in range(1, n + 1) if i % {k} == 0)",
    ),
    Family(
        "fizz",
        3,
        {"n": "natural"},
        {"a": range(2, 6), "b": (3, 4, 5, 7), "word": ("fizz", "tick", "hop")},
        (
            (
                "say",
                'returns "{word}" if `n` is a multiple of {a}, "buzz" if it is a multiple of {b}, "{word}buzz" if it is'
                " a multiple of both, and `n` as a string otherwise",
            ),
        ),
        'said = ("{word}" if n % {a} == 0 else "") + ("buzz" if n % {b} == 0 else "")\n    return said or str(n)',
        lambda params: params["b"] % params["a"] != 0 and params["a"] % params["b"] != 0,
    ),
    Family(
        "count_digit",
        3,
        {"n": "natural"},
        {"digit": range(10)},
        (("count_digit", "returns how often the digit {digit} occurs in `n` when `n` is written in decimal"),),
        'return str(n).count("{digit}")',
    ),
    Family(
        "divisions",
        3,
        {"n": "positive"},
        {"k": range(2, 12)},
        (("count_divisions", "returns how many times in a row `n` can be divided by {k} without a remainder"),),
        "count = 0\n    while n % {k} == 0:\n        n //= {k}\n        count += 1\n    return count",
        lambda params: params["k"] not in (4, 8, 9),
    ),
    Family(
        "steps_to_zero",
        3,
        {"n": "natural"},
        {"a": range(2, 6), "b": range(1, 5)},
        (
            (
                "count_steps",
                "counts the steps until `n` is 0 or less and returns the count: in each step `n` is divided by {a} if "
                "that leaves no remainder, and else {b} is subtracted from it",
            ),
        ),
        "steps = 0\n    while n > 0:\n        n = n // {a} if n % {a} == 0 else n - {b}\n        steps += 1\n"
        "    return steps",
    ),
)
