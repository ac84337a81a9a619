from __future__ import annotations

from pathlib import Path

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
    reward = verifiers.as_reward("numeric", reference_column="expected", workers=1)
    completions = [
        [{"role": "assistant", "content": "#### 5"}],
        [{"role": "assistant", "content": "#### 5"}, {"role": "user", "content": "sure?"}],
        [{"role": "assistant", "content": [{"type": "text", "text": "#### 5"}]}],
        [{"role": "assistant", "content": ""}],
        [],
    ]
    assert reward(prompts=[""] * 5, completions=completions, expected=["5"] * 5) == [1.0, 1.0, 1.0, 0.0, 0.0]


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
    reward = verifiers.as_reward("tests.verifiers.sample_checks:length", workers=1)
    assert reward.__name__ == "length_reward"
    assert reward(prompts=[""], completions=["ab"], solution=[8.0]) == [0.25]


def test_what_trl_passes_besides_is_no_column() -> None:
    reward = verifiers.as_reward("math", workers=1)
    with pytest.raises(ValueError, match=r"columns: answer\. Pass"):
        reward(
            prompts=[""],
            completions=[""],
            completion_ids=[[1]],
            answer=["5"],
            trainer_state=object(),
            log_extra=print,
            log_metric=print,
        )


def test_the_share_of_unknown_verdicts_is_a_metric_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    reward = verifiers.as_reward("numeric", workers=1)
    logged: list[tuple[str, float]] = []
    for _ in range(4):
        rewards = reward(
            prompts=[""] * 20,
            completions=["#### 5"] * 20,
            solution=["5"] * 15 + ["no number"] * 5,
            log_metric=lambda name, value: logged.append((name, value)),
        )
        assert rewards == [1.0] * 15 + [None] * 5
    assert logged == [("numeric_unknown", 0.25)] * 4
    assert caplog.text.count("WARNING: 20 of 80 verdicts (25.0%) are unknown") == 1


def test_it_is_an_ordinary_function_to_trl() -> None:
    utils = pytest.importorskip("trl.trainer.utils")
    reward = verifiers.as_reward("math", workers=1)
    assert not utils.is_async_callable(reward)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_real_trainer_learns_from_it(kind: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    generate = pytest.importorskip("star_rft.data.generators.word_problems").generate
    model = str(Path(verifiers.__file__).parent.parent / "star_rft" / "assets" / "tiny")
    rows = [
        {"prompt": f"{p.question}\n", "solution": p.answer if i % 4 else "no number"}
        for i, p in enumerate(generate(8, split="train", steps=(1, 1)))
    ]
    settings = getattr(trl, f"{kind}Config")(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=48,
        use_cpu=True,
        bf16=False,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        shuffle_dataset=False,
    )
    trainer = getattr(trl, f"{kind}Trainer")(
        model=model,
        reward_funcs=verifiers.as_reward("numeric", workers=1),
        args=settings,
        train_dataset=datasets.Dataset.from_list(rows),
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logged) == 2
    assert logged[0]["numeric_unknown"] == 1.0  # the first problem has no number for a reference
    assert logged[1]["numeric_unknown"] == 0.0
    assert 0.0 <= logged[1]["rewards/numeric_reward/mean"] <= 1.0
