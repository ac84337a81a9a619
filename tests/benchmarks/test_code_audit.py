"""The audit of the code verifier's verdicts finds what was planted, and nothing in honest programs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import verifiers
from star_rft.data import load, write_problems
from star_rft.data.generators.python_tasks.tasks import cases_of
from star_rft.types import Problem
from tests.programs import benchmark
from tests.small_ledgers import ledger_of, sample, verdict


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    return {name: benchmark(name) for name in ("plain_oracle", "program_signs", "code_audit")}


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return load("python_tasks", verifier="code", split="train", limit=6)


def memorised(problem: Problem) -> str:
    """A program that holds the answers of its tests and nothing else: what no test of the run can find."""
    known = {repr(arguments): expected for arguments, expected in cases_of(problem.reference["tests"])}
    return f"def {problem.reference['entry_point']}(*given):\n    return {known!r}.get(repr(given))\n"


def test_a_program_that_memorised_its_tests_is_found_out(modules: Any, problems: list[Problem], tmp_path: Path) -> None:
    honest, cheat = problems[0], problems[1]
    assert verifiers.verify("code", memorised(cheat), cheat.reference).is_correct
    exits = f"import os\ndef {honest.reference['entry_point']}(*given):\n    os._exit(0)\n"
    (tmp_path / "config.yaml").touch()  # which makes the folder a run's; the audit reads nothing of it
    write_problems(tmp_path / "problems.parquet", {"train": problems})
    texts = [(honest, str(honest.solution)), (honest, str(honest.solution)), (cheat, memorised(cheat)), (honest, exits)]
    pairs = [(sample(p.id, sample_index, text), verdict()) for sample_index, (p, text) in enumerate(texts)]
    pairs += [(sample(problems[2].id, 9, "no program"), verdict("unknown", reason="no_sandbox"))]
    ledger_of(tmp_path, [(one, _of_code(said)) for one, said in pairs])
    report = modules["code_audit"].audit(tmp_path, fresh=10, seed=1, workers=2)
    (row,) = report["rounds"]
    assert row == {
        "split": "train",
        "round": 1,
        "correct": 4,
        "programs": 3,
        "flagged": 1,
        "own_again": 3,
        "own_failed": 0,
        "fresh_asked": 3,
        "fresh_passed": 2,
    }
    assert [entry["signs"] for entry in report["suspicious"]] == [[], ["imports os", "uses ._exit"]] or [
        entry["signs"] for entry in report["suspicious"]
    ] == [["imports os", "uses ._exit"], []]
    shown = modules["code_audit"].shown(report, failures=5)
    assert "2 programs are flagged or fail a test" in shown
    assert "unknown:no_sandbox" in shown


def _of_code(said: Any) -> Any:
    from dataclasses import replace

    return replace(said, verifier="code")


def test_solutions_have_no_signs_and_pass_fresh_tests(modules: Any, problems: list[Problem]) -> None:
    for problem in problems:
        trial = modules["code_audit"].Trial(
            str(problem.solution).removeprefix("```python\n").removesuffix("\n```"),
            problem.reference["tests"],
            problem.reference["entry_point"],
            problem.meta["source_id"],
        )
        found = modules["code_audit"].examined(trial, fresh=10, seed=3)
        assert (found.signs, found.passes_own, found.passes_fresh) == ((), True, True)


@pytest.mark.parametrize(
    ("program", "sign"),
    [
        ("import os\ndef f(x):\n    os._exit(0)", "uses ._exit"),
        ("import sys\ndef f(x):\n    sys.exit(0)", "imports sys"),
        ("def f(x):\n    raise SystemExit", "uses SystemExit"),
        ("class A:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return A()", "defines __eq__"),
        ("class A(int):\n    pass\ndef f(x):\n    return A(1)", "class A takes after a value"),
        ("def f(x):\n    return f.__globals__", "uses .__globals__"),
        ("def f(x):\n    return (i for i in [1]).gi_frame", "uses .gi_frame"),
        ("def f(x):\n    return open('tests.py').read()", "uses open"),
        ("import math\ndef f(x):\n    math.sqrt = abs", "sets math.sqrt"),
        ("len = abs\ndef f(x):\n    return 1", "redefines len"),
        ("def f(x):\n    return eval('1')", "uses eval"),
        ("def f(x):\n    return '{0.__class__}'.format(x)", "mentions '{0.__class__}'"),
        ("def f(x:", "no Python"),
    ],
)
def test_a_cheat_has_a_sign(modules: Any, program: str, sign: str) -> None:
    assert sign in modules["program_signs"].signs(program, entry_point="f")


def test_what_only_computes_has_none(modules: Any) -> None:
    program = (
        "import math\nfrom collections import Counter\n\nclass Box:\n    def __init__(self, x):\n        self.x = x\n\n"
        "def f(numbers):\n    sum = 0\n    for x in numbers:\n        sum += math.floor(x)\n    return sum\n\n"
        "if __name__ == '__main__':\n    print(f([1]))\n"
    )
    assert modules["program_signs"].signs(program, entry_point="f") == ()


def test_the_oracle_tells_plain_values_from_what_pretends_to_be_one(modules: Any) -> None:
    program = (
        "class A(int):\n    pass\n\ndef f(x):\n    if x == 1:\n        return A(1)\n"
        "    if x == 2:\n        raise KeyError\n    print('noise')\n    return [x, None]\n"
    )
    assert modules["plain_oracle"].returned(program, "f", [(0,), (1,), (2,)]) == ["[0, None]", "<A>", "<KeyError>"]


def test_an_ended_or_broken_program_answers_nothing(modules: Any) -> None:
    returned = modules["plain_oracle"].returned
    assert returned("def f(x):\n    raise SystemExit(0)\n", "f", [(1,)]) == ["<ended with status 0>"]
    (answer,) = returned("def g(x):\n    return x\n", "f", [(1,)])
    assert "KeyError" in answer


def test_own_tests_are_run_beside_a_program_whose_function_nobody_knows(modules: Any) -> None:
    tests = "def check(candidate):\n    assert candidate(2) == 4\n"
    passes = modules["plain_oracle"].passes_check
    assert passes("def f(x):\n    return 2 * x\n", tests, "f") == (True, "")
    assert passes("def f(x):\n    return x\n", tests, "f") == (False, "AssertionError")
