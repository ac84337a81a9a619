"""docs/glossary.md names everything that users meet by name, and names have the glossary's words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from pydantic import BaseModel

from star_rft.config import Config
from star_rft.ledger import schemas
from star_rft.types import HeldOutScores, RoundReport
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text()
NAMED = set(re.findall(r"`([a-z0-9_]+)(?:\.[a-z0-9_]+)?`", PAGE)) | set(re.findall(r"`[a-z0-9_]+\.([a-z0-9_]+)`", PAGE))
# Counts of the table of history, before its discount: nothing stores them.
NOT_STORED = set(schemas.NOT_STORED)
# Words that once meant one of the glossary's. `balance` is DART's rule; `reference` and `prompt` are columns.
OLD = (
    "attempt attempts survivor survivors doubt doubts gold suspect suspects drift ranking rankings fate still_none"
    " wrong_steps false_steps true_steps standing surroundings peer roof rung reckoned ways"
)
GERUNDS = {
    *("sampling", "training", "batching", "decoding", "stopping", "sharding", "timing", "sizing", "ranking"),
    "string",
}
PARTICIPLES = {
    *("kept", "seen", "told", "made", "drawn", "chosen", "done", "taken", "given", "found", "lost", "sent", "left"),
    *("held", "broken", "gone", "begun", "written", "known", "shown", "said"),
}
PLAIN = {"speed", "seed", "need", "feed"}


def tables() -> dict[str, pa.Schema]:
    return {name: found for name, found in vars(schemas).items() if isinstance(found, pa.Schema)}


def config_keys(section: type[BaseModel]) -> Iterator[str]:
    """Yield every key of a config, those of its sections too."""
    for name, field in section.model_fields.items():
        yield field.alias or name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from config_keys(kind)


def metrics_keys() -> set[str]:
    return {field.name for record in (RoundReport, HeldOutScores) for field in fields(record)}


def test_every_section_of_a_config_is_named() -> None:
    assert set(Config.model_fields) - NAMED == set()


@pytest.mark.parametrize("table", tables())
def test_every_column_of_the_ledger_is_named(table: str) -> None:
    assert set(tables()[table].names) - NAMED - NOT_STORED == set()


def test_every_key_of_the_metrics_is_named() -> None:
    assert metrics_keys() - NAMED == set()


def test_no_name_that_users_meet_is_an_old_word() -> None:
    columns = {name for schema in tables().values() for name in schema.names}
    names = columns | metrics_keys() | set(config_keys(Config))
    words = {word for name in names for word in (name, *name.split("_"))}
    assert words & set(OLD.split()) == set()


def test_shares_have_one_form() -> None:
    shares = {name for name in metrics_keys() if "share" in name}
    assert shares
    assert all(re.fullmatch(r"\w+_share(_interval|_by_group)?", name) for name in shares)


def names_in(path: Path) -> Iterator[str]:
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            yield node.name


def last_word(name: str) -> str:
    words: list[Any] = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return str(words[-1]).lower() if words else ""


@pytest.mark.parametrize("package", ["star_rft", "verifiers"])
def test_modules_and_classes_are_nouns(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        for name in names_in(path):
            word = last_word(name)
            is_verbal = word.endswith(("ing", "ed")) or word in PARTICIPLES
            assert not is_verbal or word in GERUNDS | PLAIN, f"{path.relative_to(ROOT)}: {name}"
