"""A run folder made by hand: one round whose traces are of every kind that training treats in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from star_rft import config as configs
from star_rft.data import write_problems
from star_rft.files import write_table
from star_rft.frontier.classes import classify
from star_rft.ledger import PREFERENCES, Ledger
from star_rft.models import ASSETS, CHATML
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import write_report
from star_rft.selection.select import SelectionSpec, select
from star_rft.types import Decoding, Problem, RoundReport, Sample
from tests.small_ledgers import commit, sample, verdict
from verifiers.types import Verdict

DECODING = Decoding(temperature=1.0, max_tokens=64)
LONG = " and so on" * 40
PROBLEMS = [
    Problem(name, f"How many apples has {name}?", answer, "math", solution=f"It is {answer}.", meta={"steps": 1})
    for name, answer in (
        ("own", "1"),
        ("hinted", "2"),
        ("foreign", "3"),
        ("long", "4"),
        ("suspect", "5"),
        ("none", "6"),
    )
]
CONFIG: dict[str, Any] = {
    "name": "made",
    "rounds": 1,
    "data": {"train": "train.jsonl", "dev": "dev.jsonl"},
    "prompt": {"template": "Question: {question}\nAnswer:", "completion_prefix": " "},
    "sample": {"n": 4, "models": ["policy", "another/model"], "max_tokens": 64},
    "select": {"rules": ["correct", {"dedup": "exact"}], "reference_solutions": 0.5},
    "train": {"max_tokens": 100, "weighting": "per_problem", "mix": 0.25},
    "warm_start": {"max_steps": 1},
    "rationalize": {"n": 1},
}
COMPARING: dict[str, Any] = {
    "select": {"rules": [{"pairs": {"of": "all_and_reference", "limit": 4}}, "correct"]},
    "preference": {"objective": "rrhf", "max_tokens": 100},
}


def chat_model(folder: Path) -> Path:
    """Return a copy of the tiny model's tokenizer with a chat template, whose end of a turn ends the sequence."""
    tokenizer: Any = AutoTokenizer.from_pretrained(ASSETS / "tiny")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"], "eos_token": "<|im_end|>"})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_bytes((ASSETS / "tiny/config.json").read_bytes())
    return folder


def make_run(path: Path, model: Path = ASSETS / "tiny", **changes: Any) -> Path:
    """Write a run folder with one round that has selected and not trained."""
    folder = RunFolder(path)
    path.mkdir(parents=True)
    config = configs.load(CONFIG | {"model": {"name": str(model)}} | changes)
    folder.config.write_text(configs.dump(config))
    write_problems(folder.problems, {"train": PROBLEMS, "dev": []})
    write_problems(folder.warm_start_problems, {"train": PROBLEMS})
    write_report(folder.metrics(0), RoundReport(round=0, model="policy", problems=len(PROBLEMS)))
    ledger = Ledger(path, is_writer=True)
    ledger.record_decoding(DECODING)
    commit(ledger, "u0", traces(AutoTokenizer.from_pretrained(model)))
    con = Ledger(path).connect()
    write_table(folder.frontier(1), classify(con, through_round=1, own=range(4), reviews={"suspect": False}))
    weighting = config.train.weighting if config.train else "uniform"
    spec = SelectionSpec(config.select.rules, weighting=weighting, has_quarantine=True)
    chosen = select(Ledger(path).connect(), spec, round_index=1)
    write_table(folder.preferences(1), chosen.preferences.to_arrow_table().cast(PREFERENCES))
    write_table(folder.selection(1), chosen.traces.to_arrow_table())
    return path


def traces(tokenizer: PreTrainedTokenizerBase) -> list[tuple[Sample, Verdict]]:
    wrong = verdict("incorrect")
    return [
        (_sample(tokenizer, "own", 0, " She has 1."), verdict()),
        (_sample(tokenizer, "own", 1, " One: 1."), verdict()),
        (_sample(tokenizer, "own", 2, " She has 7."), wrong),
        (_sample(tokenizer, "own", 3, " She has 8.", finish="length"), wrong),
        (_sample(tokenizer, "hinted", 0, " She has 9."), wrong),
        (_sample(tokenizer, "hinted", 0, " It must be 2.", hinted=True), verdict()),
        (_sample(tokenizer, "foreign", 5, " Three: 3.", model="another"), verdict()),
        (_sample(tokenizer, "long", 0, f" She has 4{LONG}."), verdict()),
        (_sample(tokenizer, "suspect", 0, " She has 5."), verdict()),
        (_sample(tokenizer, "none", 0, " She has 0."), wrong),
    ]


def _sample(
    tokenizer: PreTrainedTokenizerBase,
    problem: str,
    sample_index: int,
    text: str,
    *,
    model: str = "policy",
    **more: Any,
) -> Sample:
    ids: Sequence[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    # Another model's tokens mean something else here, or nothing.
    token_ids = (*([9_999] * 20 if model != "policy" else ids), tokenizer.eos_token_id)
    drawn = sample(problem, sample_index, text, decode_id=DECODING.id, **more)
    return replace(drawn, model=model, token_ids=tuple(token_ids))
