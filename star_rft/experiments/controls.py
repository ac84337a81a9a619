"""Matched controls of a round: the same start, steps and evaluation, on other training data.

Each control starts from the model that the round started from, takes the steps that the round took, and is evaluated on
the very requests of the round; only what it trains on differs. Nothing of the run changes: a control has a folder of
its own, laid out like a run's, and is finished with its metrics.json.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from star_rft.errors import RunError, UserError
from star_rft.evaluation import evaluate
from star_rft.files import read_json, whole, write_json, write_table
from star_rft.ledger import Ledger
from star_rft.loop import sample_round
from star_rft.runs.folder import BEFORE_ROUNDS, RunFolder
from star_rft.runs.reports import read_report, round_to_use
from star_rft.runs.timing import Timeline, Timing
from star_rft.selection.select import SelectionSpec, select
from star_rft.training.dataset import corpus, reference_examples
from star_rft.training.options import FitReport
from star_rft.training.schedule import Places
from star_rft.types import Example, Model, Split

if TYPE_CHECKING:
    import duckdb

    from star_rft.loop import Stages

NAMES = ("random", "no_dedup", "reference_solutions", "at_once")  # what each says: `compare.MEANINGS`
DRAWN_FROM = {"random": "finished", "no_dedup": "correct"}  # the option `of` of the rule `control`
METRICS = "metrics.json"


@dataclass(frozen=True, slots=True)
class AtOnce:
    """A run of one round that draws what `rounds` rounds drew and trains for `steps`."""

    folder: Path
    seed: int
    rounds: int
    steps: int


OpenAtOnce = Callable[[AtOnce], AbstractContextManager["Stages"]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model took. `samples` and their `tokens` were drawn for it alone; a step sees a batch of its examples.

    `started_from` is the round whose evaluation is that of the model it started from (see `Lineage`), and
    `trained_tokens` are problems and completions over all steps.
    """

    name: str
    round: int
    seed: int
    model: str
    started_from: int | None
    samples: int
    tokens: int
    examples: int
    steps: int
    trained_tokens: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which round's model each round's training started from; `start` is `train.from`."""

    folder: RunFolder
    start: str
    warms_up: bool

    def before(self, round_index: int) -> int | None:
        """Return the round whose evaluation is that of the model it started from; None: that was never evaluated."""
        if self.start == "last":
            earlier = read_report(self.folder.metrics(round_index - 1))
            return round_to_use(earlier)
        return self.first

    @property
    def first(self) -> int | None:
        """Return the same for the first round."""
        return None if self.start == "base" and self.warms_up else 0

    def rounds(self, round_index: int) -> list[int]:
        """Return the rounds whose training led from the loop's first model to this one's, newest first."""
        found = [round_index]
        while before := self.before(found[-1]):
            found.append(before)
        return found


# Which round, which controls


def chosen_round(folder: RunFolder, number: int | None) -> int:
    """Return the round to compare with: the last finished one unless given. Raises RunError."""
    finished = [round_index for round_index in folder.finished_rounds() if round_index > 0]
    if not finished:
        raise RunError(f"{folder.path}: no round has trained and finished yet: star-rft run {folder.path} first")
    if number is None:
        return finished[-1]
    if number not in finished:
        listed = ", ".join(map(str, finished))
        raise RunError(f"{folder.path}: has no finished round {number} that trained; finished are {listed}")
    if not folder.eval(number).exists():
        raise RunError(f"{folder.path}: round {number} was not evaluated (eval.every), so nothing compares with it")
    return number


def impossible(folder: RunFolder, round_index: int, *, is_greedy: bool) -> dict[str, str]:
    """Return the controls that make no sense for a round, with the reason."""
    found = {}
    query = "select count(*) from problems where split = 'train' and solution is not null"
    ((with_solution,),) = Ledger(folder.path).connect().sql(query).fetchall()
    if not with_solution:
        found["reference_solutions"] = "no train problem has a reference solution"
    if round_index == 1:
        found["at_once"] = "round 1 is one round with all samples at once"
    elif is_greedy:
        found["at_once"] = "temperature 0 draws the same completion again"
    return found


def chosen_names(only: str | None, without: Mapping[str, str]) -> list[str]:
    """Return the controls that were asked for, or all that make sense. Raises UserError."""
    if only is None:
        return [name for name in NAMES if name not in without]
    names = list(dict.fromkeys(name.strip() for name in only.split(",")))
    for name in names:
        if name not in NAMES:
            raise UserError(f"--only: there is no control {name!r}; valid are {', '.join(NAMES)}")
        if name in without:
            raise UserError(f"--only {name}: cannot be made for this round: {without[name]}")
    return names


def is_done(folder: RunFolder, *, round_index: int, names: Sequence[str], seeds: Sequence[int]) -> bool:
    return all((folder.control(name, round_index, seed) / METRICS).exists() for name in names for seed in seeds)


# Training and evaluating them


def make(stages: Stages, *, round_index: int, names: Sequence[str], seeds: Sequence[int], at_once: OpenAtOnce) -> None:
    """Train and evaluate what is missing; the caller holds the run. Raises RunError where there is no such training."""
    if stages.training.round_training.supervised is None:
        raise RunError(
            f"{stages.context.folder.path}: trains by preference only (train: null), and the controls exchange the"
            " examples of supervised training: they need a run that has it"
        )
    for seed in seeds:
        for name in names:
            home = RunFolder(stages.context.folder.control(name, round_index, seed))
            if (home.path / METRICS).exists():
                continue
            stages.context.progress.say(f"round {round_index}, control {name}, seed {seed}")
            _share(stages.context.folder, home)
            if name == "at_once":
                cost = _train_at_once(stages, home, round_index=round_index, seed=seed, open_run=at_once)
                model: Model = home.checkpoint(1)
            else:
                cost = _train(stages, home, name=name, round_index=round_index, seed=seed)
                model = home.checkpoint(round_index)
            _evaluate(stages, home, round_index, model)
            split, rows = held_out_rows(home, round_index)
            held_out = evaluate.held_out_scores(rows, split=split, ks=stages.evaluation.sampling.ks)
            write_json(home.path / METRICS, {**asdict(cost), "held_out": asdict(held_out)})


def held_out_rows(folder: RunFolder, round_index: int) -> tuple[Split, list[dict[str, Any]]]:
    """Return the rows of an evaluation that decide: those of dev, or of test where there is no dev."""
    dev = evaluate.read(folder.eval(round_index), "dev")
    return ("dev", dev) if dev else ("test", evaluate.read(folder.eval(round_index), "test"))


def _share(folder: RunFolder, home: RunFolder) -> None:
    """Have what a control reads from its run lie there under the same name, as a link."""
    home.path.mkdir(parents=True, exist_ok=True)
    for name in BEFORE_ROUNDS:
        link = home.path / name
        if (folder.path / name).exists() and not link.is_symlink():
            link.symlink_to(os.path.relpath(folder.path / name, home.path))


def _train(stages: Stages, home: RunFolder, *, name: str, round_index: int, seed: int) -> Cost:
    out = home.checkpoint(round_index)
    if not out.exists():
        policy, taken = _policy_before(stages, round_index), fit_of(stages.context.folder, round_index)
        round_training = stages.training.round_training
        supervised, preference = round_training.supervised, round_training.preference
        stages.context.engine.release()
        if preference is not None and preference.makes_verifier:
            preference = None  # nothing here reads it
        for job in replace(round_training, preference=preference).jobs(
            round_index,
            starts={"base": stages.training.base.path, "warm_start": stages.context.folder.warm_start, "last": policy},
            places=Places(stages.context.folder.path, out, home.supervised(round_index), home.verifier(round_index)),
            examples=lambda: _examples(stages, home, name=name, round_index=round_index, seed=seed),
            preferences=lambda: stages.training.preferences(round_index),
        ):
            is_supervised = supervised is not None and job.fit is supervised.fit
            if is_supervised and len(job.items) != taken.examples + taken.dropped_too_long:
                # With as many examples the config's own length gives these steps.
                job = replace(job, options=replace(job.options, max_steps=taken.steps))
            with stages.context.progress.training(f"{name}: {job.title}") as on_step:
                work, model = home.work / job.out.name, stages.training.base
                job.run(model=model, seed=seed + round_index, work_dir=work, on_step=on_step)
    return _cost(stages, home, name=name, round_index=round_index, seed=seed, trained=round_index, samples=(0, 0))


def _examples(stages: Stages, home: RunFolder, *, name: str, round_index: int, seed: int) -> list[Example]:
    if name == "reference_solutions":
        left_out = stages.context.quarantined(round_index)
        with_solution = [p for p in stages.context.train_problems if p.solution is not None and p.id not in left_out]
        return reference_examples(with_solution, prompter=stages.training.prompter)
    con, path = stages.context.ledger.connect(), home.selection(round_index)
    if not path.exists():
        _select(con, path, spec=stages.selection.spec_of(round_index), name=name, round_index=round_index, seed=seed)
    con.read_parquet(str(path)).create_view("selection", replace=True)
    return corpus(con, stages.training.corpus_spec(round_index), round_index=round_index)


def _select(
    con: duckdb.DuckDBPyConnection, path: Path, *, spec: SelectionSpec, name: str, round_index: int, seed: int
) -> None:
    """Exchange what the round's rules select. A score says who is right, so random traces are not weighed by it."""
    is_blind = name == "random" and spec.weighting == "score"
    own = replace(
        spec,
        rules=(*spec.rules, {"control": DRAWN_FROM[name]}),
        weighting="uniform" if is_blind else spec.weighting,
        seed=seed,
    )
    write_table(path, select(con, own, round_index=round_index).traces.to_arrow_table())


def _train_at_once(stages: Stages, home: RunFolder, *, round_index: int, seed: int, open_run: OpenAtOnce) -> Cost:
    """Do one round of a run of its own, up to its checkpoint: that run resumes as any does."""
    steps = sum(fit_of(stages.context.folder, number).steps for number in _lineage(stages).rounds(round_index))
    stages.context.engine.release()
    with open_run(AtOnce(home.path, seed, round_index, steps)) as alone:
        policy = alone.training.start()
        if not home.checkpoint(1).exists():
            sample_round(alone, 1, policy)
            alone.selection.select(1)
            alone.training.train(1, policy)
        query = "select count(*), coalesce(sum(tokens), 0)::bigint from samples where split = 'train'"
        (samples,) = alone.context.ledger.connect().sql(query).fetchall()
    return _cost(stages, home, name="at_once", round_index=round_index, seed=seed, trained=1, samples=samples)


def _evaluate(stages: Stages, home: RunFolder, round_index: int, model: Model) -> None:
    """Ask what the round was asked, by the same plan, into the ledger of the control."""
    plan = home.eval_plan(round_index)
    if not plan.exists():
        with whole(plan) as temporary:
            copyfile(stages.context.folder.eval_plan(round_index), temporary)
    ledger, timing = Ledger(home.path, is_writer=True), Timing(Timeline(home.timeline).note)
    context = replace(stages.context, folder=home, ledger=ledger, timing=timing)
    rollout = replace(stages.evaluation.rollout, context=context)
    replace(stages.evaluation, rollout=rollout, rounds=round_index).evaluate(round_index, model)


def _policy_before(stages: Stages, round_index: int) -> Model:
    """Return the model that the loop had when this round began: not the last round's, where that was rolled back."""
    before = stages.recorded(round_index - 1)
    if before is None:
        path = stages.context.folder.path
        raise RunError(f"{path}: round {round_index - 1} has no metrics.json, so round {round_index} has no start")
    return stages.training.policy_after(before)


def fit_of(folder: RunFolder, round_index: int) -> FitReport:
    """Return what a round's supervised training took."""
    between = folder.supervised(round_index)
    made = between if between.exists() else folder.checkpoint(round_index)
    return FitReport(**read_json(made / "fit.json")["report"])


def _lineage(stages: Stages) -> Lineage:
    supervised = stages.training.round_training.supervised
    assert supervised is not None  # `make` has refused other runs
    return Lineage(stages.context.folder, supervised.start, stages.training.warm_start is not None)


def _cost(
    stages: Stages, home: RunFolder, *, name: str, round_index: int, seed: int, trained: int, samples: tuple[int, int]
) -> Cost:
    """Sum up a model that was trained as round `trained` of its folder."""
    report, lineage = fit_of(home, trained), _lineage(stages)
    return Cost(
        name=name,
        round=round_index,
        seed=seed,
        model=stages.context.engine.fingerprint(home.checkpoint(trained)),
        started_from=lineage.first if name == "at_once" else lineage.before(round_index),
        samples=samples[0],
        tokens=samples[1],
        examples=report.examples,
        steps=report.steps,
        trained_tokens=report.tokens,
    )
