"""The sections that say what draws completions, besides transformers in this process."""

from __future__ import annotations

import os
import shlex
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from star_rft.addresses import require_address
from star_rft.config.fields import AboveZero, NonNegative, Positive, Section, one_or_many


class VLLMConfig(Section):
    """vLLM in processes of its own, for `sample.backend: vllm`.

    `python` is the interpreter of the environment that has vLLM; this one unless given. `data_parallel` engines of
    `tensor_parallel` GPUs each share the requests. `memory` is the share of a GPU that an engine takes,
    `max_model_len` its longest sequence (prompt and completion); the model's unless given. With `serve_adapters` a LoRA
    checkpoint is served as its adapter on its base, without the merged weights. An engine that draws nothing for
    `stall` seconds is given up. `env` are environment variables and `options` further engine arguments of vLLM.
    """

    python: str | None = None
    tensor_parallel: Positive = 1
    data_parallel: Positive = 1
    max_model_len: Positive | None = None
    memory: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    eager: bool = False
    serve_adapters: bool = False
    stall: AboveZero = 600.0
    env: dict[str, str] = {}
    options: dict[str, Any] = {}


class ServerConfig(Section):
    """OpenAI-compatible servers, for `sample.backend: server`.

    `url` is one address or several, which share the requests; `model` the name under which they serve the model that
    the run starts from, its own unless given. Or `start` is a command that serves {model} at port {port} of this
    machine: it is started when a model is first asked and stopped before training. `api` is the servers' kind, which
    most tell themselves. At most `concurrency` requests are under way at each address. What fails is tried again up to
    `retries` times, after `backoff` seconds, twice that, and so on. `key_variable` names the environment variable that
    holds the key, which is written nowhere.
    """

    url: Annotated[str | list[str], one_or_many(str)] | None = None
    model: str | None = None
    api: Literal["auto", "vllm", "sglang", "llamacpp", "openai"] = "auto"
    start: str | None = None
    start_timeout: AboveZero = 600.0
    concurrency: Positive = 64
    timeout: AboveZero = 600.0
    retries: Annotated[int, Field(ge=0)] = 8
    backoff: NonNegative = 1.0
    key_variable: str | None = None

    @model_validator(mode="after")
    def _addresses_are_addresses(self) -> ServerConfig:
        for url in self.urls:
            require_address(url)
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("url names one address twice: raise concurrency instead")
        return self

    @model_validator(mode="after")
    def _a_command_can_be_filled_in(self) -> ServerConfig:
        if self.start is None:
            return self
        if self.urls:
            raise ValueError("url and start exclude each other: what star-rft starts it also asks")
        try:
            words = shlex.split(self.start)
        except ValueError as error:
            raise ValueError(f"start is no command: {error}") from None
        if self.key_variable and (key := os.environ.get(self.key_variable, "").strip()) and key in self.start:
            raise ValueError("start holds the key: leave it to the environment, where the server can read it")
        for place in ("{model}", "{port}"):
            if not any(place in word for word in words):
                raise ValueError(f"start lacks {place}, as in: vllm serve {{model}} --port {{port}}")
        return self

    @property
    def urls(self) -> list[str]:
        return self.url if isinstance(self.url, list) else [self.url] if self.url is not None else []


class RayConfig(Section):
    """A Ray cluster, for `sample.backend: ray`: actors that draw, verify and write whole units of the plan.

    `address` is the cluster's ("auto" finds the one that this machine belongs to); without one a cluster of this
    machine alone is started. Each of `actors` runs `engine` with `cpus` and `gpus` of a node, and the engine's own
    section says the rest. The run folder must lie where every node can write.
    """

    address: str | None = None
    engine: Literal["hf", "vllm"] = "hf"
    actors: Positive = 1
    cpus: AboveZero = 1.0
    gpus: NonNegative = 0.0
