"""The engines that come with star-rft: hf, vllm and server.

Their libraries are imported when a model is loaded. The options of `vllm` and `server` are the keys of the config's
sections of these names, which has their defaults.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

from star_rft.engines.registry import EngineContext, engine
from star_rft.types import Sampler


def _vllm_version(*, python: str | None, **_options: Any) -> str:
    from star_rft.engines.vllm.engine import vllm_version

    return vllm_version(python or sys.executable)


def _protocol_version(**_options: Any) -> str:
    from star_rft.engines.server.protocols import VERSION

    return VERSION


@engine("hf", version=lambda: version("transformers"))
def hf(context: EngineContext) -> Sampler:
    """Continuous batching on transformers, in this process."""
    from star_rft.engines.hf.sampler import HFSampler

    return HFSampler(context.model, batch_size=context.batch_size)


@engine("vllm", version=_vllm_version)
def vllm(
    context: EngineContext,
    *,
    python: str | None,
    tensor_parallel: int,
    data_parallel: int,
    max_model_len: int | None,
    memory: float,
    eager: bool,
    serve_adapters: bool,
    stall: float,
    env: Mapping[str, str],
    options: Mapping[str, Any],
) -> Sampler:
    """Run vLLM in processes of its own."""
    from star_rft.engines.vllm.sampler import VLLMSampler

    return VLLMSampler(
        context.model,
        python=python or sys.executable,
        tensor_parallel=tensor_parallel,
        data_parallel=data_parallel,
        max_model_len=max_model_len,
        memory=memory,
        eager=eager,
        serves_adapters=serve_adapters,
        stall=stall,
        env=env,
        options=options,
    )


@engine("server", version=_protocol_version)
def server(
    context: EngineContext,
    *,
    urls: Sequence[str],
    names: Sequence[str],
    start: str | None,
    start_timeout: float,
    api: Literal["auto", "vllm", "sglang", "llamacpp", "openai"],
    key_variable: str | None,
    concurrency: int,
    timeout: float,
    retries: int,
    backoff: float,
) -> Sampler:
    """OpenAI-compatible servers. `names` are what they may call the model besides its path or hub name."""
    from star_rft.engines.server.sampler import ServerSampler

    return ServerSampler(
        context.model,
        urls=urls,
        names=names,
        start=start,
        start_timeout=start_timeout,
        log=context.folder / "server.log",
        api=api,
        key_variable=key_variable,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        backoff=backoff,
    )
