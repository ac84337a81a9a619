"""Traces with everything that is known of them, and a folder that the hub takes as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from star_rft.exports.traces import COLUMNS
from star_rft.ledger import Ledger
from tests.exports.calling import export, lines, snippet


def test_a_row_says_all_of_a_trace(plain: Path, tmp_path: Path) -> None:
    rows = lines(export(plain, tmp_path / "out", "--format", "jsonl", "--include", "all") / "traces.jsonl")
    assert len(rows) == 10
    assert all(tuple(row) == tuple(COLUMNS) for row in rows)
    by_text = {row["text"]: row for row in rows}
    kept, wrong, held_out = by_text[" One: 1."], by_text[" She has 7."], by_text[" She has 5."]
    assert (kept["is_selected"], kept["why"], kept["weight"]) == (True, "selected", 0.5)
    assert (kept["status"], kept["reason"], kept["score"], kept["verifier"]) == ("correct", "match", 1.0, "v")
    assert (kept["prompt"], kept["reference"], kept["class"]) == ("How many apples has own?", "1", "learnable")
    assert (kept["temperature"], kept["max_tokens"], kept["stop"], kept["backend"]) == (1.0, 64, [], "hf")
    assert (wrong["is_selected"], wrong["why"], wrong["weight"]) == (False, "incorrect", 0.0)
    assert (held_out["why"], held_out["class"]) == ("quarantined", "label_error")
    assert by_text[" It must be 2."]["hinted"] is True
    assert by_text[" Three: 3."]["model"] == "another"


@pytest.mark.parametrize(("include", "count"), [("selected", 5), ("correct", 6), ("all", 10)])
def test_what_is_included_is_what_was_asked_for(include: str, count: int, plain: Path, tmp_path: Path) -> None:
    rows = lines(export(plain, tmp_path / "out", "--format", "jsonl", "--include", include) / "traces.jsonl")
    assert len(rows) == count


def test_parquet_and_jsonl_hold_the_same(plain: Path, tmp_path: Path) -> None:
    arguments = ["--include", "all", "--tokens"]
    table = pq.read_table(export(plain, tmp_path / "a", "--format", "parquet", *arguments) / "traces.parquet")
    assert table.to_pylist() == lines(export(plain, tmp_path / "b", "--format", "jsonl", *arguments) / "traces.jsonl")
    assert table["token_ids"].to_pylist()[0]


@pytest.mark.parametrize("name", ["jsonl", "parquet", "hub-folder"])
def test_the_card_s_code_loads_the_traces(
    name: str, plain: Path, tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(plain, tmp_path / name, "--format", name)
    monkeypatch.chdir(out)
    found: dict[str, Any] = {}
    exec(snippet(out).replace("ORG/NAME", str(out)), found)
    assert len(found["traces"]) == 5


def test_held_out_traces_are_those_of_the_rounds_evaluation(finished: Path, tmp_path: Path) -> None:
    out = export(finished, tmp_path / "out", "--format", "parquet", "--split", "dev", "--round", "2")
    table = pq.read_table(out / "traces.parquet")
    (expected,) = (
        Ledger(finished).connect().sql("select count(*) from samples where split = 'dev' and round = 2").fetchall()
    )
    assert (table.num_rows,) == expected
    assert set(table["split"].to_pylist()) == {"dev"}
    assert set(table["in_round"].to_pylist()) == {2}
    assert "Do not train on them" in (out / "README.md").read_text()


def test_of_all_rounds_each_trace_stands_once_a_round(finished: Path, tmp_path: Path) -> None:
    """Round 2 could train on round 1's traces again (select.rounds: all)."""
    out = export(finished, tmp_path / "out", "--format", "parquet", "--all-rounds", "--include", "all")
    query = (
        f"select in_round, count(*), count(distinct sample_id) from '{out / 'traces.parquet'}' group by 1 order by 1"
    )
    rows = duckdb.execute(query).fetchall()
    assert rows == [(1, 64, 64), (2, 128, 128)]


@pytest.mark.parametrize("run", ["finished", "chat", "comparing"])
def test_the_hub_s_loader_takes_the_folder_as_it_is(
    run: str, tmp_path: Path, caches: Path, request: pytest.FixtureRequest
) -> None:
    from datasets import get_dataset_config_names, load_dataset

    out = export(request.getfixturevalue(run), tmp_path / "out", "--format", "hub-folder")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "data"]
    names = get_dataset_config_names(str(out))
    assert names == (["sft", "dpo", "traces"] if run == "comparing" else ["sft", "traces"])
    first = load_dataset(str(out), split="train")  # the default
    assert {"prompt", "completion"} <= set(first.column_names)
    assert ("conversations" in first.column_names) == (run == "chat")
    if run == "chat":
        assert first[0]["conversations"] == [*first[0]["prompt"], *first[0]["completion"]]
    traces = load_dataset(str(out), "traces", split="train")
    assert all(traces["is_selected"])
    if run == "comparing":
        assert {"chosen", "rejected"} <= set(load_dataset(str(out), "dpo", split="train").column_names)


def test_trl_passes_over_the_messages_that_the_hub_s_folder_has_for_others(
    chat: Path, tmp_path: Path, caches: Path
) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from star_rft.models import ASSETS

    data = load_dataset(str(export(chat, tmp_path / "out", "--format", "hub-folder")), split="train")
    tokenizer = AutoTokenizer.from_pretrained(chat.parent / "model")
    model = AutoModelForCausalLM.from_pretrained(ASSETS / "tiny")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    off: dict[str, Any] = {"gradient_checkpointing": None}  # newer versions of transformers warn of TRL's default
    settings = SFTConfig(output_dir=str(tmp_path / "model"), use_cpu=True, report_to=[], max_length=512, **off)
    trainer = SFTTrainer(model, args=settings, train_dataset=data, processing_class=tokenizer)
    encoded: Any = trainer.train_dataset
    for prepared, row in zip(encoded, data, strict=True):
        learnt = tokenizer.decode([label for label in prepared["labels"] if label != -100])
        assert isinstance(learnt, str)
        assert learnt.startswith(row["completion"][0]["content"] + tokenizer.eos_token)
