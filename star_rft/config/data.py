"""The config sections `model`, `data` and `prompt`."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from star_rft.config.base import Positive, Section, Share

DType = Literal["auto", "float32", "bfloat16", "float16"]


class ModelConfig(Section):
    """`name` is `tiny` (shipped), `smollm2` (a package to install), a folder or a hub name.

    With `from_scratch` the run begins with random weights in its architecture.
    """

    name: str = "tiny"
    from_scratch: bool = False
    gguf_file: str | None = None
    dtype: DType = "auto"
    device: str = "auto"
    trust_remote_code: bool = False


class SourceConfig(Section):
    """Where problems come from.

    `share: [a, b]` keeps the problems whose content hash, as a fraction of 1, lies between a and b, so that one file
    can be split.
    """

    source: str | list[str]
    split: str | None = None
    config_name: str | None = None
    preset: str | None = None
    columns: dict[str, str] | None = None
    share: Annotated[list[Share], Field(min_length=2, max_length=2)] | None = None
    limit: Positive | None = None
    shuffle_seed: int | None = None
    max_solution_chars: Positive | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _share_is_a_range(self) -> SourceConfig:
        if self.share is not None and self.share[0] >= self.share[1]:
            raise ValueError(f"share {self.share} is empty: the first number must be the smaller one")
        return self


def _as_source(value: object) -> object:
    """`data.train: gsm8k` is short for `data.train: {source: gsm8k}`."""
    return {"source": value} if isinstance(value, str) else value


Source = Annotated[SourceConfig, BeforeValidator(_as_source)]


class DataConfig(Section):
    """`dev` decides (temperature, gate, early stop); `test` is only reported.

    `contamination` says what happens to train problems that contain a held-out one: the run stops, they are dropped, or
    they are allowed.
    """

    train: Source | None = None
    dev: Source | None = None
    test: Source | None = None
    contamination: Literal["stop", "drop", "allow"] = "stop"

    @model_validator(mode="after")
    def _something_is_held_out(self) -> DataConfig:
        if self.dev is None and self.test is None:
            raise ValueError("dev and test are both missing: give at least one held-out set")
        return self


class PromptConfig(Section):
    """`chat_options` reach the model's chat template by name, such as `enable_thinking: false`.

    `date` (YYYY-MM-DD) is the day that a chat template sees if it prints today's date. The default is the day on which
    the run began, so that prompts stay the same when the run is resumed.
    """

    template: str = "{question}"
    chat: Literal["auto"] | bool = "auto"
    system: str | None = None
    few_shot: list[dict[str, str]] = []
    completion_prefix: str = ""
    chat_options: dict[str, Any] = {}
    date: Annotated[datetime.date, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _template_holds_the_question(self) -> PromptConfig:
        if "{question}" not in self.template:
            raise ValueError(f"template {self.template!r} has no {{question}}: the problem would not be shown")
        return self
