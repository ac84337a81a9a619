"""Builds samplers, prompts, decodings and sources from a config."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import verifiers
from star_rft.build.models import named_model_of, spec_of
from star_rft.config import Config, DecodingConfig
from star_rft.data import Prompter
from star_rft.data.prompts import QUESTION
from star_rft.engines.registry import CLUSTER, ENGINES, EngineContext, check_engine
from star_rft.errors import UserError, located
from star_rft.evaluation.evaluate import HeldOutSampling
from star_rft.runs.folder import RunFolder
from star_rft.sampling.hints import Hint
from star_rft.sampling.plan import POLICY
from star_rft.sampling.policy import Source
from star_rft.sampling.ray import Cluster
from star_rft.types import Decoding, Model, Sampler

HINTED_QUESTION = "{question} ({answer})"


def prompter_of(config: Config, base: Model, *, system: str | None = None) -> Prompter:
    """Return what renders prompts with the base's tokenizer; `system` takes the place of the config's."""
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
    """Return the policy with hints in its prompts (`rationalize`); None where the config has no such section."""
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
    """Return the decodings that samples take in turn: the lists of temperatures and of top_p repeat independently."""
    section = config.sample
    temperatures, top_ps = section.temperatures, section.top_ps
    return tuple(
        _decoding(config, section, temperature=temperatures[i % len(temperatures)], top_p=top_ps[i % len(top_ps)])
        for i in range(math.lcm(len(temperatures), len(top_ps)))
    )


def held_out_sampling_of(config: Config) -> HeldOutSampling:
    """Return how held-out problems are sampled, with the decodings of the section `eval`."""
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
    return name, ENGINES.get(name).version_of(_engine_options(config))


def engine_name(config: Config) -> str:
    """Return the name of the engine that draws; with a cluster, of the one that its nodes run."""
    return config.ray.engine if config.sample.backend == CLUSTER else config.sample.backend


def check_backend(config: Config) -> None:
    """Raise UserError for an engine that does not exist, or cannot be used so, and for options that it lacks."""
    name, options = engine_name(config), config.sample.engine_options
    if config.sample.backend != CLUSTER:
        with located("sample.backend"):
            ENGINES.get(name, also=(CLUSTER,))
    with located("ray.engine"):
        ENGINES.get(config.ray.engine)
        if config.ray.engine == "server":
            raise UserError("a server is used without a cluster: set sample.backend to server")
        if not ENGINES.is_importable(config.ray.engine):
            raise UserError(
                f"{config.ray.engine!r} is registered in this process only: nodes import 'pkg.module:function'"
            )
    with located("sample.engine_options"):
        if name not in SECTIONS:
            check_engine(name, options)
        elif options:
            raise UserError(f"the options of {name} are the keys of the section {name}")


# Engines that have a section of the config for their options.
SECTIONS = ("vllm", "server")


def _engine_options(config: Config) -> dict[str, Any]:
    name = engine_name(config)
    if name == "vllm":
        return config.vllm.model_dump()
    if name == "server":
        assert config.server is not None  # the config holds that
        return {**config.server.model_dump(exclude={"url", "model"}), "urls": config.server.urls}
    return config.sample.engine_options


def open_sampler(config: Config, model: Model) -> Sampler:
    """Load a model into the engine of the config. Heavy: the engine's libraries are imported here."""
    name, options = engine_name(config), _engine_options(config)
    if name == "server":
        options["names"] = _names_at_servers(config, model)
    context = EngineContext(
        spec_of(config, model), folder=RunFolder(config.folder).path, batch_size=config.sample.batch_size
    )
    sampler: Sampler = ENGINES.get(name).function(context, **options)
    return sampler


def open_pool(config: Config) -> verifiers.Pool:
    """Open the worker processes of the config's verifier."""
    section = config.verifier
    return verifiers.Pool(section.name, workers=section.workers, timeout=section.timeout, **section.options)


def open_cluster(config: Config) -> Cluster | None:
    """Return where units are drawn, unless it is in this process. It is joined when the first unit is."""
    if config.sample.backend != CLUSTER:
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


def _names_at_servers(config: Config, model: Model) -> list[str]:
    """Return what else a server may call a model, besides its path.

    A name stands for the model that the run starts from only: a later checkpoint is known by its path, because a server
    that still holds the one before would give the same name.
    """
    folder, section = RunFolder(config.folder), config.model
    if model != (folder.scratch_model if section.from_scratch else named_model_of(config, folder)):
        return []
    given = config.server.model if config.server is not None else None
    return [given] if given is not None else [] if section.from_scratch else [section.name]
