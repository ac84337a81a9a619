"""Builds samplers, prompts, decodings and sources from a config."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import verifiers
from star_rft.build.models import named_model_of, spec_of
from star_rft.config import Config, DecodingConfig
from star_rft.data import Prompter
from star_rft.data.prompts import QUESTION
from star_rft.evaluation.evaluate import HeldOutSampling
from star_rft.runs.folder import RunFolder
from star_rft.sampling.hints import Hint
from star_rft.sampling.plan import POLICY
from star_rft.sampling.policy import Source
from star_rft.sampling.ray import Cluster
from star_rft.types import Decoding, Model, Sampler

HINTED_QUESTION = "{question} ({answer})"


def prompter_of(config: Config, base: Model, *, system: str | None = None) -> Prompter:
    from star_rft import models
    from star_rft.models.ends import ends_of

    section, spec = config.prompt, spec_of(config, base)
    tokenizer = models.load_tokenizer(spec)
    return Prompter(
        tokenizer,
        template=section.template,
        chat=section.chat,
        system=section.system if system is None else system,
        few_shot=section.few_shot,
        completion_prefix=section.completion_prefix,
        chat_options=section.chat_options,
        ends=ends_of(spec, tokenizer, chat_options=section.chat_options),
        date=None if section.date is None else section.date.isoformat(),
    )


def undeclared_end(prompter: Prompter, confirmed: Sequence[int]) -> str | None:
    """Return a warning where the chat template ends a turn with a token that the model does not declare as an end.

    So it is for base models that carry a template: they may never write that token. `confirmed` are ids that the user
    has named as ends.
    """
    ends = prompter.end_tokens
    if not prompter.is_chat or ends.chat is None or ends.chat in ends.declared | set(confirmed):
        return None
    token = prompter.tokenizer.convert_ids_to_tokens(ends.chat)
    return (
        f"the chat template ends a turn with {token}, which neither the tokenizer nor generation_config.json names as"
        " an end: a base model may never write it, and run on. For a base model set prompt.chat=false; if the model"
        f" does end with it, set sample.stop_token_ids=[{ends.chat}]"
    )


def sources_of(config: Config, base: Model) -> list[Source]:
    """Return who samples the train prompts; the samples of each begin where those of the one before end."""
    from star_rft import models

    section, found = config.sample, []
    for index, name in enumerate(section.models):
        resolved = None
        if name != POLICY:
            into = RunFolder(config.folder).base_model / str(index)
            resolved = models.resolve(spec_of(config, name), into=into)
        systems: Sequence[str | None] = section.system or [None]
        asked = [prompter_of(config, resolved or base, system=system) for system in systems]
        found.append(
            Source(
                tokenizer=asked[0].tokenizer,
                sample_indices=range(index * section.n, (index + 1) * section.n),
                decodings=train_decodings(config),
                renders=tuple(prompter.render for prompter in asked),
                encode=asked[0].prompt_ids,
                name=name,
                model=resolved,
            )
        )
    return found


def policy_sample_indices(config: Config) -> range:
    """Return the samples that the policy itself draws; none where only other models sample."""
    section = config.sample
    if POLICY not in section.models:
        return range(0)
    index = section.models.index(POLICY)
    return range(index * section.n, (index + 1) * section.n)


def hint_source(config: Config, base: Model) -> Source | None:
    section = config.rationalize
    if section is None:
        return None
    prompter = prompter_of(config, base)
    template = section.template
    if template is None:
        template = config.prompt.template if section.mark else config.prompt.template.replace(QUESTION, HINTED_QUESTION)
    temperatures = config.sample.temperatures if section.temperature is None else [section.temperature]
    decoding = _decoding(config, config.sample, temperature=temperatures[0], top_p=config.sample.top_ps[0])
    return Source(
        tokenizer=prompter.tokenizer,
        sample_indices=range(section.n),
        decodings=(decoding,),
        renders=(Hint(template, section.mark).renderer(prompter),),
        encode=prompter.prompt_ids,
        name=f"{POLICY} with hints",
        is_hinted=True,
    )


def _decoding(config: Config, section: DecodingConfig, *, temperature: float, top_p: float) -> Decoding:
    is_greedy = temperature == 0
    name, version = backend(config)
    return Decoding(
        temperature=temperature,
        max_tokens=section.max_tokens,
        top_p=1.0 if is_greedy else top_p,
        top_k=0 if is_greedy else section.top_k,
        stop=tuple(section.stop),
        stop_token_ids=tuple(section.stop_token_ids),
        backend=name,
        backend_version=version,
    )


def train_decodings(config: Config) -> tuple[Decoding, ...]:
    """Return what the samples take in turn: each list goes on at its own pace."""
    section = config.sample
    temperatures, top_ps = section.temperatures, section.top_ps
    return tuple(
        _decoding(config, section, temperature=temperatures[i % len(temperatures)], top_p=top_ps[i % len(top_ps)])
        for i in range(math.lcm(len(temperatures), len(top_ps)))
    )


def held_out_sampling_of(config: Config) -> HeldOutSampling:
    return HeldOutSampling(
        ks=config.eval.k,
        n=config.eval.n,
        sampled=_decoding(config, config.eval, temperature=config.eval.temperature, top_p=config.eval.top_p),
        greedy=_decoding(config, config.eval, temperature=0.0, top_p=1.0) if config.eval.has_greedy else None,
        every=config.eval.every,
        group_by=config.eval.group_by,
    )


# Rows that an actor decodes at once where sample.batch_size does not say: no plan can know the memory of every node.
HF_ROWS = 64


def backend(config: Config) -> tuple[str, str]:
    """Return what every decoding of the run names: the engine that draws, and its version."""
    name = engine_name(config)
    if name == "vllm":
        from star_rft.engines.vllm.engine import vllm_version

        return name, vllm_version(config.vllm.python or sys.executable)
    if name == "server":
        from star_rft.engines.server.protocols import VERSION

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
    from star_rft.engines.hf.sampler import HFSampler

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
    from star_rft.engines.vllm.sampler import VLLMSampler

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
    from star_rft.engines.server.sampler import ServerSampler

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
    folder, section = RunFolder(config.folder), config.model
    if model != (folder.scratch_model if section.from_scratch else named_model_of(config, folder)):
        return []
    given = config.server.model if config.server is not None else None
    return [given] if given is not None else [] if section.from_scratch else [section.name]
