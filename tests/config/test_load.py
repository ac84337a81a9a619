"""A config that cannot be run is refused at load, in one line that names the key, the value and what is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_rft import config as configs
from star_rft.config import ConfigError

LEAST = {"name": "least", "data": {"train": "a.jsonl", "test": "b.jsonl"}}


def test_a_least_config_has_sensible_defaults() -> None:
    settled = configs.load(LEAST)
    assert settled.train is not None
    assert (settled.sample.n, settled.train.start, settled.eval.k) == (8, "last", [1, 8])
    assert settled.folder == Path("runs/least")


def test_overrides_take_yaml_values_and_reach_into_short_forms() -> None:
    settled = configs.load(LEAST, ["sample.n=16", "train.lr=1e-5", "data.train.limit=3", "eval.k=[1, 4]"])
    assert settled.sample.n == 16
    assert settled.train is not None
    assert settled.train.lr == 1e-5
    assert settled.eval.k == [1, 4]
    train = settled.data.train
    assert train is not None
    assert (train.source, train.limit) == ("a.jsonl", 3)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sample.m=3", "sample.m: no such key"),
        ("modle.name=x", "modle: no such key (did you mean model?)"),
        ("sample.n=many", "sample.n: 'many' is not valid"),
        ("sample.top_p=0", "sample.top_p: 0 is not valid"),
        ("sample.n=1.5", "sample.n: 1.5 is not valid"),
        ("train.from=best", "'base', 'warm_start' or 'last'"),
        ("eval.k=[1, 99]", "k <= n"),
        ("eval.k=[2]", "lacks 1"),
        ("sample.temperature=0", "temperature 0 draws the same completion"),
        ("sample.models=[policy, m, m]", "names one twice"),
        ("temperature_search.temperatures=[0.0]", "greater than 0"),
        ("train.from=warm_start", "no warm_start section"),
        ("train.mix=0.5", "draws from the warm start's data"),
        ("data.train.share=[0.5, 0.5]", "is empty"),
        ("prompt.template=hello", "has no {question}"),
        ("train.epochs=null", "epochs and max_steps are both null"),
        ("name=a/b", "name: 'a/b' is not valid"),
        ("data.test=null", "dev and test are both missing"),
        ("data.train=null", "data.train is missing"),
        ("no-equals-sign", "must look like key.sub=value"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_key(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configs.load(LEAST, [override])
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_temperature_search_is_of_the_policy_that_samples() -> None:
    with pytest.raises(ConfigError, match=r"policy is missing in sample\.models"):
        configs.load(LEAST, {"data.dev": "x", "temperature_search.temperatures": [0.5], "sample.models": ["m"]})


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: [unclosed")
    with pytest.raises(ConfigError, match=r"broken\.yaml: is not valid YAML"):
        configs.load(path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        configs.load(tmp_path / "absent.yaml")


def test_what_is_dumped_loads_as_the_same_config(tmp_path: Path) -> None:
    settled = configs.load(LEAST, ["train.lora.r=4", "warm_start.lr=1e-4", "train.mix=0.1"])
    path = tmp_path / "config.yaml"
    path.write_text(configs.dump(settled))
    assert configs.load(path) == settled


def test_only_changes_that_would_mix_samples_are_changes() -> None:
    old = configs.load(LEAST)
    assert configs.changes(old, configs.load(LEAST, ["rounds=9", "verifier.workers=3"])) == []
    assert configs.changes(old, configs.load(LEAST, ["sample.temperature=0.5"])) == ["sample.temperature: 1.0 -> 0.5"]


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("prompt.template={question}", "prompt", "template", "{question}"),
        ("prompt.template=Q: {question}", "prompt", "template", "Q: {question}"),
        (r'prompt.template="{question}\nA:"', "prompt", "template", "{question}\nA:"),
        ("prompt.completion_prefix=", "prompt", "completion_prefix", ""),
        ("prompt.system=no", "prompt", "system", "no"),
        ("prompt.system=null", "prompt", "system", None),
        ("model.name=7", "model", "name", "7"),
        ("sample.n=16", "sample", "n", 16),
        ("sample.temperature=[0.5, 1]", "sample", "temperature", [0.5, 1]),
    ],
)
def test_text_on_the_command_line_is_taken_as_it_is(override: str, section: str, key: str, value: object) -> None:
    config = configs.load(LEAST, [override])
    assert getattr(getattr(config, section), key) == value


def test_a_date_is_one_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "dated.yaml"
    path.write_text(configs.dump(configs.load(LEAST)).replace("date: null", "date: 2026-01-31"))
    for settled in (configs.load(path), configs.load(LEAST, ["prompt.date=2026-01-31"])):
        assert "date: '2026-01-31'" in configs.dump(settled)
    with pytest.raises(configs.ConfigError, match=r"prompt\.date: '2026-13-40' is not valid"):
        configs.load(LEAST, ["prompt.date=2026-13-40"])
