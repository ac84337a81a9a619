"""Preferences: the run's own preferences where it made some, else what the rule `pairs` would have made of the
round.
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from star_rft.errors import UserError
from star_rft.exports.rows import set_against_incorrect
from star_rft.ledger import Ledger
from star_rft.models import ASSETS
from star_rft.selection.select import SelectionSpec, select
from tests.exports.calling import export, lines, snippet, trained_by_trl
from tests.exports.made_run import CONFIG


def test_every_unequal_pair_of_the_runs_preferences_goes_out(comparing: Path, tmp_path: Path) -> None:
    out = export(comparing, tmp_path / "out", "--format", "dpo")
    rows = lines(out / "dpo.jsonl")
    places = (
        Ledger(comparing)
        .connect()
        .sql("select preference, problem_id, score from preferences order by preference, place")
    )
    by_preference: dict[int, list[tuple[str, float]]] = {}
    for preference, problem, score in places.fetchall():
        by_preference.setdefault(preference, []).append((problem, score))
    wanted = [a[0] for some in by_preference.values() for a, b in combinations(some, 2) if a[1] > b[1]]
    assert [row["problem_id"] for row in rows] == wanted
    assert all(row["better_score"] > row["worse_score"] for row in rows)
    reference = next(row for row in rows if row["problem_id"] == "own" and row["better_id"] == "reference-own")
    assert (reference["chosen"], reference["rejected"]) == (" It is 1.", " She has 7.")
    card = (out / "README.md").read_text()
    assert "The policy was trained on them by RRHF, on whole lists" in card


def test_where_nothing_was_compared_selected_traces_meet_incorrect_ones(plain: Path, tmp_path: Path) -> None:
    out = export(plain, tmp_path / "out", "--format", "dpo", "--pairs", "5")
    rows = lines(out / "dpo.jsonl")
    # Not the one that was cut off, none of the problem that is held out, and each sample by its own problem.
    pairs = {(row["prompt"], row["chosen"], row["rejected"]) for row in rows}
    asked = "Question: How many apples has {}?\nAnswer:"
    assert pairs == {
        (asked.format("own"), " She has 1.", " She has 7."),
        (asked.format("own"), " One: 1.", " She has 7."),
        (asked.format("hinted"), " It must be 2.", " She has 9."),
    }
    assert "The run itself made no preferences" in (out / "README.md").read_text()
    assert len(lines(export(plain, tmp_path / "one", "--format", "dpo") / "dpo.jsonl")) == 2


def test_the_pairs_are_those_that_the_rule_makes(plain: Path) -> None:
    con = Ledger(plain).connect()
    rules = [*CONFIG["select"]["rules"], {"pairs": {"limit": 2}}]
    made = select(con, SelectionSpec(rules, has_quarantine=True), round_index=1)
    expected = made.preferences.fetchall()
    set_against_incorrect(con, rounds=[1], candidates_of="all", seed=0, limit=2, scorer_decides=False)
    assert con.sql("select * from preferences order by preference, place").fetchall() == expected != []


@pytest.mark.full
def test_trl_trains_on_the_pairs_as_the_card_says(
    finished: Path, tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(finished, tmp_path / "out", "--format", "dpo")
    trainer, rows = trained_by_trl(out, monkeypatch), lines(out / "dpo.jsonl")
    assert trainer.state.global_step == 1
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny")
    for prepared, row in zip(trainer.train_dataset, rows, strict=True):
        assert tokenizer.decode(prepared["prompt_ids"]) == row["prompt"]
        for side in ("chosen", "rejected"):
            assert tokenizer.decode(prepared[f"{side}_ids"]) == row[side] + tokenizer.eos_token


def test_trl_takes_a_chats_pairs_as_messages(chat: Path, tmp_path: Path) -> None:
    from trl.data_utils import apply_chat_template, is_conversational

    tokenizer = AutoTokenizer.from_pretrained(chat.parent / "model")
    for row in lines(export(chat, tmp_path / "out", "--format", "dpo") / "dpo.jsonl"):
        assert is_conversational(row)
        rendered = apply_chat_template({key: row[key] for key in ("prompt", "chosen", "rejected")}, tokenizer)
        assert rendered["prompt"].endswith("<|im_start|>assistant\n")
        assert rendered["chosen"].startswith(row["chosen"][0]["content"] + tokenizer.eos_token)


@pytest.mark.parametrize("run", ["plain", "chat"])
def test_axolotl_is_told_the_fields_of_the_pairs(run: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    out = export(request.getfixturevalue(run), tmp_path / "out", "--format", "dpo", "--for", "axolotl")
    row = lines(out / "dpo.jsonl")[0]
    config = yaml.safe_load(snippet(out))
    (dataset,) = config["datasets"]
    assert config["rl"] == "dpo"
    if run == "chat":
        assert (dataset["type"], dataset["field_messages"]) == ("chat_template.default", "messages")
        assert row["messages"][-1]["role"] == "user"
        assert (row["chosen"]["role"], row["rejected"]["role"]) == ("assistant", "assistant")
    else:
        fields = [dataset["type"][f"field_{name}"] for name in ("prompt", "chosen", "rejected")]
        assert all(isinstance(row[field], str) for field in fields)
        assert not row["chosen"].endswith("</s>")  # axolotl hands them to TRL, which adds it


@pytest.mark.parametrize("run", ["plain", "chat"])
def test_llama_factory_finds_the_columns_of_the_pairs(run: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    out = export(request.getfixturevalue(run), tmp_path / "out", "--format", "dpo", "--for", "llama-factory")
    ((_, entry),) = json.loads((out / "dataset_info.json").read_text()).items()
    row = lines(out / entry["file_name"])[0]
    chosen: Any = row["chosen"]
    assert entry["ranking"] is True  # LLaMA-Factory's word: without it the file is read as examples
    assert set(entry["columns"].values()) <= set(row)
    assert isinstance(chosen, dict if run == "chat" else str)
    if run == "plain":
        assert str(chosen).endswith("</s>")


def test_a_round_that_has_nothing_to_compare_says_so(plain: Path, tmp_path: Path) -> None:
    import shutil

    import pyarrow.parquet as pq

    run = shutil.copytree(plain, tmp_path / "run")
    path = run / "rounds/001/selection.parquet"
    chosen = pq.read_table(path)
    pq.write_table(chosen.filter([problem == "foreign" for problem in chosen["problem_id"].to_pylist()]), path)
    with pytest.raises(UserError, match="no selected trace can be set against a worse one"):
        export(run, tmp_path / "out", "--format", "dpo")
    assert not (tmp_path / "out").exists()


def test_the_ids_of_the_pairs_are_those_of_training(comparing: Path, tmp_path: Path) -> None:
    rows = lines(export(comparing, tmp_path / "out", "--format", "dpo", "--tokens") / "dpo.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny")
    for row in rows:
        assert tokenizer.decode(row["prompt_ids"]) == row["prompt"]
        for side, ids, end in (("chosen", "chosen_ids", "better_end"), ("rejected", "rejected_ids", "worse_end")):
            assert tokenizer.decode(row[ids]) == row[side] + row[end]
            assert row[end] == "</s>"
