"""The code of docs/export.md that loads a hub folder elsewhere: its fields are those of the folder.

tests/docs runs the programs of the page; its sections for axolotl and LLaMA-Factory are read here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import blocks
from tests.exports.calling import export
from tests.exports.made_run import COMPARING, make_run
from tests.paths import ROOT


@pytest.fixture(scope="module")
def comparing_chat(chat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of chats that compared traces."""
    return make_run(tmp_path_factory.mktemp("both") / "run", chat.parent / "model", **COMPARING)


def section(name: str) -> str:
    """Return the block of the page that a reader writes to a file of this name."""
    (found,) = [block.content for block in blocks(ROOT / "docs/export.md") if block.mark == f"file {name}"]
    return found


def rows(run: Path, out: Path, config: str) -> list[dict[str, Any]]:
    from datasets import load_dataset

    folder = export(run, out, "--format", "hub-folder")
    return [dict(row) for row in load_dataset(str(folder), config, split="train")]


@pytest.mark.parametrize(
    ("place", "run", "columns"),
    [
        (0, "plain", {"prompt": str, "completion": str}),
        (1, "chat", {"conversations": list}),
        (2, "comparing", {"prompt": str, "chosen": str, "rejected": str}),
        (3, "comparing_chat", {"prompt": list}),
    ],
)
def test_axolotl_finds_the_fields_that_the_page_names(
    place: int,
    run: str,
    columns: dict[str, type],
    tmp_path: Path,
    caches: Path,
    request: pytest.FixtureRequest,
) -> None:
    entry = yaml.safe_load(section("axolotl.yaml"))[place]
    kind = entry["type"]
    named = kind if isinstance(kind, dict) else entry
    assert {value for key, value in named.items() if key.startswith("field_")} == columns.keys()
    row = rows(request.getfixturevalue(run), tmp_path / "out", entry["name"])[0]
    assert {name: type(row[name]) for name in columns} == columns


def test_llama_factory_finds_a_chat_by_the_page_s_entry(chat: Path, tmp_path: Path, caches: Path) -> None:
    (entry,) = json.loads(section("dataset_info.json")).values()
    tags = entry["tags"]
    for row in rows(chat, tmp_path / "out", entry["subset"]):
        roles = [message[tags["role_tag"]] for message in row[entry["columns"]["messages"]]]
        assert roles == [tags["system_tag"], *[tags["user_tag"], tags["assistant_tag"]] * 2]


def test_the_page_s_conversions_give_what_an_export_for_llama_factory_holds(
    plain: Path, comparing: Path, comparing_chat: Path, tmp_path: Path, caches: Path
) -> None:
    (program,) = [block.content for block in blocks(ROOT / "docs/export.md") if "def pair_of_a_chat" in block.content]
    found: dict[str, Any] = {}
    exec(program.partition("\ndata = ")[0], found)
    for run, config, convert in (
        (plain, "sft", "example"),
        (comparing, "dpo", "pair"),
        (comparing_chat, "dpo", "pair_of_a_chat"),
    ):
        made = [found[convert](row) for row in rows(run, tmp_path / convert, config)]
        own = export(run, tmp_path / f"{convert}-own", "--format", config, "--for", "llama-factory")
        expected = [json.loads(line) for line in (own / f"{config}.jsonl").read_text().splitlines()]
        assert made == [{name: row[name] for name in made[0]} for row in expected]
