import ast
import functools
import itertools
from collections import Counter
from typing import Any

import pytest

import verifiers
from star_rft.data import DataError, check_references, load, overlaps
from star_rft.data.generators.python_tasks.tasks import (
    PythonTask,
    cases_of,
    fresh_cases,
    generate,
    solution_of,
    variants,
)

SPLITS = ("train", "dev", "test")


@functools.cache
def tasks(split: Any = "train", n: int | None = 80, seed: int = 0) -> list[PythonTask]:
    return list(generate(n, split=split, seed=seed))


def reference(task: PythonTask) -> dict[str, str]:
    return {"tests": task.tests, "entry_point": task.name}


def passes(task: PythonTask, program: str) -> bool:
    """Run asserts beside a program of ours, in this process: thousands of times what a sandbox could in as long."""
    names: dict[str, Any] = {}
    exec(program, names)
    try:
        exec(task.tests, names)
    except (AssertionError, TypeError, ValueError, IndexError, KeyError, AttributeError):
        return False
    return True


def judged(pairs: list[tuple[str, PythonTask]]) -> list[str]:
    verdicts = verifiers.verify_many("code", [(program, reference(task)) for program, task in pairs], workers=1)
    return [verdict.reason for verdict in verdicts]


def test_no_function_stands_in_two_splits_whatever_the_seed() -> None:
    ids = {split: {task.id for seed in (0, 7) for task in tasks(split, 50, seed)} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not ids[one] & ids[other]
    assert all(variants()[task].split == split for split in SPLITS for task in ids[split])


def test_every_function_is_in_some_split_and_all_can_be_had() -> None:
    counts = Counter(variant.split for variant in variants().values())
    assert counts["train"] > 500
    assert min(counts["dev"], counts["test"]) > 200
    assert {task.id for task in tasks("test", None)} == {v.id for v in variants().values() if v.split == "test"}


def test_the_same_arguments_give_the_same_tasks() -> None:
    assert tasks(n=30) == list(generate(30, split="train"))


def test_another_seed_gives_other_functions_and_other_tests_of_the_same_ones() -> None:
    one, other = ({task.id: task for task in tasks("test", 90, seed)} for seed in (0, 7))
    assert set(one) != set(other)
    assert all(one[task].tests != other[task].tests for task in set(one) & set(other))


def test_a_larger_n_only_adds_tasks() -> None:
    assert tasks(n=80)[:30] == tasks(n=30)


def test_the_first_tasks_are_a_mixture_of_families_and_levels() -> None:
    first = tasks(n=60)
    assert len({task.family for task in first}) == 60
    assert {task.level for task in first} == {1, 2, 3}


def test_every_solution_passes_the_asserts_that_were_made_from_it() -> None:
    assert all(passes(task, task.program) for task in tasks("test", None))


def test_the_code_verifier_finds_the_solutions_correct_in_a_fence_or_bare() -> None:
    some = tasks("test", None)[:70:7]
    assert set(judged([(task.program, task) for task in some])) == {"match"}
    assert set(judged([(f"Here:\n```python\n{task.program}```\nIt works.", task) for task in some])) == {"match"}


@pytest.mark.full
def test_the_solution_of_every_other_function_of_the_same_arguments_fails() -> None:
    for task in tasks("test", None)[::9]:
        kinds = list(variants()[task.id].family.arguments.items())
        for other in variants().values():
            if other.id != task.id and list(other.family.arguments.items()) == kinds:
                assert not passes(task, other.program(task.name)), (task.id, other.id)


def test_a_program_that_returns_one_answer_fails_whichever_it_is() -> None:
    for task in tasks("test", None):
        arguments = ", ".join(variants()[task.id].family.arguments)
        for answer in {repr(expected) for _, expected in cases_of(task.tests)}:
            assert not passes(task, f"def {task.name}({arguments}):\n    return {answer}\n"), task.id


def test_a_program_that_knows_the_shown_example_only_fails() -> None:
    for task in tasks("test", None):
        shown = task.prompt.partition("For example, `")[2]
        call, _, answer = shown.removesuffix("`.").partition("` returns `")
        arguments = ast.unparse(ast.parse(call, mode="eval").body).removeprefix(task.name)
        program = f"def {task.name}(*given):\n    return {answer} if repr(given) == {arguments!r} else None\n"
        assert passes(task, task.program)
        assert not passes(task, program), task.id
        assert call not in task.tests


def test_the_code_verifier_refuses_wrong_programs_of_several_kinds() -> None:
    task = next(task for task in tasks() if task.family == "keep_above")
    given = variants()[task.id].params["k"]
    head = f"def {task.name}(numbers):\n    return "
    wrong = [
        f"{head}[x for x in numbers if x >= {given}]\n",
        f"{head}numbers\n",
        f"{head}sorted(x for x in numbers if x > {given})\n",
        f"def {task.name}(numbers):\n    print([x for x in numbers if x > {given}])\n",
    ]
    assert judged([(program, task) for program in wrong]) == ["mismatch"] * 4


def test_a_small_change_of_a_solution_is_found() -> None:
    """Off by one in a constant, or a comparison that takes in its border: what small models get wrong."""
    changed = survived = 0
    for task in tasks("test", None):
        for mutant in _mutants(task.program):
            changed += 1
            survived += passes(task, mutant)
    assert changed > 100
    assert survived < changed / 20


def _mutants(program: str) -> list[str]:
    borders = {" > ": " >= ", " >= ": " > ", " < ": " <= ", " <= ": " < ", " + ": " - ", " * ": " + "}
    if "while" in program:  # changed, it may never end
        return []
    return [program.replace(old, new, 1) for old, new in borders.items() if old in program]


def test_fresh_cases_are_right_and_none_of_those_that_are_known() -> None:
    for task in tasks():
        known = cases_of(task.tests)
        fresh = fresh_cases(task.id, seed=5, n=20, without=known)
        assert len(fresh) >= 20
        assert not {repr(arguments) for arguments, _ in fresh} & {repr(arguments) for arguments, _ in known}
        solve = solution_of(variants()[task.id])
        assert all(solve(*arguments) == expected for arguments, expected in fresh)
    assert fresh_cases("plus(k=2)", seed=5, n=9) != fresh_cases("plus(k=2)", seed=6, n=9)


def test_cases_are_read_back_from_asserts_as_they_were() -> None:
    assert cases_of("assert f([1, -2], 'a') == {'b': None}\n") == [(([1, -2], "a"), {"b": None})]


def test_tasks_are_loaded_as_what_the_code_verifier_reads() -> None:
    problems = load("python_tasks", verifier="code", split="train", options={"n": 12, "seed": 2})
    made = tasks(n=12, seed=2)
    assert [problem.meta["source_id"] for problem in problems] == [task.id for task in made]
    assert all({"level", "category"} <= set(problem.meta) for problem in problems)
    assert all(set(problem.reference) == {"tests", "entry_point"} for problem in problems)
    assert (
        judged([(str(problem.solution), task) for problem, task in zip(problems, made, strict=True)]) == ["match"] * 12
    )
    check_references(problems, verifiers.get("code").bound({}))
    assert len(load("python_tasks", verifier="code", split="dev", limit=5)) == 5


@pytest.mark.full
def test_what_is_trained_on_holds_no_held_out_task() -> None:
    train, dev, test = (load("python_tasks", verifier="code", split=split, limit=150) for split in SPLITS)
    assert overlaps(train, [*dev, *test]).contaminated == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "validation"}, "split is 'validation'; valid are train, dev, test"),
        ({}, "split is None"),
        ({"split": "test", "options": {"steps": 3}}, "has no option 'steps'; valid are n, seed"),
        ({"split": "test", "options": {"n": 100_000}}, "n is 100000; test has [0-9]+ distinct tasks"),
        ({"split": "test", "options": {"n": "ten"}}, "n is 'ten'; .* whole number"),
        ({"split": "test", "config_name": "small"}, "takes no config_name"),
    ],
)
def test_python_tasks_refuse_what_they_cannot_make(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"python_tasks.*{message}"):
        load("python_tasks", verifier="code", **options)
