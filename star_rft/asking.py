"""From a config to who is asked, and how: prompts, decodings, sources."""

from __future__ import annotations

import math
from collections.abc import Sequence

from star_rft.config import Config, DecodingConfig
from star_rft.data import Prompter
from star_rft.data.prompts import QUESTION
from star_rft.engines import backend
from star_rft.evaluate import HeldOut
from star_rft.frontier.plan import POLICY
from star_rft.rationalize import Hint
from star_rft.runs.folder import RunFolder
from star_rft.sources import Source
from star_rft.types import Decoding, Model

HINTED_QUESTION = "{question} ({answer})"


def prompts_of(config: Config, base: Model, *, system: str | None = None) -> Prompter:
    from star_rft import models
    from star_rft.models.ends import ends_of

    section, trust = config.prompt, config.model.trust_remote_code
    tokenizer = models.load_tokenizer(base, trust_remote_code=trust)
    return Prompter(
        tokenizer,
        template=section.template,
        chat=section.chat,
        system=section.system if system is None else system,
        few_shot=section.few_shot,
        completion_prefix=section.completion_prefix,
        chat_options=section.chat_options,
        ends=ends_of(base, tokenizer, trust_remote_code=trust, chat_options=section.chat_options),
        date=None if section.date is None else section.date.isoformat(),
    )


def undeclared_end(prompts: Prompter, confirmed: Sequence[int]) -> str | None:
    """Return a warning where the chat template ends a turn with a token that the model does not declare as an end.

    So it is for base models that carry a template: they may never write that token. `confirmed` are ids that the user
    has named as ends.
    """
    ends = prompts.end_tokens
    if not prompts.is_chat or ends.chat is None or ends.chat in ends.declared | set(confirmed):
        return None
    token = prompts.tokenizer.convert_ids_to_tokens(ends.chat)
    return (
        f"the chat template ends a turn with {token}, which neither the tokenizer nor generation_config.json names as"
        " an end: a base model may never write it, and run on. For a base model set prompt.chat=false; if the model"
        f" does end with it, set sample.stop_token_ids=[{ends.chat}]"
    )


def sources_of(config: Config, base: Model) -> list[Source]:
    """Return who samples the train prompts; the attempts of each begin where those of the one before end."""
    from star_rft import models

    section, found = config.sample, []
    for index, name in enumerate(section.models):
        resolved = None
        if name != POLICY:
            into = RunFolder(config.folder).base_model / str(index)
            resolved = models.resolve(name, into=into, trust_remote_code=config.model.trust_remote_code)
        systems: Sequence[str | None] = section.system or [None]
        asked = [prompts_of(config, resolved or base, system=system) for system in systems]
        found.append(
            Source(
                tokenizer=asked[0].tokenizer,
                attempts=range(index * section.n, (index + 1) * section.n),
                decodings=train_decodings(config),
                renders=tuple(prompts.render for prompts in asked),
                encode=asked[0].prompt_ids,
                name=name,
                model=resolved,
            )
        )
    return found


def policy_attempts(config: Config) -> range:
    """Return the attempts that the policy itself draws; none where only other models sample."""
    section = config.sample
    if POLICY not in section.models:
        return range(0)
    index = section.models.index(POLICY)
    return range(index * section.n, (index + 1) * section.n)


def hint_source(config: Config, base: Model) -> Source | None:
    section = config.rationalize
    if section is None:
        return None
    prompts = prompts_of(config, base)
    template = section.template
    if template is None:
        template = config.prompt.template if section.mark else config.prompt.template.replace(QUESTION, HINTED_QUESTION)
    temperatures = config.sample.temperatures if section.temperature is None else [section.temperature]
    decoding = _decoding(config, config.sample, temperature=temperatures[0], top_p=config.sample.top_ps[0])
    return Source(
        tokenizer=prompts.tokenizer,
        attempts=range(section.n),
        decodings=(decoding,),
        renders=(Hint(template, section.mark).renderer(prompts),),
        encode=prompts.prompt_ids,
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
    """Return what the attempts take in turn: each list goes on at its own pace."""
    section = config.sample
    temperatures, top_ps = section.temperatures, section.top_ps
    return tuple(
        _decoding(config, section, temperature=temperatures[i % len(temperatures)], top_p=top_ps[i % len(top_ps)])
        for i in range(math.lcm(len(temperatures), len(top_ps)))
    )


def held_out_of(config: Config) -> HeldOut:
    return HeldOut(
        ks=config.eval.k,
        n=config.eval.n,
        sampled=_decoding(config, config.eval, temperature=config.eval.temperature, top_p=config.eval.top_p),
        greedy=_decoding(config, config.eval, temperature=0.0, top_p=1.0) if config.eval.has_greedy else None,
        every=config.eval.every,
        group_by=config.eval.group_by,
    )
