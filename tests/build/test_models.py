"""Which model a config names, and how it is loaded."""

from __future__ import annotations

from star_rft import config as configs
from star_rft.build.models import spec_of
from star_rft.models import ModelSpec
from tests.small_runs import MINIATURE


def test_every_setting_of_the_config_is_in_the_spec_of_its_model_and_of_others() -> None:
    section = {"name": "tiny", "dtype": "bfloat16", "device": "cpu", "trust_remote_code": True}
    config = configs.load(MINIATURE | {"model": section})
    assert spec_of(config) == ModelSpec("tiny", dtype="bfloat16", device="cpu", trust_remote_code=True)
    assert spec_of(config, "other") == ModelSpec("other", dtype="bfloat16", device="cpu", trust_remote_code=True)
