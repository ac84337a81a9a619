"""Hints: what goes into the prompt, and how a trace that leans on it is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from star_rft.build import open_run, settle
from star_rft.data import Prompter
from star_rft.errors import RunError, UserError
from star_rft.loop import do_stage
from star_rft.models import load_tokenizer, resolve
from star_rft.sampling.hints import Hint, answer_of, leaks, marked, unsolved_problems
from star_rft.types import Problem
from tests.small_ledgers import ledger_of, sample, verdict
from tests.small_runs import write_config

CHOICES = "Where do you put a plate?\n(A) sky\n(B) table\n(C) sea"


def problem(prompt: str = "What is 12 + 30?", reference: Any = "42", **fields: Any) -> Problem:
    return Problem("p", prompt, reference, "math", **fields)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Prompter:
    tiny = resolve("tiny", into=tmp_path_factory.mktemp("base"))
    return Prompter(load_tokenizer(tiny), template="Question: {question}\nAnswer:")


def test_the_hint_is_the_answer_and_never_the_reference_solution(prompts: Prompter) -> None:
    """STaR's code inserts the whole worked solution."""
    reference = "12 + 30 = 42 in all.\n#### 42"
    render = Hint("Question: {question} ({answer})\nAnswer:").renderer(prompts)
    text = render(problem(reference=reference, solution=reference))
    assert text.endswith("Question: What is 12 + 30? (42)\nAnswer:")
    assert "in all" not in text


def test_braces_in_a_question_mean_nothing(prompts: Prompter) -> None:
    render = Hint("Question: {question} ({answer})\nAnswer:").renderer(prompts)
    assert "the set {answer} of {question} (42)" in render(problem("the set {answer} of {question}"))


def test_a_choice_is_marked_and_nothing_else(prompts: Prompter) -> None:
    render = Hint("Q: {question}\nA:", mark=" (CORRECT)").renderer(prompts)
    text = render(problem(CHOICES, {"answer": "B", "options": {"A": "sky", "B": "table", "C": "sea"}}))
    assert "(B) table (CORRECT)\n(C) sea" in text
    assert text.count("CORRECT") == 1
    with pytest.raises(UserError, match="no line of the prompt is the choice 'E'"):
        marked(CHOICES, "E", " (CORRECT)")


@pytest.mark.parametrize("reference", [{"tests": "assert f() == 1", "entry_point": "f"}, None, ["1", "2"]])
def test_a_problem_without_an_answer_is_refused(reference: Any) -> None:
    with pytest.raises(UserError, match="has no answer to hint at"):
        answer_of(problem(reference=reference))


@pytest.mark.parametrize(
    ("template", "message"), [("{answer}", "must hold {question} exactly once"), ("{question}", "no hint")]
)
def test_a_template_that_hints_at_nothing_is_refused(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Hint(template)


@pytest.mark.parametrize(
    "text",
    [
        "As given, it is 42. 12 + 30 = 42.",
        "The hint says 42, so 12 + 30 = 42.",
        "12 + 30 = 42, which matches the hint.",
        "Since the answer is 42, 12 + 30 = 42.",
        "We are told that the answer is 42. So 12 + 30 = 42.",
        "The answer is 42. We add 12 and 30.",
        "#### 42\nbecause 12 + 30 = 42",
        "42 is the sum, for 12 + 30 = 42.",
        "The choice that is marked correct is right: 12 + 30 = 42.",
    ],
)
def test_a_trace_that_leans_on_the_hint_is_found_out(text: str) -> None:
    assert leaks(text, problem())


@pytest.mark.parametrize(
    "text",
    [
        "12 + 30 = 42. The answer is 42.",
        "We add: 30 + 12 = 42\n#### 42",
        "First 12 and then 30 more make 42.",
        "He gave 12 away and 30 stayed, so there were 42.",
        "#### 42",
        "42",
        "",
    ],
)
def test_a_trace_that_derives_its_answer_is_not(text: str) -> None:
    assert not leaks(text, problem())


def test_an_answer_that_the_question_names_is_no_leak() -> None:
    assert not leaks("42 apples are in the box and none is added: 42 + 0 = 42", problem("There are 42 apples, plus 0?"))


def test_unsolved_prompts_are_those_of_this_round_and_without_hint(tmp_path: Path) -> None:
    pairs = [
        (sample("a", 0), verdict()),
        (sample("b", 0), verdict("incorrect")),
        (sample("b", 1, hinted=True), verdict()),
        (sample("c", 0), verdict("unknown")),
        (sample("d", 0, split="dev"), verdict("incorrect")),
    ]
    con = ledger_of(tmp_path, pairs).connect()
    assert unsolved_problems(con, round_index=1) == ["b", "c"]
    assert unsolved_problems(con, round_index=2) == []


@pytest.mark.full
def test_a_round_whose_hints_are_not_drawn_is_not_selected_from(tmp_path: Path) -> None:
    path = write_config(tmp_path, rounds=1, rationalize={"n": 1}, scorer={"name": "majority"})
    with open_run(settle(path)) as stages:
        policy = stages.training.start()
        stages.evaluation.evaluate(0, policy)
        stages.evaluation.record(0, policy)
        stages.sampling.sample(1, stages.sampling.plan(1, policy), policy)
        with pytest.raises(RunError, match="no complete samples yet"):
            do_stage(stages, "select")
        stages.sampling.sample_with_hints(1, policy)
        with pytest.raises(RunError, match="no complete samples yet"):
            do_stage(stages, "select")
        stages.sampling.score(1, policy)
        do_stage(stages, "select")
