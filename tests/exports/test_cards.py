"""Cards: true to the run's figures, readable by the hub, and silent about the machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from star_rft import config as configs
from star_rft.build import card_config, settle
from star_rft.exports.card_data import hub_name, without_paths
from star_rft.exports.card_text import code, fenced, table
from star_rft.exports.cards import model_card, write_model_card
from star_rft.ledger import Ledger
from star_rft.models import fingerprint, load_tokenizer
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report
from star_rft.types import RoundReport
from tests.exports.calling import export
from tests.exports.made_run import make_run


def test_a_card_stands_beside_each_checkpoint_and_moves_no_fingerprint(finished: Path) -> None:
    for number in (1, 2):
        checkpoint = finished / f"rounds/00{number}/checkpoint"
        report = read_report(finished / f"rounds/00{number}/metrics.json")
        assert (checkpoint / "README.md").exists()
        assert fingerprint(checkpoint) == report.model
        assert len(load_tokenizer(checkpoint))


def test_a_models_card_tells_what_was_measured(finished: Path) -> None:
    report = read_report(finished / "rounds/002/metrics.json")
    card = ModelCard.load(finished / "rounds/002/checkpoint/README.md")
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results or []}
    assert report.held_out is not None
    for k, value in report.held_out.pass_at_k.items():
        assert measured[f"pass@{k}"] == round(value, 4)
    pass_at_1 = report.held_out.pass_at_1_interval
    assert f"{pass_at_1.value:.3f} [{pass_at_1.low:.3f}, {pass_at_1.high:.3f}]" in card.text
    change = report.held_out.vs_base
    assert change is not None
    assert f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]" in card.text
    assert f"trained on {report.selected:,} completions" in card.text
    assert "**Began from** the model of round 1." in card.text
    assert "star-rft run config.yaml rounds=2" in card.text
    assert card.data.to_dict()["pipeline_tag"] == "text-generation"
    assert "base_model" not in card.data.to_dict()  # the tiny one is no model of the hub


def test_a_rolled_back_round_says_so_and_names_the_model_to_use(finished: Path) -> None:
    text = card_of(finished, gate=gate("roll_back", 1, rolled_back=True))
    assert "**The gate: rolled back.** pass@1 fell. The model to use is that of round 1, not this one." in text
    text = card_of(finished, gate=gate("stop", 0, rolled_back=True))
    assert "**The gate: the run ended, rolled back.**" in text
    assert "The model to use is the one that the loop began with, not this one." in text


def test_a_kept_round_says_so_with_its_warnings(finished: Path) -> None:
    text = card_of(finished, gate=gate("warn", 2, warnings=["saturation"]))
    assert "**The gate: kept, with a warning.** pass@1 fell.\n\nWarning: saturation." in text
    assert "not this one" not in text
    assert "There was no gate" in card_of(finished, gate=None)


def test_what_a_scorer_chose_is_not_called_correct(finished: Path) -> None:
    scorer = ["scorer={name: judge, decides: true}"]
    text = card_of(finished, overrides=scorer)
    assert "that the scorer `judge` chose" in text
    assert "**A score is not a right answer.**" in text
    assert "found correct" not in text
    compared = ["preference={objective: dpo}", "select.rules=[correct, pairs]"]
    assert "found correct, and on preferences of completions" in card_of(finished, overrides=compared)
    only = card_of(finished, overrides=[*compared, "train=null"])
    assert "after round 2: trained on preferences of completions, the better against the worse." in only


def test_a_round_that_was_not_evaluated_says_so(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "rounds/002/eval.parquet").unlink()
    text = card_of(run, held_out=None)
    assert "This round was not evaluated on held-out problems." in text
    assert "model-index" not in text


def test_a_warm_started_model_has_a_card_and_a_base_model_gets_none(finished: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    report = read_report(run.metrics(0))
    write_model_card(run, card_config(settle(str(run.path)), is_chat=False), report)
    assert not run.warm_start.exists()
    shutil.copytree(run.checkpoint(1), run.warm_start)
    changed = settle(str(run.path), ["warm_start={max_steps: 3}"])
    write_model_card(run, card_config(changed, is_chat=False), report)
    card = (run.warm_start / "README.md").read_text()
    assert "# miniature after its warm start" in card
    assert "**Training, supervised**" in card


def test_a_data_card_tells_the_figures_of_its_round(finished: Path, tmp_path: Path) -> None:
    card = DatasetCard.load(export(finished, tmp_path / "out", "--format", "hub-folder") / "README.md")
    report = read_report(finished / "rounds/002/metrics.json")
    assert f"{report.selected:,} examples" in card.text
    assert f"| {report.samples:,} | {report.correct:,} | {report.unknown:,} | {report.selected:,} |" in card.text
    for why, count in report.dropped.items():
        assert f"| {why} | {count:,} |" in card.text
    assert "`math` (version" in card.text
    assert "The model of round 2 was trained in 2 rounds (1, 2)." in card.text
    assert "No training problem holds a held-out one" in card.text
    assert "docs/export.md#loading-exports" in card.text
    header = card.data.to_dict()
    assert (header["license"], header["size_categories"]) == ("other", ["n<1K"])
    assert [found["config_name"] for found in header["configs"]] == ["sft", "traces"]


def test_the_licence_is_what_the_user_says_and_never_a_guess(plain: Path, tmp_path: Path) -> None:
    given = export(plain, tmp_path / "given", "--format", "sft", "--license", "cc-by-4.0") / "README.md"
    assert DatasetCard.load(given).data.to_dict()["license"] == "cc-by-4.0"
    assert "star-rft does not know it" not in given.read_text()
    assert (
        "star-rft does not know it" in (export(plain, tmp_path / "none", "--format", "sft") / "README.md").read_text()
    )


def test_the_config_in_a_card_is_the_run_s(finished: Path) -> None:
    text = (finished / "rounds/001/checkpoint/README.md").read_text()
    (found,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    config = settle(str(finished))
    again = configs.load(yaml.safe_load(found))
    assert configs.changes(config, again) == []
    assert (again.name, again.rounds) == (config.name, config.rounds)


@pytest.mark.parametrize("format", ["sft", "dpo", "jsonl", "hub-folder"])
def test_no_card_names_a_path_of_the_machine(format: str, chat: Path, tmp_path: Path) -> None:
    """The model of this run is a folder, and its data is named by absolute paths."""
    data = {"train": str(tmp_path / "secret/train.jsonl"), "dev": {"source": ["~/secret/dev.jsonl"]}}
    run = make_run(tmp_path / "run", chat.parent / "model", data=data, run_dir=str(tmp_path / "run"))
    card = (export(run, tmp_path / "out", "--format", format) / "README.md").read_text()
    for text in (str(tmp_path), str(chat.parent), str(Path.home()), "secret", "~"):
        assert text not in card
    assert "`train.jsonl`" in card
    config = settle(str(run))
    report = RoundReport(round=1, model="m", problems=6)
    of_model = model_card(RunFolder(run), Ledger(run).connect(), card_config(config, is_chat=True), report)
    for text in (str(tmp_path), str(chat.parent), str(Path.home()), "secret", "~"):
        assert text not in of_model
    assert "`model` after round 1" in of_model


def test_a_path_is_cut_only_where_a_path_may_stand() -> None:
    config = {
        "run_dir": "/data/run",
        "prompt": {"template": "/no_think {question}"},
        "verifier": {"name": "pkg.module:check", "options": {"words": ["/data/words.txt"]}},
        "scorer": {"name": "judge", "options": {"url": "http://localhost:8000/v1"}},
        "data": {"train": {"source": "C:\\data\\train.jsonl"}, "dev": {"source": "openai/gsm8k"}},
    }
    cut = without_paths(config)
    assert "run_dir" not in cut
    assert cut["prompt"] == config["prompt"]
    assert cut["verifier"] == {"name": "pkg.module:check", "options": {"words": ["words.txt"]}}
    assert cut["scorer"] == {"name": "judge", "options": {}}
    assert cut["data"] == {"train": {"source": "train.jsonl"}, "dev": {"source": "openai/gsm8k"}}


def test_only_a_name_of_the_hub_is_given_as_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("org").mkdir()
    Path("org/here").mkdir()
    assert hub_name("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    assert [hub_name(name) for name in ("tiny", "smollm2", "org/here", "a/b/c", "models/x.gguf", "x.jsonl")] == [
        None
    ] * 6


def test_markdown_holds_whatever_a_text_holds() -> None:
    assert fenced("a\n```\nb") == "````\na\n```\nb\n````"
    assert code("a`b") == "`` a`b ``"
    assert table(["x"], [["a|b\nc"]]).splitlines()[-1] == "| a\\|b c |"


def card_of(run: Path, *, overrides: Sequence[str] = (), **changes: Any) -> str:
    """Return the card that round 2 of a run would have with another report or config."""
    report = replace(read_report(run / "rounds/002/metrics.json"), **changes)
    config = settle(str(run), overrides)
    return model_card(RunFolder(run), Ledger(run).connect(), card_config(config, is_chat=False), report)


def gate(
    action: str, model_round: int, *, rolled_back: bool = False, warnings: list[str] | None = None
) -> dict[str, Any]:
    found = {"action": action, "rule": "pass@1 fell", "model_round": model_round, "rolled_back": rolled_back}
    return {**found, "warnings": warnings or [], "evidence": {}}
