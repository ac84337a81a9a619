"""From a config to the engine that draws completions, and to its name and version in the ledger."""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import verifiers
from star_rft.cluster import Cluster
from star_rft.config import Config
from star_rft.runs.folder import RunFolder
from star_rft.types import Model, Sampler

# Rows that an actor decodes at once where sample.batch_size does not say: no plan can know the memory of every node.
HF_ROWS = 64


def backend(config: Config) -> tuple[str, str]:
    """Return what every decoding of the run names: the engine that draws, and its version."""
    name = engine_name(config)
    if name == "vllm":
        from star_rft.samplers.interpreter import vllm_version

        return name, vllm_version(config.vllm.python or sys.executable)
    if name == "server":
        from star_rft.samplers.dialects import VERSION

        return name, VERSION
    return name, version("transformers")


def engine_name(config: Config) -> str:
    """Return which engine draws: a cluster is none, but runs one on its nodes."""
    return config.ray.engine if config.sample.backend == "ray" else config.sample.backend


def open_sampler(config: Config, model: Model) -> Sampler:
    """Load a model into the engine of the config. Heavy: the engine's libraries are imported here."""
    if engine_name(config) == "vllm":
        return _vllm(config, model)
    if engine_name(config) == "server":
        return _server(config, model)
    from star_rft.samplers.hf import HFSampler

    return HFSampler(
        model,
        dtype=config.model.dtype,
        device=config.model.device,
        batch_size=config.sample.batch_size,
        trust_remote_code=config.model.trust_remote_code,
    )


def open_pool(config: Config) -> verifiers.Pool:
    """Open the worker processes of the config's verifier."""
    section = config.verifier
    return verifiers.Pool(section.name, workers=section.workers, timeout=section.timeout, **section.options)


def open_cluster(config: Config) -> Cluster | None:
    """Return where units are drawn, unless it is in this process. It is joined when the first unit is."""
    if config.sample.backend != "ray":
        return None
    section = config.ray
    by_itself = 0 if section.engine == "vllm" else HF_ROWS
    return Cluster(
        address=section.address,
        actors=section.actors,
        cpus=section.cpus,
        gpus=section.gpus,
        batch_size=by_itself if config.sample.batch_size is None else config.sample.batch_size,
        folder=Path(config.folder),
        make=partial(open_sampler, config),
        pool=partial(open_pool, config),
    )


def _vllm(config: Config, model: Model) -> Sampler:
    from star_rft.samplers.vllm import VLLMSampler

    section = config.vllm
    return VLLMSampler(
        model,
        python=section.python or sys.executable,
        dtype=config.model.dtype,
        trust_remote_code=config.model.trust_remote_code,
        tensor_parallel=section.tensor_parallel,
        data_parallel=section.data_parallel,
        max_model_len=section.max_model_len,
        memory=section.memory,
        eager=section.eager,
        serves_adapters=section.serve_adapters,
        stall=section.stall,
        env=section.env,
        options=section.options,
    )


def _server(config: Config, model: Model) -> Sampler:
    from star_rft.samplers.server import ServerSampler

    section = config.server
    assert section is not None  # the config holds that
    return ServerSampler(
        model,
        urls=section.urls,
        names=_names_at_servers(config, model),
        start=section.start,
        start_timeout=section.start_timeout,
        log=RunFolder(config.folder).path / "server.log",
        api=section.api,
        key_variable=section.key_variable,
        concurrency=section.concurrency,
        timeout=section.timeout,
        retries=section.retries,
        backoff=section.backoff,
        trust_remote_code=config.model.trust_remote_code,
    )


def _names_at_servers(config: Config, model: Model) -> list[str]:
    """Return what else a server may call a model. A name vouches for the one that the run starts from only: a later
    checkpoint is known by its path, for a server that still held the one before would give the same name.
    """
    from star_rft import models

    folder, section = RunFolder(config.folder), config.model
    base = models.resolve(
        section.name, gguf_file=section.gguf_file, into=folder.base_model, trust_remote_code=section.trust_remote_code
    )
    if model != (folder.scratch_model if section.from_scratch else base):
        return []
    given = config.server.model if config.server is not None else None
    return [given] if given is not None else [] if section.from_scratch else [section.name]
