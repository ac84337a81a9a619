"""The text of a config: every key has its comment, and YAML reads what was meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from star_rft import config as configs
from star_rft.init.sizing import Device, ModelFacts, look, sizes_for
from star_rft.init.template import WHY, Plan, document, flow, prompting_for, written
from star_rft.types import Problem

PROBLEMS = [Problem(str(i), f"What is {i}?", "1", "math", "It is 1.\n#### 1") for i in range(2_000)]
BASE = ModelFacts("org/base-7b", False, "", 7e9)


def plan(model: ModelFacts, **changes: Any) -> Plan:
    return replace(
        Plan(
            name="mine",
            file="mine.yaml",
            model=model,
            train={"source": "a.jsonl", "columns": {"prompt": "frage", "reference": "x y"}, "share": [0.0, 0.9]},
            dev={"source": "a.jsonl", "share": [0.9, 1.0], "limit": 100, "shuffle_seed": 0},
            test={"source": "b.jsonl"},
            train_count=1_800,
            dev_count=100,
            contaminated=3,
            origin="Prompt: frage (its name).",
            verifier="math",
            verifier_why="all 2,000 references are numbers",
            kind="number",
            prompting=prompting_for(model, "number"),
            sizes=sizes_for(model, lambda: Device("cuda", 24e9), PROBLEMS, None),
            has_reference_solutions=True,
            group_by="level",
        ),
        **changes,
    )


PLANS = {
    "tiny": plan(look("tiny")),
    "a base model with everything": plan(BASE),
    "a base model on a CPU": plan(BASE, sizes=sizes_for(BASE, lambda: Device("cpu", 24e9), PROBLEMS, None)),
    "a small chat model": plan(ModelFacts("m", True, "", 135e6)),
    "a chat model": plan(ModelFacts("m", True, "", 1e9), test=None, contaminated=0, group_by=None),
    "programs": plan(
        BASE, kind="program", verifier="code", prompting=prompting_for(BASE, "program"), has_reference_solutions=False
    ),
}


def load(text: str, folder: Path) -> configs.Config:
    (folder / "mine.yaml").write_text(text)
    return configs.load(folder / "mine.yaml")


@pytest.mark.parametrize("name", PLANS)
def test_every_config_loads_and_says_what_was_planned(name: str, tmp_path: Path) -> None:
    loaded = load(written(PLANS[name]), tmp_path).model_dump(mode="json", by_alias=True)

    def holds(planned: Any, found: Any, path: str) -> None:
        if isinstance(planned, dict):
            for key, value in planned.items():
                holds(value, found[key], f"{path}.{key}")
        else:
            assert planned == found, path

    holds(document(PLANS[name]), loaded, name)


@pytest.mark.parametrize("name", PLANS)
def test_every_key_has_a_comment(name: str) -> None:
    section, comment = "", False
    for line in written(PLANS[name]).splitlines():
        bare = line.strip()
        if not bare:
            continue
        assert len(line) <= 120 or not bare.startswith("#"), line
        if bare.startswith("#"):
            comment = True
            continue
        if bare.endswith(":") and not line.startswith(" "):
            section = bare
        # The keys of the warm start are those of train, which its own comment says.
        elif section != "warm_start:" or not line.startswith(" "):
            assert comment, line
        comment = section == "warm_start:" and comment


def test_no_comment_is_left_over() -> None:
    keys = {"warm_start"}
    for one in PLANS.values():
        for name, section in document(one).items():
            keys |= {f"{name}.{key}" for key in section} if isinstance(section, dict) else {name}
    assert set(WHY) <= keys


def test_a_warm_start_is_for_base_models_with_right_solutions() -> None:
    with_gold = document(PLANS["a base model with everything"])
    assert with_gold["train"]["from"] == "warm_start"
    assert with_gold["train"]["lora"] == with_gold["warm_start"]["lora"]
    assert document(PLANS["programs"])["train"]["from"] == "base"
    assert "warm_start" not in document(PLANS["a chat model"])
    assert "warm_start" in document(PLANS["a small chat model"])
    assert document(PLANS["a base model on a CPU"])["warm_start"]["data"]["limit"] == 500
    assert "data" not in with_gold["warm_start"]


def test_programs_are_deduplicated_as_programs() -> None:
    assert {"dedup": "program"} in document(PLANS["programs"])["select"]["rules"]
    assert {"dedup": "equations"} not in document(PLANS["programs"])["select"]["rules"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(
        [
            "no",
            "1e5",
            ".5e3",
            "./5e3",
            "~",
            "- a",
            "a: b",
            "#",
            "{question}",
            "null",
            "0x1",
            "1_000",
            "2020-01-01",
            "é\n",
        ]
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.full
@given(value=st.one_of(st.text(), st.lists(st.text()), st.dictionaries(st.text(), VALUES)))
def test_whatever_a_column_or_a_file_is_called_yaml_reads_it_back(value: Any) -> None:
    text = flow(value)
    assert "\n" not in text
    assert yaml.safe_load(f"key: {text}") == {"key": value}
    assert configs.pairs([f"key={text}"]) == {"key": value}  # which also reads 1e5 as a number


def test_values_look_as_a_person_writes_them() -> None:
    assert flow(2e-5) == "2.0e-5"
    assert flow(["correct", {"dedup": "exact"}, {"cap": 4}]) == "[correct, dedup: exact, cap: 4]"
    assert flow({"source": "data/a-b.jsonl", "share": [0.0, 0.9]}) == "{source: data/a-b.jsonl, share: [0.0, 0.9]}"
    assert flow("/a b") == '"/a b"'
