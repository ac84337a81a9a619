"""Builds the objects of a run from its config."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import verifiers
from star_rft import config as configs
from star_rft.build.models import base_model_of, spec_of
from star_rft.build.problems import Rows, settled_problems, verifier_of
from star_rft.build.sampling import (
    check_backend,
    held_out_sampling_of,
    hint_source,
    open_cluster,
    open_pool,
    open_sampler,
    policy_sample_indices,
    prompter_of,
    sources_of,
    undeclared_end,
)
from star_rft.build.training import objective_of, round_training_of, warm_start_of
from star_rft.config import Config
from star_rft.data import Prompter
from star_rft.errors import RunError, located
from star_rft.evaluation.gate import Gate
from star_rft.exports.card_data import CardConfig
from star_rft.exports.cards import write_model_card
from star_rft.files import locked, write_text
from star_rft.frontier.budget import Adaptive, Budget, FixedK, Prop2Diff, Uniform
from star_rft.ledger import Ledger
from star_rft.loop import Stages
from star_rft.progress import Progress, Silent
from star_rft.recipes import recipe_files
from star_rft.runs.environment import machine, versions
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report
from star_rft.runs.timing import Timeline, Timing
from star_rft.sampling.context import Engine, RunContext
from star_rft.sampling.policy import Source
from star_rft.sampling.rollout import Rollout, check_prompts
from star_rft.sampling.scheduler import Scheduler
from star_rft.sampling.temperature_search import TemperatureSearch
from star_rft.scorers.registry import ScorerContext, ScorerSettings, check_scorer, open_scorer
from star_rft.selection.registry import bound
from star_rft.selection.select import SelectionSpec, dedup_key
from star_rft.stages.evaluation import EvaluationStage
from star_rft.stages.metrics import RoundMetrics
from star_rft.stages.sampling import SamplingStage
from star_rft.stages.selection import SelectionStage
from star_rft.stages.trackers import Trackers, open_trackers
from star_rft.stages.trackers import check as check_trackers
from star_rft.stages.training import TrainingStage
from star_rft.training.dataset import Mixture, SampleOrigin
from star_rft.training.distributed.launch import config_file
from star_rft.types import Model, Problem, Scorer, Split


def settle(source: str | Path | Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """Return the config of a file, a mapping, a recipe's name or a run folder, with overrides applied.

    Raises:
        UserError: A key or a value that is not valid, or a folder that is not a run folder.
    """
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
def open_run(config: Config, *, rows: Rows | None = None, progress: Progress | None = None) -> Iterator[Stages]:
    """Lock the run folder of a config and yield the stages of its rounds; what they opened is closed at the end.

    Args:
        config: The config of a new run, or of one that is resumed.
        rows: Data sets in memory, by split, in place of the config's sources.
        progress: Told of the work; None: no progress.

    Yields:
        The stages, for `star_rft.loop`.

    Raises:
        UserError: The config names something that does not exist or does not fit the model or the data.
        RunError: Another process works on the run, or it was begun with settings whose samples would not mix.
    """
    folder = RunFolder(config.folder)
    check_names(config)
    with locked(folder.path):
        config = _dated(folder, config)
        _refuse_changes(folder, config)
        problems, warm_start = settled_problems(folder, config, rows or {})
        config = config.model_copy(update={"versions": versions(), "machine": machine()})
        write_text(folder.config, configs.dump(config))
        with open_pool(config) as pool:
            stages = _stages(folder, config, problems, warm_start, pool, progress or Silent())
            prompter, tracking = stages.training.prompter, stages.training.tracking
            try:
                if warning := undeclared_end(prompter, config.sample.stop_token_ids):
                    stages.context.progress.say(warning)
                for decoding in (stages.sampling.sources[0].decodings[0], stages.evaluation.sampling.sampled):
                    prompter.stops(decoding)  # raises UserError for an end that the tokenizer cannot have
                check_prompts(stages.context.ledger, problems, prompter.render)
                for number in folder.finished_rounds():  # of which a tracker may be new
                    tracking.round(read_report(folder.metrics(number)))
                yield stages
                tracking.close()
            finally:
                tracking.close(is_broken_off=True)
                stages.context.engine.release()


def check_names(config: Config) -> None:
    """Raise UserError or VerifierError for a plug-in or an option that does not exist, before anything is loaded."""
    with located(config.origin):
        _check_names(config)


def _check_names(config: Config) -> None:
    check_backend(config)
    verifier_of(config)
    if config.verifier.second is not None:
        with located("verifier.second"):
            verifiers.get(config.verifier.second.name).bound(config.verifier.second.options)
    bound(config.select.rules)
    if config.scorer is not None:
        check_scorer(config.scorer.name, config.scorer.options, model=config.scorer.model)
    if config.preference is not None:
        objective_of(config)
    check_trackers(config.report_to)
    if config.launch.config is not None:
        config_file(config.launch.config)


def card_config(config: Config, *, is_chat: bool) -> CardConfig:
    """Return what model and data cards show of a config: all of it, and the part that is not default, to repeat it."""
    about_this_run = {"about", "run_dir", "versions", "machine"}
    full = config.model_dump(mode="json", by_alias=True)
    short = config.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=about_this_run)
    return CardConfig.of(full, short, is_chat=is_chat)


def today() -> str:
    """Return today's date as YYYY-MM-DD; tests replace it."""
    return datetime.date.today().isoformat()


def _dated(folder: RunFolder, config: Config) -> Config:
    """Return the config with the date for its chat template, by default the day on which the run began."""
    is_begun = folder.config.exists() and folder.problems.exists()
    begun = configs.load(folder.config).prompt.date if is_begun else datetime.date.fromisoformat(today())
    day = config.prompt.date or begun
    return config.model_copy(update={"prompt": config.prompt.model_copy(update={"date": day})})


def _refuse_changes(folder: RunFolder, config: Config) -> None:
    """Raise RunError if a run was begun with another config; it counts as begun once its problems are written."""
    if folder.config.exists() and folder.problems.exists():
        changed = configs.changes(configs.load(folder.config), config)
        if changed:
            raise RunError(
                f"{folder.path}: was begun with other settings, and its samples would not mix: "
                + "; ".join(changed)
                + ". Use another name or run_dir, or undo the change"
            )


@contextmanager
def _second(config: Config) -> Iterator[verifiers.Pool | None]:
    """Open the second verifier of the config, which judges selected traces again; None where there is none."""
    section = config.verifier
    if section.second is None:
        yield None
        return
    second = section.second
    with verifiers.Pool(second.name, workers=section.workers, timeout=section.timeout, **second.options) as pool:
        yield pool


def _gate(config: Config) -> Gate | None:
    section = config.gate
    if section is None:
        return None
    return Gate(
        patience=section.patience,
        k=max(config.eval.k),
        rolls_back=section.roll_back,
        tolerance=section.tolerance,
        saturation=section.saturation,
        diversity=section.diversity,
        kl=section.kl,
    )


def has_quarantine(config: Config) -> bool:
    """Whether suspected label errors are left out of training: never where a scorer decides."""
    return config.select.label_errors == "quarantine" and not (config.scorer is not None and config.scorer.decides)


def _stages(
    folder: RunFolder,
    config: Config,
    problems: Mapping[Split, list[Problem]],
    warm_start: list[Problem],
    pool: verifiers.Pool,
    progress: Progress,
) -> Stages:
    from star_rft import models

    base = base_model_of(config, folder)
    prompter, sources = prompter_of(config, base), sources_of(config, base)
    engine = Engine(partial(open_sampler, config), lru_cache(maxsize=None)(models.fingerprint))
    context = _context(config, folder, problems, engine, progress)
    rollout = Rollout(context, pool, config.sample.unit, open_cluster(config))
    tracking = _tracking(folder, config)
    return Stages(
        context=context,
        sampling=SamplingStage(
            rollout=rollout,
            scheduler=_scheduler(config, rollout),
            sources=sources,
            hint=hint_source(config, base),
            problems_per_round=config.sample.problems,
            search=_temperature_search(config),
            scoring=_scoring(config, prompter, engine, sources),
        ),
        selection=SelectionStage(
            context=context,
            spec=_selection_spec(config),
            own=policy_sample_indices(config),
            second=partial(_second, config),
        ),
        training=TrainingStage(
            context=context,
            base=spec_of(config, base),
            prompter=prompter,
            sources=sources,
            round_training=round_training_of(config),
            warm_start=warm_start_of(config, warm_start),
            mixture=mixture_of(config),
            tracking=tracking,
        ),
        evaluation=EvaluationStage(
            rollout=rollout,
            prompter=prompter,
            sampling=held_out_sampling_of(config),
            rounds=config.rounds,
            has_scores=config.scorer is not None,
            metrics=_metrics(config, context, base=base, prompter=prompter, warm_start=warm_start),
            tracking=tracking,
            write_card=partial(write_model_card, folder, card_config(config, is_chat=prompter.is_chat)),
        ),
    )


def _context(
    config: Config, folder: RunFolder, problems: Mapping[Split, list[Problem]], engine: Engine, progress: Progress
) -> RunContext:
    return RunContext(
        folder=folder,
        ledger=Ledger(folder.path, is_writer=True),
        problems=problems,
        engine=engine,
        progress=progress,
        timing=Timing(Timeline(folder.timeline).note),
        seed=config.seed,
        has_quarantine=has_quarantine(config),
    )


def _tracking(folder: RunFolder, config: Config) -> Trackers:
    settings = config.model_dump(mode="json", by_alias=True, exclude={"about", "report_to"})
    return open_trackers(config.report_to, folder=folder.tracking, run=config.name, settings=settings)


def _selection_spec(config: Config) -> SelectionSpec:
    return SelectionSpec(
        rules=tuple(config.select.rules),
        rounds=config.select.rounds,
        weighting=config.train.weighting if config.train else "uniform",
        seed=config.seed,
        scorer_decides=config.scorer is not None and config.scorer.decides,
        has_quarantine=has_quarantine(config),
    )


def mixture_of(config: Config) -> Mixture:
    """Return what is mixed into the selected traces: reference solutions and problems of the warm start."""
    return Mixture(config.select.reference_solutions, config.train.mix if config.train else 0.0)


def _metrics(
    config: Config, context: RunContext, *, base: Model, prompter: Prompter, warm_start: list[Problem]
) -> RoundMetrics:
    return RoundMetrics(
        context=context,
        start=spec_of(config, base if config.warm_start is None else context.folder.warm_start),
        prompter=prompter,
        sampling=held_out_sampling_of(config),
        gate=_gate(config),
        kl_traces=config.eval.kl_traces,
        mixture=mixture_of(config),
        anchor=warm_start,
    )


def _scheduler(config: Config, rollout: Rollout) -> Scheduler:
    section, most = config.budget, config.sample.n
    probe = min(section.probe, most)
    budgets: dict[str, Budget] = {
        "fixed": FixedK(most),
        "uniform": Uniform(target=section.target, most=most, probe=probe),
        "prop2diff": Prop2Diff(target=section.target, most=most, probe=probe),
        "adaptive": Adaptive(target=section.target, most=most, probe=probe),
    }
    return Scheduler(
        rollout=rollout,
        budget=budgets[section.plan],
        tokens=section.tokens,
        key=dedup_key(config.select.rules),
        rounds=config.select.rounds,
        escalates=section.plan == "adaptive",
    )


def _temperature_search(config: Config) -> TemperatureSearch | None:
    section = config.temperature_search
    if section is None:
        return None
    return TemperatureSearch(
        tuple(section.temperatures), tuple(section.thresholds), section.problems, section.n, section.target
    )


def _scoring(
    config: Config,
    prompter: Prompter,
    engine: Engine,
    sources: Sequence[Source],
) -> ScorerSettings | None:
    section = config.scorer
    if section is None:
        return None

    def make(policy: Model) -> Scorer:
        foreign = [engine.fingerprint(source.model) for source in sources if source.model is not None]
        context = ScorerContext(
            model=spec_of(config, policy),
            sampler=engine.sampler,
            fingerprint=engine.fingerprint,
            prompter=prompter,
            origin=SampleOrigin(stops=prompter.stops(sources[0].decodings[0]), foreign=foreign),
            into=RunFolder(config.folder).base_model / "scorer",
            seed=config.seed,
        )
        return open_scorer(section.name, model=section.model, options=section.options, context=context)

    return ScorerSettings(
        section.name, make, section.threshold, section.decides, frees_policy=section.model is not None
    )
