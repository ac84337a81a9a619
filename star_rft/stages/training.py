"""Training stage: the warm start, and each round's training on what was selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from star_rft.data import Prompter
from star_rft.models.spec import ModelSpec
from star_rft.progress import OnStep
from star_rft.runs.folder import float32_of
from star_rft.runs.reports import read_report, round_to_use
from star_rft.sampling.context import RunContext
from star_rft.sampling.policy import Source
from star_rft.stages.trackers import Trackers
from star_rft.training.dataset import CorpusSpec, Mixture, SampleOrigin, corpus, preferences, reference_examples
from star_rft.training.options import TrainingOptions
from star_rft.training.schedule import Fit, Places, RoundTraining, TrainingJob
from star_rft.types import Example, Model, Preference, Problem, RoundReport


@dataclass(frozen=True, slots=True)
class WarmStart:
    """A supervised training on solved problems, before the first round."""

    fit: Fit
    options: TrainingOptions
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """How a run trains. `sources` drew the samples that it trains on; `mixture` says what is added to them.

    `base` is the model that the run starts from, and says how all others are loaded.
    """

    context: RunContext
    base: ModelSpec
    prompter: Prompter
    sources: Sequence[Source]
    round_training: RoundTraining
    warm_start: WarmStart | None
    mixture: Mixture
    tracking: Trackers

    def start(self) -> Model:
        """Return the model that the loop starts from: the base, or the base after its warm start."""
        if self.warm_start is None:
            return self.base.path
        out = self.context.folder.warm_start
        if not out.exists():
            examples = reference_examples(self.warm_start.problems, prompter=self.prompter)
            options = replace(self.warm_start.options, float32_dir=float32_of(out))
            self._fit(0, TrainingJob(self.warm_start.fit, "warm start", examples, options, self.base.path, out))
        return out

    def model_of(self, round_index: int) -> Model:
        """Return the model that a round made, of round 0 the one that the loop starts from."""
        return self.start() if round_index == 0 else self.context.folder.checkpoint(round_index)

    def policy_after(self, report: RoundReport) -> Model:
        """Return the model that the next round samples with."""
        return self.model_of(round_to_use(report))

    def policy_before(self, round_index: int) -> Model:
        """Return the model that a round samples with; the rounds before it are finished."""
        last = self.context.folder.metrics(round_index - 1)
        return self.policy_after(read_report(last)) if round_index > 0 and last.exists() else self.start()

    def train(self, round_index: int, policy: Model) -> Model:
        """Train a round's model, unless its checkpoint is there, and return its folder."""
        context, folder = self.context, self.context.folder
        out, between = folder.checkpoint(round_index), folder.supervised(round_index)
        if not out.exists():
            context.engine.release()
            with context.timing.timed(round_index, "train"):
                for job in self.round_training.jobs(
                    round_index,
                    starts={"base": self.base.path, "warm_start": folder.warm_start, "last": policy},
                    places=Places(folder.path, out, between, folder.verifier(round_index), has_next=True),
                    examples=lambda: self.examples(round_index),
                    preferences=lambda: self.preferences(round_index),
                ):
                    self._fit(round_index, job)
        folder.remove_float32(round_index)
        return out

    def examples(self, round_index: int) -> list[Example]:
        """Return the examples of a round's supervised training, in a fixed order."""
        return corpus(self.context.ledger.connect(), self.corpus_spec(round_index), round_index=round_index)

    def preferences(self, round_index: int) -> list[Preference]:
        """Return the preferences of a round's preference training, in a fixed order."""
        return preferences(self.context.ledger.connect(), self.corpus_spec(round_index), round_index=round_index)

    def corpus_spec(self, round_index: int) -> CorpusSpec:
        """Return what a round's training set is built from."""
        return CorpusSpec(
            problems={problem.id: problem for problem in self.context.train_problems},
            prompter=self.prompter,
            origin=self.origin(),
            seed=self.context.seed,
            mixture=self.mixture,
            anchor=() if self.warm_start is None else self.warm_start.problems,
            quarantined=self.context.quarantined(round_index),
        )

    def origin(self) -> SampleOrigin:
        """Return how train samples were drawn: ends, foreign models, and whether all prompts are those of training."""
        renders = [render for source in self.sources if source.model is None for render in source.renders]
        own, fingerprint = self.prompter.render, self.context.engine.fingerprint
        return SampleOrigin(
            stops=self.prompter.stops(self.sources[0].decodings[0]),
            foreign=[fingerprint(source.model) for source in self.sources if source.model is not None],
            is_one_prompt=all(render(p) == own(p) for p in self.context.train_problems[:1] for render in renders),
        )

    def _fit(self, round_index: int, job: TrainingJob) -> None:
        context, out = self.context, job.out
        context.engine.release()
        with context.progress.training(job.title, round_index=round_index or None) as on_step:
            work = context.folder.work / f"{out.parent.name}-{out.name}"
            on_step = self.tracking.training(job.title, round_index, on_step)
            self.run_job(job, seed=context.seed + round_index, work_dir=work, on_step=on_step)

    def run_job(self, job: TrainingJob, *, seed: int, work_dir: Path, on_step: OnStep) -> None:
        """Do a training of this run's kind, for a round or for one of its controls."""
        # The tokens that end its completions: an engine that reads the checkpoint's files alone stops there, too.
        ends = sorted(self.prompter.stops(self.sources[0].decodings[0]).ids)
        job = replace(job, options=replace(job.options, end_ids=ends))
        job.run(model=self.base, seed=seed, work_dir=work_dir, on_step=on_step, say=self.context.progress.say)
