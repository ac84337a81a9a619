"""Scripts and references: what is run, compared and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import verifiers
from tests.shared_data import shared
from tests.verifiers.checks.code_cases import CHECK, cases, judge


@pytest.fixture(scope="module")
def pool() -> Iterator[verifiers.Pool]:
    with verifiers.Pool("code", workers=1, timeout=6.0) as pool:
        yield pool


# Scripts

SCRIPTS = {
    "lines": ("for _ in range(2):\n    print(input())\n", "a\nb\n", "a\nb"),
    "buffer": ("import sys\nprint(int(sys.stdin.buffer.read()) + 1)\n", "4\n", "5\n"),
    "open(0)": ("print(sum(map(int, open(0).read().split())))\n", "1 2 3", "6"),
    "exit()": ("print('a')\nexit()\nprint('b')\n", "", "a\n"),
    "exit handler": (
        "import atexit, io, sys\nb = io.StringIO()\nsys.stdout = b\n"
        "atexit.register(lambda: sys.__stdout__.write(b.getvalue()))\nprint('x')\n", "", "x\n"),
    "thread": (
        "import threading, sys\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**27)\n"
        "def main():\n    print(int(input()) * 2)\nthreading.Thread(target=main).start()\n", "4", "8"),
    "closed output": ("import os\nprint(1, flush=True)\nos.close(1)\nsum(range(10**5))\n", "", "1"),
    "much of both": ("print(len(open(0).read()))\nprint('y' * 3_000_000)\n", "x" * 3_000_000,
                     f"3000000\n{'y' * 3_000_000}"),
    "output that it closed itself": ("import sys\nprint(1, __file__)\nsys.stdout.close()\n", "", "1 solution.py"),
    "carriage returns": ("print(1)\nprint(2)\n", "", "1\r\n2\r\n"),
    "spaces at line ends": ("print('1 2 ')\nprint()\n", "", "1 2\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_honest_scripts_pass(pool: verifiers.Pool, name: str) -> None:
    program, stdin, stdout = SCRIPTS[name]
    verdict = judge(pool, program, cases((stdin, stdout)))
    assert (verdict.status, verdict.answer) == ("correct", None)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print(1)\n", "mismatch"),
        ("print(1)\nprint(2)\nprint(3)\nprint(4)\n", "mismatch"),
        ("print(1)\nprint(2)\nprint(3)\nimport sys\nsys.exit(3)\n", "crash"),
        ("print(1)\nprint(2)\nprint(3)\nraise ValueError\n", "crash"),
        ("while True:\n    print('x' * 4096)\n", "mismatch"),
        ("print(1", "crash"),
        ("print('1\\x0b2\\u20283')\n", "mismatch"),
    ],
)
def test_every_line_of_the_output_counts_and_so_does_a_clean_end(
    pool: verifiers.Pool, program: str, reason: str
) -> None:
    verdict = judge(pool, program, cases(("", "1\n2\n3\n")))
    assert (verdict.status, verdict.reason) == ("incorrect", reason)


def test_each_case_is_a_fresh_process_and_the_first_failure_is_named(pool: verifiers.Pool) -> None:
    program = "import os\nprint(os.path.exists('seen'))\nopen('seen', 'w').close()\n"
    assert judge(pool, program, cases(("", "False"), ("", "False"))).is_correct
    verdict = judge(pool, "print(input())\n", cases(("1", "1"), ("2", "3")))
    assert verdict.answer is not None
    assert verdict.answer.startswith("case 2: ")


def test_cases_may_be_pairs_and_json_text(pool: verifiers.Pool) -> None:
    assert judge(pool, "print(input())\n", {"cases": [["1", "1"]]}).is_correct
    assert judge(pool, "print(input())\n", json.dumps(cases(("1", "1")))).is_correct


# What went wrong


@pytest.mark.parametrize(
    ("program", "reason", "answer"),
    [
        ("def solve(x):\n    return 2\n", "mismatch", "AssertionError (assert candidate(1) == 1)"),
        (
            "def solve(x):\n    return 1 / 0\n",
            "crash",
            "ZeroDivisionError: division by zero (assert candidate(1) == 1)",
        ),
        ("def other(x):\n    return 1\n", "no_answer", "the program does not define solve"),
        ("def solve(x) return 1\n", "crash", None),
        ("import socket\nsocket.socket()\n", "forbidden", None),
        ("raise SystemExit\n", "crash", "the program ended before its tests did"),
        ("I would rather not.", "no_answer", None),
    ],
)
def test_a_wrong_program_gets_a_reason_and_one_line_on_it(
    pool: verifiers.Pool, program: str, reason: str, answer: str | None
) -> None:
    reference = {"tests": CHECK + "    assert candidate(1) == 1\n", "entry_point": "solve"}
    verdict = judge(pool, program, reference)
    assert (verdict.status, verdict.reason) == ("incorrect", reason)
    assert answer is None or verdict.answer == answer


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("assert f(1)", "must be {'tests'"),
        ({"tests": "def check(c:\n", "entry_point": "f"}, "no Python"),
        ({"tests": CHECK + "    assert candidate(1)\n"}, "needs 'entry_point'"),
        ({"tests": "x = 1\n", "entry_point": "f"}, "neither define check"),
        ({"tests": "assert f(1)", "entrypoint": "f"}, "no key 'entrypoint'; valid: cases, entry_point, prompt, tests"),
        ({"cases": []}, "not empty"),
        ({"cases": [{"input": "1"}]}, "a case must be"),
        ({"entry_point": "f"}, "either 'tests' or 'cases'"),
        ("{broken", "not JSON"),
    ],
)
def test_a_bad_reference_is_found_when_the_data_loads_and_is_unknown(
    pool: verifiers.Pool, reference: Any, problem: str
) -> None:
    find_problem = verifiers.get("code").reference_problem
    assert find_problem
    assert problem in (find_problem(reference) or "")
    verdict = judge(pool, "def f(x):\n    return 1\n", reference)
    assert (verdict.status, verdict.reason) == ("unknown", "bad_reference")


def test_tests_that_import_what_is_not_installed_are_a_fault_of_the_verifier(pool: verifiers.Pool) -> None:
    reference = {"tests": f"import no_such_module\n{CHECK}    assert candidate(1)\n", "entry_point": "f"}
    verdict = judge(pool, "def f(x):\n    return 1\n", reference)
    assert (verdict.status, verdict.reason) == ("unknown", "fault")


def test_numpy_results_cross_where_numpy_is_installed(pool: verifiers.Pool) -> None:
    pytest.importorskip("numpy")
    program = "import numpy as np\ndef solve(x):\n    return np.array(x) * 2, np.sum(x)\n"
    tests = CHECK + "    a, s = candidate([1, 2])\n    assert (a == [2, 4]).all() and s == 3\n"
    assert judge(pool, program, {"tests": tests, "entry_point": "solve"}).is_correct


def test_the_callers_timeout_is_the_programs_and_its_verdict_is_incorrect() -> None:
    reference = {"tests": "assert f(1) == 1", "entry_point": "f"}
    with verifiers.Pool("code", workers=1, timeout=0.5) as pool:
        assert judge(pool, "def f(x):\n    return 1\n", reference).is_correct
        verdict = judge(pool, "def f(x):\n    while True:\n        pass\n", reference)
    assert (verdict.status, verdict.reason) == ("incorrect", "timeout")
    assert verdict.seconds < 2


@pytest.mark.full
def test_the_canonical_solutions_of_humaneval_are_all_correct() -> None:
    rows = [json.loads(line) for line in shared("humaneval/HumanEval.jsonl").read_text().splitlines()]
    pairs = [
        (row["prompt"] + row["canonical_solution"], {"tests": row["test"], "entry_point": row["entry_point"]})
        for row in rows
    ]
    bodies = [
        (row["canonical_solution"], {"tests": row["test"], "entry_point": row["entry_point"], "prompt": row["prompt"]})
        for row in rows
    ]
    verdicts = verifiers.verify_many("code", [*pairs, *bodies], timeout=10.0)
    assert [verdict.answer for verdict in verdicts if not verdict.is_correct] == []
    assert len(verdicts) == 328
