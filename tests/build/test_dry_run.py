"""A dry run refuses models that a run could not use, before anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_rft import config as configs
from star_rft.build.dry_run import preview
from star_rft.errors import UserError
from star_rft.models import ASSETS, ModelError
from tests.conventions import CLOSE, CONVENTIONS, save_turn_model
from tests.engines.hf.architectures import REFUSED, random_model
from tests.small_models import saved
from tests.small_runs import write_config


@pytest.mark.parametrize(
    "changes", [{}, {"sample": {"n": 2, "backend": "ray"}}, {"sample": {"n": 2, "models": ["policy", "BLOOM"]}}]
)
def test_a_dry_run_refuses_a_model_that_the_hf_engine_cannot_sample(changes: dict[str, object], tmp_path: Path) -> None:
    bloom = saved(random_model("bloom", REFUSED["bloom"][0]), tmp_path / "bloom")
    text = write_config(tmp_path, model={"name": str(bloom)}, **changes)
    if "BLOOM" in str(changes):
        text.write_text(text.read_text().replace(f"name: {bloom}", "name: tiny").replace("BLOOM", str(bloom)))
    with pytest.raises(ModelError, match="BloomForCausalLM cannot be sampled by the hf engine"):
        preview(configs.load(text))


def test_a_dry_run_names_a_damaged_checkpoint(tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    torn.mkdir()
    for file in (ASSETS / "tiny").iterdir():
        content = file.read_bytes()
        (torn / file.name).write_bytes(content[:1000] if file.suffix == ".safetensors" else content)
    with pytest.raises(ModelError, match="torn") as refused:
        preview(configs.load(write_config(tmp_path, model={"name": str(torn)})))
    assert "\n" not in str(refused.value)


def test_a_dry_run_accepts_a_model_from_scratch_without_weights(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in (ASSETS / "tiny").iterdir():
        if file.suffix != ".safetensors":
            (bare / file.name).write_bytes(file.read_bytes())
    preview(configs.load(write_config(tmp_path, model={"name": str(bare), "from_scratch": True})))


def test_a_dry_run_warns_of_a_template_whose_end_the_model_does_not_declare(tmp_path: Path) -> None:
    made = save_turn_model(tmp_path / "model", CONVENTIONS["a base model with a template whose end nothing lists"])
    text = write_config(tmp_path, model={"name": str(made)}, prompt={"template": "{question}"})
    (warning,) = preview(configs.load(text)).warnings
    assert "ends a turn with <close>" in warning
    assert f"prompt.chat=false; if the model does end with it, set sample.stop_token_ids=[{CLOSE}]" in warning
    for override in ("prompt.chat=false", f"sample.stop_token_ids=[{CLOSE}]"):
        assert preview(configs.load(text, [override])).warnings == []


def test_a_dry_run_refuses_a_prompt_that_the_template_does_not_show(tmp_path: Path) -> None:
    made = save_turn_model(tmp_path / "model", CONVENTIONS["the template writes both ends"])
    template = next(made.glob("chat_template*"))
    template.write_text(template.read_text().replace("m['content']", "m['content'] | upper"))
    text = write_config(tmp_path, model={"name": str(made)}, prompt={"template": "{question}"})
    with pytest.raises(UserError, match="does not show the whole question"):
        preview(configs.load(text))
