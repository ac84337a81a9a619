from __future__ import annotations

import pytest

import verifiers


def test_a_reward_function_is_called_as_trl_calls_it() -> None:
    reward = verifiers.as_reward("math", workers=1)
    assert reward.__name__ == "math_reward"
    rewards = reward(
        prompts=["p"] * 3,
        completions=["The answer is 5.", "#### 6", "#### 5"],
        completion_ids=[[1], [2], [3]],
        solution=["5", "... #### 5", ""],
        trainer_state=object(),
    )
    assert rewards == [1.0, 0.0, None]


def test_conversations_are_read_from_their_last_assistant_message() -> None:
    reward = verifiers.as_reward("numeric", reference_column="gold", workers=1)
    completions = [
        [{"role": "assistant", "content": "#### 5"}],
        [{"role": "assistant", "content": "#### 5"}, {"role": "user", "content": "sure?"}],
        [{"role": "assistant", "content": [{"type": "text", "text": "#### 5"}]}],
        [{"role": "assistant", "content": ""}],
        [],
    ]
    assert reward(prompts=[""] * 5, completions=completions, gold=["5"] * 5) == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_missing_column_is_named_with_those_there_are() -> None:
    reward = verifiers.as_reward("math", workers=1)
    with pytest.raises(ValueError, match=r"no column 'solution'.*columns: answer, level"):
        reward(prompts=[""], completions=[""], answer=["5"], level=[1])


def test_a_wrong_name_or_option_fails_before_training() -> None:
    with pytest.raises(verifiers.UnknownVerifier):
        verifiers.as_reward("maths")
    with pytest.raises(verifiers.UnknownOption):
        verifiers.as_reward("math", falback="none")


def test_graded_scores_pass_through() -> None:
    reward = verifiers.as_reward("sample_checks:length", workers=1)
    assert reward.__name__ == "length_reward"
    assert reward(prompts=[""], completions=["ab"], solution=[8.0]) == [0.25]
