"""A run asks with the same prompts on every day, and refuses to go on where they have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import star_rft
from star_rft.build import open_run
from star_rft.config import load
from star_rft.errors import RunError, RunFailure
from star_rft.loop import run
from tests.conventions import BETWEEN, EOS, Convention, save_turn_model
from tests.jsonl import write_jsonl

DATED = "{{ strftime_now('%d.%m.%Y') }}" + BETWEEN


def config_of(folder: Path, *, rounds: int, **changes: Any) -> Any:
    data = {}
    for split in ("train", "dev"):
        rows = [{"question": f"what is {split} {letter}?", "answer": "(?s).*"} for letter in "abc"]
        data[split] = {"source": str(write_jsonl(folder / f"{split}.jsonl", rows))}
    return load(
        {
            "name": "dated",
            "run_dir": str(folder / "run"),
            "rounds": rounds,
            "model": {"name": str(folder / "model")},
            "data": data,
            "verifier": {"name": "regex", "workers": 1},
            "sample": {"n": 2, "max_tokens": 6},
            "select": {"rules": ["correct"]},
            "train": {"lr": 1e-4, "max_steps": 1},
            "eval": {"n": 1, "k": [1], "max_tokens": 4, "kl_traces": 0},
        },
        changes,
    )


def on(day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_rft.build.today", lambda: day)


def rounds(config: Any, count: int) -> None:
    with open_run(config) as stages:
        assert len(list(run(stages, rounds=count))) == count + 1


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose template names the day, begun on 1 January 2030."""
    save_turn_model(tmp_path / "model", Convention(DATED, EOS, EOS, set()))
    on("2030-01-01", monkeypatch)
    rounds(config_of(tmp_path, rounds=0), 0)
    return tmp_path


@pytest.mark.full
def test_a_run_that_goes_on_another_day_asks_with_the_same_prompt(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on("2031-05-05", monkeypatch)
    config = config_of(begun, rounds=1)
    rounds(config, 1)
    with open_run(config) as stages:
        assert stages.training.prompter.text("what?").startswith("01.01.2030")
        shas = stages.context.ledger.connect().sql("select count(distinct prompt_sha) from samples").fetchall()
        assert shas == [(6,)]


def test_another_date_is_another_prompt_and_so_another_run(begun: Path) -> None:
    with (
        pytest.raises(RunError, match=r"prompt\.date: '2030-01-01' -> '2031-01-01'"),
        open_run(config_of(begun, rounds=1, **{"prompt.date": "2031-01-01"})),
    ):
        pass


def test_a_comparison_with_a_run_of_another_day_says_so(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on("2030-01-02", monkeypatch)
    rounds(config_of(begun, rounds=0, run_dir=str(begun / "later"), seed=1, name="later"), 0)
    (note,) = star_rft.compare([f"{begun / 'run'}:0", begun / "later"]).notes
    assert note.endswith("prompt.date '2030-01-01' and '2030-01-02'")


def test_a_template_that_has_changed_is_refused_when_the_run_goes_on(begun: Path) -> None:
    template = next(begun.glob("model/chat_template*"))
    template.write_text(template.read_text().replace("<close>\n", "<close>"))
    with (
        pytest.raises(RunError, match="is rendered differently now than when it was sampled"),
        open_run(config_of(begun, rounds=1)),
    ):
        pass


def test_what_was_sampled_with_another_prompt_is_not_trained_on(begun: Path) -> None:
    config = config_of(begun, rounds=1)
    with open_run(config) as stages:
        policy = stages.training.start()
        while units := stages.sampling.plan(1, policy):
            stages.sampling.sample(1, units, policy)
        stages.selection.classify(1)
        stages.selection.select(1)
        for tokenizer in (stages.training.prompter.tokenizer, stages.sampling.sources[0].tokenizer):
            tokenizer.chat_template = BETWEEN
        with pytest.raises(RunFailure, match="its prompt is rendered differently now"):
            stages.training.train(1, policy)
