"""Prompts with real tokenizers, chat and plain."""

from __future__ import annotations

import pytest

from star_rft.data import Prompter
from star_rft.data.prompts import PromptError
from star_rft.types import Problem
from tests.small_models import letters_tokenizer

BOS = "<s>"
CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
SHOT = {"prompt": "What is {1}?", "completion": "One {one}."}
PROBLEM = Problem("1", "What is {2}?", "2", "exact", solution="Two {two}.")


def ids(prompter: Prompter) -> list[int]:
    encoded: list[int] = prompter.tokenizer(prompter.render(PROBLEM), add_special_tokens=False)["input_ids"]
    return encoded


def test_a_plain_prompt_is_the_template_around_the_question() -> None:
    prompter = Prompter(letters_tokenizer(), template="Question: {question}\nAnswer:", completion_prefix=" ")
    assert prompter.render(PROBLEM) == "<s>Question: What is {2}?\nAnswer:"
    assert prompter.target(PROBLEM) == " Two {two}."


def test_plain_examples_are_blocks_of_text() -> None:
    prompter = Prompter(
        letters_tokenizer(adds_bos=False),
        template="Q: {question}\nA:",
        system="Think.",
        few_shot=[SHOT],
        completion_prefix=" ",
    )
    assert prompter.render(PROBLEM) == "Think.\n\nQ: What is {1}?\nA: One {one}.\n\nQ: What is {2}?\nA:"


def test_chat_examples_are_turns_of_user_and_assistant() -> None:
    # FIELD.md, defect 12: replies labelled with the role "user".
    prompter = Prompter(
        letters_tokenizer(chat_template=CHATML), template="Q: {question}", system="Think.", few_shot=[SHOT]
    )
    assert prompter.render(PROBLEM) == (
        "<s><|im_start|>system\nThink.<|im_end|>\n"
        "<|im_start|>user\nQ: What is {1}?<|im_end|>\n"
        "<|im_start|>assistant\nOne {one}.<|im_end|>\n"
        "<|im_start|>user\nQ: What is {2}?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("question", ["{", "}", "{}", "{question}", "{0} {x!r} %s $x", "a {question} b {question}"])
def test_braces_in_a_problem_mean_nothing(question: str) -> None:
    for chat in (True, False):
        prompter = Prompter(
            letters_tokenizer(adds_bos=False, chat_template=CHATML),
            template="<{question}>",
            chat=chat,
            few_shot=[SHOT],
        )
        assert prompter.text(question).count(f"<{question}>") == 1


@pytest.mark.parametrize("chat_template", [None, CHATML])
def test_the_first_token_is_bos_exactly_once(chat_template: str | None) -> None:
    found = ids(Prompter(letters_tokenizer(chat_template=chat_template)))
    assert found[0] == 0
    assert found.count(0) == 1


def test_a_tokenizer_that_adds_no_bos_gets_none() -> None:
    assert 0 not in ids(Prompter(letters_tokenizer(adds_bos=False)))


def test_a_template_that_writes_bos_itself_is_not_given_a_second() -> None:
    assert ids(Prompter(letters_tokenizer(), template="<s>{question}")).count(0) == 1


def test_auto_uses_the_chat_template_where_there_is_one() -> None:
    assert Prompter(letters_tokenizer(chat_template=CHATML)).is_chat
    assert not Prompter(letters_tokenizer()).is_chat
    assert not Prompter(letters_tokenizer(chat_template=CHATML), chat=False).is_chat


def test_prompt_and_completion_are_joined_as_ids_even_under_a_thinking_template() -> None:
    thinking = CHATML.replace("assistant\n{% endif", "assistant\n<think></think>{% endif")
    prompter = Prompter(letters_tokenizer(chat_template=thinking))
    finished = prompter.tokenizer.apply_chat_template(
        [{"role": "user", "content": PROBLEM.prompt}, {"role": "assistant", "content": "Two {two}."}],
        tokenize=False,
    )
    prompt = prompter.render(PROBLEM)
    assert isinstance(finished, str)
    assert not finished.startswith(prompt), "the template renders the finished exchange differently"
    assert (prompt + prompter.target(PROBLEM)).endswith("assistant\n<think></think>Two {two}.")


def test_chat_options_reach_the_template() -> None:
    template = CHATML + "{% if enable_thinking %}<think>{% endif %}"
    prompter = Prompter(letters_tokenizer(chat_template=template), chat_options={"enable_thinking": True})
    assert prompter.render(PROBLEM).endswith("assistant\n<think>")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "Q: {problem}"}, "prompt.template must hold {question} exactly once"),
        ({"template": "{question}{question}"}, "exactly once"),
        ({"chat": True}, "prompt.chat is true, but the tokenizer has no chat template"),
        ({"chat": "yes"}, "prompt.chat is 'yes'; valid are auto, true, false"),
        ({"few_shot": [{"question": "a"}]}, r"prompt.few_shot\[0\] has the keys \['question'\]"),
    ],
)
def test_a_setting_that_cannot_work_fails_at_once(options: dict[str, object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompter(letters_tokenizer(), **options)  # type: ignore[arg-type]


def test_a_template_that_refuses_a_system_prompt_fails_at_once() -> None:
    with pytest.raises(PromptError, match="chat template refuses this prompt: System role not supported"):
        Prompter(letters_tokenizer(chat_template=NO_SYSTEM + CHATML), system="Think.")


def test_a_problem_without_a_solution_has_no_target() -> None:
    with pytest.raises(ValueError, match="problem 9 has no reference solution"):
        Prompter(letters_tokenizer()).target(Problem("9", "a", "b", "exact"))
