"""Functions of a list of numbers."""

from __future__ import annotations

from collections.abc import Mapping

from star_rft.data.generators.python_tasks.family import LARGE, MIDDLE, SMALL, Family
from star_rft.data.generators.python_tasks.inputs import Kind

LIST: Mapping[str, Kind] = {"numbers": "numbers"}
ON_LISTS = (
    Family(
        "scale_each",
        1,
        LIST,
        {"k": MIDDLE},
        (
            ("multiply_each", "returns a list with every number in `numbers` multiplied by {k}"),
            ("scale_list", "multiplies each element of the list `numbers` by {k} and returns the new list"),
        ),
        "return [x * {k} for x in numbers]",
    ),
    Family(
        "shift_each",
        1,
        LIST,
        {"k": MIDDLE},
        (("add_to_each", "returns a list with {k} added to every number in `numbers`"),),
        "return [x + {k} for x in numbers]",
    ),
    Family(
        "keep_above",
        1,
        LIST,
        {"k": range(-3, 21)},
        (
            ("keep_above", "returns a list of the numbers in `numbers` that are greater than {k}"),
            ("filter_large", "returns only those elements of the list `numbers` that are larger than {k}, in order"),
        ),
        "return [x for x in numbers if x > {k}]",
    ),
    Family(
        "keep_multiples",
        1,
        LIST,
        {"k": MIDDLE},
        (("keep_multiples", "returns a list of the numbers in `numbers` that are divisible by {k}"),),
        "return [x for x in numbers if x % {k} == 0]",
    ),
    Family(
        "count_below",
        1,
        LIST,
        {"k": range(-3, 21)},
        (("count_below", "returns how many numbers in the list `numbers` are less than {k}"),),
        "return sum(1 for x in numbers if x < {k})",
    ),
    Family(
        "count_value",
        1,
        LIST,
        {"k": range(-3, 21)},
        (("count_value", "returns how many times {k} occurs in the list `numbers`"),),
        "return numbers.count({k})",
    ),
    Family(
        "without_value",
        1,
        LIST,
        {"k": range(-3, 21)},
        (("remove_value", "returns a list of all numbers in `numbers` that are not equal to {k}"),),
        "return [x for x in numbers if x != {k}]",
    ),
    Family(
        "first_few",
        1,
        LIST,
        {"k": SMALL},
        (("first_few", "returns the first {k} elements of the list `numbers`, or all if there are fewer"),),
        "return numbers[:{k}]",
    ),
    Family(
        "every_kth",
        1,
        LIST,
        {"k": SMALL},
        (("every_step", "returns every {k}th element of the list `numbers`, beginning with the first one"),),
        "return numbers[::{k}]",
        lambda params: params["k"] > 3,
    ),
    Family(
        "sum_times",
        1,
        LIST,
        {"k": MIDDLE},
        (("scaled_sum", "returns the sum of the list `numbers`, multiplied by {k}"),),
        "return sum(numbers) * {k}",
    ),
    Family(
        "all_above",
        1,
        LIST,
        {"k": range(-3, 21)},
        (
            (
                "all_above",
                "returns True if every number in `numbers` is greater than {k} or the list is empty, else False",
            ),
        ),
        "return all(x > {k} for x in numbers)",
    ),
    Family(
        "sum_above",
        2,
        LIST,
        {"k": range(1, 25)},
        (("sum_above", "returns the sum of those numbers in `numbers` that are greater than {k}"),),
        "return sum(x for x in numbers if x > {k})",
    ),
    Family(
        "sum_last",
        2,
        LIST,
        {"k": SMALL},
        (("sum_last", "returns the sum of the last {k} numbers of the list `numbers`, or of all if there are fewer"),),
        "return sum(numbers[-{k}:])",
    ),
    Family(
        "replace_value",
        2,
        LIST,
        {"old": range(1, 7), "new": range(0, 8)},
        (("replace_value", "returns a copy of the list `numbers` in which every {old} is replaced by {new}"),),
        "return [{new} if x == {old} else x for x in numbers]",
        lambda params: params["old"] != params["new"],
    ),
    Family(
        "index_of",
        2,
        LIST,
        {"k": range(-3, 21)},
        (("find_index", "returns the index of the first {k} in the list `numbers`, or -1 if there is none"),),
        "return numbers.index({k}) if {k} in numbers else -1",
    ),
    Family(
        "spread_times",
        2,
        LIST,
        {"k": MIDDLE},
        (
            (
                "scaled_range",
                "returns the largest minus the smallest number in `numbers`, times {k}; 0 for an empty list",
            ),
        ),
        "return (max(numbers) - min(numbers)) * {k} if numbers else 0",
    ),
    Family(
        "cap_each",
        2,
        LIST,
        {"k": range(-3, 21)},
        (("cap_each", "returns a copy of the list `numbers` in which every number above {k} is replaced by {k}"),),
        "return [min(x, {k}) for x in numbers]",
    ),
    Family(
        "squares_of_multiples",
        2,
        LIST,
        {"k": MIDDLE},
        (
            (
                "square_multiples",
                "returns the sum of the squares of those numbers in `numbers` that are divisible by {k}",
            ),
        ),
        "return sum(x * x for x in numbers if x % {k} == 0)",
    ),
    Family(
        "kth_largest",
        3,
        LIST,
        {"k": SMALL},
        (
            (
                "pick_large",
                "returns the number at place {k} when the distinct values of the list `numbers` are sorted from large "
                "to small, or None if there are not that many",
            ),
        ),
        "values = sorted(set(numbers), reverse=True)\n    return values[{k} - 1] if len(values) >= {k} else None",
        lambda params: params["k"] < 7,
    ),
    Family(
        "rotate",
        3,
        LIST,
        {"k": SMALL},
        (("rotate_left", "returns the list `numbers` rotated to the left by {k} places; an empty list stays empty"),),
        "if not numbers:\n        return []\n    k = {k} % len(numbers)\n    return numbers[k:] + numbers[:k]",
        lambda params: params["k"] < 7,
    ),
    Family(
        "chunks",
        3,
        LIST,
        {"k": SMALL},
        (("split_list", "splits the list `numbers` into lists of {k} elements, the last of which may be shorter"),),
        "return [numbers[i : i + {k}] for i in range(0, len(numbers), {k})]",
        lambda params: params["k"] < 7,
    ),
    Family(
        "pairs_with_sum",
        3,
        LIST,
        {"k": range(0, 24)},
        (("count_pairs", "returns how many pairs of positions i < j in `numbers` hold numbers that add up to {k}"),),
        "return sum(1 for j in range(len(numbers)) for i in range(j) if numbers[i] + numbers[j] == {k})",
    ),
    Family(
        "restarting_sum",
        3,
        LIST,
        {"k": LARGE},
        (
            (
                "restarting_sums",
                "returns the list of running totals of `numbers`, where after a total that is greater than {k} the "
                "next one starts again from 0",
            ),
        ),
        "totals, total = [], 0\n    for x in numbers:\n        total += x\n        totals.append(total)\n"
        "        if total > {k}:\n            total = 0\n    return totals",
    ),
    Family(
        "longest_run_below",
        3,
        LIST,
        {"k": range(0, 24)},
        (
            (
                "longest_run",
                "returns the length of the longest run of neighbours in `numbers` that are all less than {k}",
            ),
        ),
        "best = length = 0\n    for x in numbers:\n        length = length + 1 if x < {k} else 0\n"
        "        best = max(best, length)\n    return best",
    ),
)
