"""Engines as plug-ins: names, options, and a whole round that an engine of one's own draws."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import star_rft
from star_rft import config as configs
from star_rft.build import check_names
from star_rft.build.sampling import open_sampler, train_decodings
from star_rft.engines.registry import ENGINES, EngineContext, engine
from star_rft.errors import UserError
from star_rft.models import ASSETS
from star_rft.models.spec import ModelSpec
from star_rft.types import Completion, Decoding, Request, Sampler
from tests.small_runs import MINIATURE, call, write_config


class Script:
    """Gives every sample with an even index one text, and every other one another, in the tokens of the model."""

    def __init__(self, context: EngineContext, texts: Sequence[str]) -> None:
        self.context, self.texts, self.is_closed = context, texts, False
        self.tokenizer = AutoTokenizer.from_pretrained(context.model.path)

    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        for request in requests:
            text = self.texts[request.sample_index % len(self.texts)]
            ids = (*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id)
            yield Completion(request, text, ids, "stop", None)

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True


@engine("script", version="7")
def script(context: EngineContext, *, texts: list[str], rate: float = 1.0) -> Sampler:
    return Script(context, texts)


def undecorated(context: EngineContext) -> Sampler:
    return Script(context, ["1"])


def without_context(*, texts: list[str]) -> Sampler:
    raise AssertionError(texts)


OWN = f"{__name__}:script"
TEXTS = [" 2 + 3 = 5. The answer is \\boxed{5}.", " I do not know."]


def refusal(**changes: Any) -> str:
    with pytest.raises(UserError) as refused:
        check_names(configs.load(MINIATURE | {key: MINIATURE.get(key, {}) | value for key, value in changes.items()}))
    return str(refused.value)


@pytest.mark.parametrize("name", ["script", OWN])
def test_an_engine_of_ones_own_draws_a_whole_round_and_the_ledger_names_it(name: str, tmp_path: Path) -> None:
    sample = MINIATURE["sample"] | {"backend": name, "engine_options": {"texts": TEXTS}}
    changes = {
        "rounds": 1,
        "run_dir": str(tmp_path / "run"),
        "sample": sample,
        "select": {"rules": ["finished", {"cap": 1}]},
        "train": {"max_steps": 1, "batch_size": 4},
        "eval": {"n": 1, "k": [1], "greedy": False, "kl_traces": 0},
    }
    run = star_rft.run(MINIATURE | changes).result()
    assert [report.round for report in run.reports] == [0, 1]
    assert run.reports[-1].selected > 0
    rows = run.sql(
        "select distinct s.text, d.backend, d.backend_version from samples s join decodings d using (decode_id)"
        " where s.split = 'train' order by s.text"
    ).fetchall()
    assert rows == [(text, name, "7") for text in sorted(TEXTS)]


def test_an_engine_gets_the_model_and_the_settings_of_the_config(tmp_path: Path) -> None:
    changes = {
        "run_dir": str(tmp_path),
        "model": {"name": "tiny", "dtype": "bfloat16", "device": "cpu"},
        "sample": MINIATURE["sample"] | {"backend": "script", "engine_options": {"texts": TEXTS}},
    }
    opened = open_sampler(configs.load(MINIATURE | changes), ASSETS / "tiny")
    assert isinstance(opened, Script)
    assert opened.context == EngineContext(ModelSpec(ASSETS / "tiny", "bfloat16", "cpu"), tmp_path, batch_size=16)


def test_samples_of_another_version_of_an_engine_have_another_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configs.load(
        MINIATURE | {"sample": MINIATURE["sample"] | {"backend": "script", "engine_options": {"texts": TEXTS}}}
    )
    (before,) = train_decodings(config)
    monkeypatch.setitem(ENGINES.items, "script", replace(ENGINES.get("script"), version=_counted))
    (after,) = train_decodings(config)
    assert (before.backend_version, after.backend_version) == ("7", "2 texts at 1.0")
    assert before.id != after.id


def _counted(*, texts: list[str], rate: float) -> str:
    """The config gives `texts` alone; of `rate` it is the engine's own default."""
    return f"{len(texts)} texts at {rate}"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (
            {"backend": "vlm"},
            "config: sample.backend: unknown engine 'vlm' (did you mean 'vllm'?); valid: hf, ray, script, server, vllm,"
            " or 'pkg.module:function'",
        ),
        ({"backend": "rya"}, "(did you mean 'ray'?)"),
        ({"backend": "nothing:here"}, "sample.backend: engine 'nothing:here': no module named 'nothing' can be"),
        ({"backend": f"{__name__}:scirpt"}, f"{__name__} has no 'scirpt' (did you mean 'script'?)"),
        ({"backend": f"{__name__}:without_context"}, "must be a function (context, *, options), but "),
        ({"backend": f"{__name__}:TEXTS"}, "must be a function (context, *, options), but is ["),
        (
            {"backend": "script", "engine_options": {"texts": TEXTS, "rates": 2}},
            "sample.engine_options: engine 'script' has no option 'rates' (did you mean 'rate'?)",
        ),
        (
            {"backend": "script", "engine_options": {"texts": TEXTS, "rate": "high"}},
            "sample.engine_options: option 'rate' of engine 'script': 'high' is not valid: input should be a valid num",
        ),
        ({"backend": "script"}, "sample.engine_options: engine 'script' needs the option 'texts'"),
        (
            {"engine_options": {"batch": 2}},
            "sample.engine_options: engine 'hf' has no option 'batch'; valid options: none",
        ),
        (
            {"backend": "vllm", "engine_options": {"memory": 0.5}},
            "sample.engine_options: the options of vllm are the keys of the section vllm",
        ),
    ],
)
def test_an_engine_that_cannot_be_meant_is_refused(sample: dict[str, Any], message: str) -> None:
    assert message in refusal(sample=sample)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vlm", "ray.engine: unknown engine 'vlm' (did you mean 'vllm'?); valid: hf, script, server, vllm, or"),
        ("ray", "ray.engine: unknown engine 'ray'"),
        ("server", "ray.engine: a server is used without a cluster"),
        ("script", "ray.engine: 'script' is registered in this process only: nodes import 'pkg.module:function'"),
    ],
)
def test_the_engine_of_a_cluster_is_one_that_its_nodes_can_import(name: str, message: str) -> None:
    assert message in refusal(sample={"backend": "ray"}, ray={"engine": name})
    check_names(configs.load(MINIATURE | {"sample": {"backend": "ray"}, "ray": {"engine": f"{__name__}:undecorated"}}))


def test_a_refused_engine_is_told_with_its_file_before_anything_is_loaded(tmp_path: Path) -> None:
    path = write_config(tmp_path, sample={"backend": "hff"}, model={"name": str(tmp_path / "nowhere")})
    for arguments in (["run", str(path)], ["run", str(path), "--dry-run"]):
        done = call(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert f"{path}: sample.backend: unknown engine 'hff' (did you mean 'hf'?)" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_dry_run_takes_an_engine_of_a_module_in_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "own_engine.py").write_text(Path(__file__).read_text().split("OWN = ")[0].replace('"script"', '"own"'))
    options = {"backend": "own_engine:script", "engine_options": {"texts": TEXTS}}
    path = write_config(tmp_path, sample=MINIATURE["sample"] | options)
    done = call("run", str(path), "--dry-run", cwd=tmp_path)
    del ENGINES.items["own"]
    assert done.returncode == 0, done.stderr
    assert "sampling:" in done.stdout


def test_a_name_that_is_taken_is_refused_where_it_is_taken() -> None:
    with pytest.raises(UserError, match=r"the name 'hf' is taken by star_rft\.engines\.builtin:hf; choose another"):
        engine("hf")(undecorated)
    with pytest.raises(UserError, match=r"the name 'ray' is that of a cluster; choose another"):
        engine("ray")(undecorated)


def test_an_engine_may_come_from_a_package_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("packed", f"{__name__}:undecorated", "star_rft.engines")
    monkeypatch.setattr(ENGINES, "entry_points", lambda: {"packed": point})
    check_names(configs.load(MINIATURE | {"sample": {"backend": "packed"}}))
    check_names(configs.load(MINIATURE | {"sample": {"backend": "ray"}, "ray": {"engine": "packed"}}))
    assert ENGINES.items.pop("packed").function is undecorated


def test_naming_engines_loads_no_library() -> None:
    code = (
        "import sys, star_rft; star_rft.engine; from star_rft.engines.registry import ENGINES;"
        " assert ENGINES.get('hf').function and ENGINES.names() == ['hf', 'server', 'vllm'], ENGINES.names();"
        " assert not {'torch', 'transformers', 'vllm', 'httpx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
