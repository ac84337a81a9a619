"""From a config to the objects of a run: the only place that knows both."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import verifiers
from star_rft import config as configs
from star_rft.balance import Probe
from star_rft.config import Config, DecodingConfig, FitConfig, SampleConfig
from star_rft.data import Prompter
from star_rft.data.prompts import QUESTION
from star_rft.drawing import Drawing, Engine
from star_rft.files import RunError, locked, write_text
from star_rft.folder import RunFolder
from star_rft.frontier.budget import Adaptive, Budget, FixedK, Prop2Diff, Uniform
from star_rft.frontier.plan import POLICY
from star_rft.ledger import Ledger
from star_rft.problem_sets import Rows, check_verifier, settled_problems
from star_rft.progress import Progress, Silent
from star_rft.rationalize import Hint
from star_rft.recipes import recipe_files
from star_rft.scoring import Scoring, Surroundings, check_options, open_scorer
from star_rft.select.rules import check as check_rules
from star_rft.select.rules import dedup_key
from star_rft.sources import Source
from star_rft.stages import HeldOut, RunStages
from star_rft.training.round import Comparing, Fit, RoundTraining, Supervised
from star_rft.types import Decoding, Model, Problem, Sampler, Scorer, Split
from star_rft.waves import Waves

HINTED_QUESTION = "{question} ({answer})"
RECORDED = (
    "star-rft",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "math-verify",
    "sympy",
    "duckdb",
)


def settle(source: str | Path | Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """Read a config file, a mapping, or the config of a run folder."""
    if not isinstance(source, Mapping) and Path(source).is_dir():
        folder = RunFolder(Path(source))
        if not folder.config.exists():
            raise RunError(f"{source}: is not a run folder: it has no config.yaml")
        settled = configs.load(folder.config, overrides)
        return settled.model_copy(update={"run_dir": str(source)})
    if isinstance(source, str) and not Path(source).exists():
        source = next((path for path in recipe_files() if path.stem == source), Path(source))
    return configs.load(source, overrides)


@contextmanager
def open_run(config: Config, *, rows: Rows | None = None, progress: Progress | None = None) -> Iterator[RunStages]:
    """Hold the run folder and yield its stages; everything that they opened is closed in the end.

    `rows` are data sets given in memory, by split; they take the place of the config's sources.
    """
    folder = RunFolder(config.folder)
    check_names(config)
    with locked(folder.path):
        _refuse_changes(folder, config)
        problems, warm_start = settled_problems(folder, config, rows or {})
        write_text(folder.config, configs.dump(config.model_copy(update={"versions": versions()})))
        with _pool(config) as pool:
            stages = _stages(folder, config, problems, warm_start, pool, progress or Silent())
            try:
                yield stages
            finally:
                stages.drawing.engine.release()


def check_names(config: Config) -> None:
    """Fail at load for a verifier, a rule or an option that does not exist."""
    check_verifier(config)
    check_rules(config.select.rules)
    if config.scorer is not None:
        check_options(config.scorer.name, config.scorer.options)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _refuse_changes(folder: RunFolder, config: Config) -> None:
    """Hold the config that a run was begun with against this one; before the data is there, nothing is begun."""
    if folder.config.exists() and folder.problems.exists():
        changed = configs.changes(configs.load(folder.config), config)
        if changed:
            raise RunError(
                f"{folder.path}: was begun with other settings, and its samples would not mix: "
                + "; ".join(changed)
                + ". Use another name or run_dir, or undo the change"
            )


def _decoding(section: DecodingConfig, *, temperature: float, top_p: float, backend: str = "hf") -> Decoding:
    is_greedy = temperature == 0
    return Decoding(
        temperature=temperature,
        max_tokens=section.max_tokens,
        top_p=1.0 if is_greedy else top_p,
        top_k=0 if is_greedy else section.top_k,
        stop=tuple(section.stop),
        backend=backend,
        backend_version=version("transformers"),
    )


def _cycled_decodings(section: SampleConfig) -> tuple[Decoding, ...]:
    """Return what the attempts take in turn: each list goes on at its own pace."""
    temperatures, top_ps = section.temperatures, section.top_ps
    return tuple(
        _decoding(
            section,
            temperature=temperatures[i % len(temperatures)],
            top_p=top_ps[i % len(top_ps)],
            backend=section.backend,
        )
        for i in range(math.lcm(len(temperatures), len(top_ps)))
    )


def held_out_of(config: Config) -> HeldOut:
    return HeldOut(
        ks=config.eval.k,
        n=config.eval.n,
        sampled=_decoding(config.eval, temperature=config.eval.temperature, top_p=config.eval.top_p),
        greedy=_decoding(config.eval, temperature=0.0, top_p=1.0) if config.eval.has_greedy else None,
        every=config.eval.every,
        group_by=config.eval.group_by,
    )


def _pool(config: Config) -> verifiers.Pool:
    section = config.verifier
    return verifiers.Pool(section.name, workers=section.workers, timeout=section.timeout, **section.options)


def _stages(
    folder: RunFolder,
    config: Config,
    problems: Mapping[Split, list[Problem]],
    warm_start: list[Problem],
    pool: verifiers.Pool,
    progress: Progress,
) -> RunStages:
    from star_rft import models

    base = models.resolve(
        config.model.name,
        gguf_file=config.model.gguf_file,
        into=folder.base_model,
        trust_remote_code=config.model.trust_remote_code,
    )
    if config.model.from_scratch:
        trust = config.model.trust_remote_code
        base = models.initialise(base, into=folder.scratch_model, seed=config.seed, trust_remote_code=trust)
    prompts, engine = _prompts(config, base), Engine(partial(_sampler, config))
    fingerprint = lru_cache(maxsize=None)(models.fingerprint)
    drawing = Drawing(
        ledger=Ledger(folder.path, is_writer=True),
        problems=problems,
        engine=engine,
        pool=pool,
        progress=progress,
        fingerprint=fingerprint,
        seed=config.seed,
        unit_size=config.sample.unit,
    )
    return RunStages(
        folder=folder,
        drawing=drawing,
        waves=_waves(config, folder, drawing),
        rounds=config.rounds,
        base=base,
        prompts=prompts,
        sources=_sources(config, base),
        hint=_hint_source(config, base),
        prompts_a_round=config.sample.prompts,
        probe=_probe(config),
        scoring=_scoring(config, prompts, engine, fingerprint),
        held_out=held_out_of(config),
        select_with={
            "rounds": config.select.rounds,
            "rules": config.select.rules,
            "weighting": config.train.weighting if config.train else "uniform",
            "seed": config.seed,
        },
        corpus_with={"gold": config.select.gold, "mix": config.train.mix if config.train else 0.0},
        training=RoundTraining(_supervised(config), _comparing(config)),
        warm_up=_fit(config, config.warm_start) if config.warm_start else None,
        warm_start_data=warm_start,
    )


def _waves(config: Config, folder: RunFolder, drawing: Drawing) -> Waves:
    section, most = config.budget, config.sample.n
    probe = min(section.probe, most)
    budgets: dict[str, Budget] = {
        "fixed": FixedK(most),
        "uniform": Uniform(section.target, most, probe),
        "prop2diff": Prop2Diff(section.target, most, probe),
        "adaptive": Adaptive(section.target, most, probe),
    }
    return Waves(
        folder=folder,
        drawing=drawing,
        budget=budgets[section.plan],
        tokens=section.tokens,
        key=dedup_key(config.select.rules),
        rounds=config.select.rounds,
        escalates=section.plan == "adaptive",
        holds_out_suspects=True,
    )


def _sampler(config: Config, model: Model) -> Sampler:
    from star_rft.samplers.hf import HFSampler

    return HFSampler(
        model,
        dtype=config.model.dtype,
        device=config.model.device,
        batch_size=config.sample.batch_size,
        trust_remote_code=config.model.trust_remote_code,
    )


def _prompts(config: Config, base: Model, *, system: str | None = None) -> Prompter:
    from star_rft import models

    section = config.prompt
    return Prompter(
        models.load_tokenizer(base, trust_remote_code=config.model.trust_remote_code),
        template=section.template,
        chat=section.chat,
        system=section.system if system is None else system,
        few_shot=section.few_shot,
        completion_prefix=section.completion_prefix,
    )


def _sources(config: Config, base: Model) -> list[Source]:
    """Return who samples the train prompts; the attempts of each begin where those of the one before end."""
    from star_rft import models

    section, found = config.sample, []
    for index, name in enumerate(section.models):
        resolved = None
        if name != POLICY:
            into = RunFolder(config.folder).base_model / str(index)
            resolved = models.resolve(name, into=into, trust_remote_code=config.model.trust_remote_code)
        systems: Sequence[str | None] = section.system or [None]
        asked = [_prompts(config, resolved or base, system=system) for system in systems]
        found.append(
            Source(
                tokenizer=asked[0].tokenizer,
                attempts=range(index * section.n, (index + 1) * section.n),
                decodings=_cycled_decodings(section),
                renders=tuple(prompts.render for prompts in asked),
                name=name,
                model=resolved,
            )
        )
    return found


def _hint_source(config: Config, base: Model) -> Source | None:
    section = config.rationalize
    if section is None:
        return None
    prompts = _prompts(config, base)
    template = section.template
    if template is None:
        template = config.prompt.template if section.mark else config.prompt.template.replace(QUESTION, HINTED_QUESTION)
    temperatures = config.sample.temperatures if section.temperature is None else [section.temperature]
    decoding = _decoding(config.sample, temperature=temperatures[0], top_p=config.sample.top_ps[0])
    return Source(
        tokenizer=prompts.tokenizer,
        attempts=range(section.n),
        decodings=(decoding,),
        renders=(Hint(template, section.mark).renderer(prompts),),
        name=f"{POLICY} with hints",
        is_hinted=True,
    )


def _probe(config: Config) -> Probe | None:
    section = config.balance
    if section is None:
        return None
    return Probe(tuple(section.temperatures), tuple(section.thresholds), section.problems, section.n, section.target)


def _scoring(config: Config, prompts: Prompter, engine: Engine, fingerprint: Callable[[Model], str]) -> Scoring | None:
    section = config.scorer
    if section is None:
        return None

    def make(policy: Model) -> Scorer:
        around = Surroundings(
            policy=policy,
            sampler=engine.sampler,
            fingerprint=fingerprint,
            render=prompts.render,
            into=RunFolder(config.folder).base_model / "scorer",
            seed=config.seed,
            trust_remote_code=config.model.trust_remote_code,
        )
        return open_scorer(section.name, model=section.model, options=section.options, around=around)

    return Scoring(section.name, make, section.threshold, section.decides, frees_policy=section.model is not None)


def _supervised(config: Config) -> Supervised | None:
    section = config.train
    if section is None:
        return None
    return Supervised(
        fit=_fit(config, section),
        start=section.start,
        max_steps=section.max_steps,
        step_growth=section.step_growth,
        continues_optimizer=section.optimizer == "continue",
    )


def _comparing(config: Config) -> Comparing | None:
    section = config.preference
    if section is None:
        return None
    from star_rft.training import fit_rankings

    fit = partial(
        fit_rankings,
        objective=section.objective,
        beta=section.beta,
        sft_weight=section.sft_weight,
        **_fit_options(config, section),
    )
    return Comparing(fit, section.start, makes_verifier=section.makes == "verifier")


def _fit(config: Config, section: FitConfig) -> Fit:
    from star_rft.training import fit

    return partial(fit, **_fit_options(config, section))


def _fit_options(config: Config, section: FitConfig) -> dict[str, Any]:
    from star_rft.training import LoraSpec

    lora = None
    if section.lora is not None:
        targets = section.lora.target_modules
        lora = LoraSpec(
            r=section.lora.r,
            alpha=section.lora.alpha,
            dropout=section.lora.dropout,
            target_modules=targets if isinstance(targets, str) else tuple(targets),
        )
    shared = {name: getattr(section, name) for name in FitConfig.model_fields if name != "lora"}
    where = {"device": config.model.device, "trust_remote_code": config.model.trust_remote_code}
    return {**shared, **where, "lora": lora}
