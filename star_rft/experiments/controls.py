"""Matched controls of a round: models with the round's start, steps and evaluation, trained on other data.

A control's folder lies in `controls` of the run folder and has the layout of a run folder; `metrics.json` in it is
written last. Nothing of the run itself changes.

`at_once` is a fork: the loop samples, selects and trains its one round. Only its evaluation is not the loop's, because
it has to send the requests of the round that it is compared with, and those of another round have other seeds.

The other controls (`TRAINED`) are no forks that the loop could run, because the loop would train them on other data:

- They train on the round's preferences, with what comes after the supervised training. A fork would derive
  preferences from its own selection.
- `reference_solutions` trains on reference solutions and nothing else. A config can only add them to selected traces.
- They take the steps of the round only where they have another number of examples, which is known after selection.
- A fork begins with round 1. A control of round N needs the samples, models and gate decisions of N rounds.

They share the files before the first round as a fork does. Scores and differences are those of
`star_rft.evaluation.by_problem`, as in `compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from star_rft import config as configs
from star_rft.config import Config
from star_rft.data import read_problems
from star_rft.errors import RunError, UserError
from star_rft.evaluation import evaluate
from star_rft.experiments.compare import common_split
from star_rft.experiments.fork import fork_config, share_start, write_fork
from star_rft.files import read_json, whole, write_json, write_table
from star_rft.ledger import Ledger
from star_rft.loop import sample_round
from star_rft.runs.folder import RunFolder
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

TRAINED = ("random", "no_dedup", "reference_solutions")
NAMES = (*TRAINED, "at_once")  # `contributions.MEANINGS` says what each is compared for
DRAWN_FROM = {"random": "finished", "no_dedup": "correct"}  # the option `of` of the rule `control`
METRICS = "metrics.json"

OpenRun = Callable[[Config], AbstractContextManager["Stages"]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a round's model, or a control, cost to make.

    `samples` and their `tokens` were drawn for this model; a control other than `at_once` draws none. `steps` are
    optimizer steps on its `examples`, and `trained_tokens` the tokens of prompts and completions over all steps.
    `started_from` is the round in which the model that its training started from was evaluated (see `Lineage`).
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
    """Which model the training of each round started from, by the round that the model was evaluated in.

    `start` is the config's `train.from`, and `warms_up` whether the run has a warm start.
    """

    folder: RunFolder
    start: str
    warms_up: bool

    def before(self, round_index: int) -> int | None:
        """Return the round that evaluated the model a round started from; None where that was never evaluated."""
        if self.start == "last":
            earlier = read_report(self.folder.metrics(round_index - 1))
            return round_to_use(earlier)
        return self.first

    @property
    def first(self) -> int | None:
        """The round that evaluated the model that round 1 started from: 0, or None for a base before its warm start."""
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
    """Return the controls that cannot be made for a round, each with the reason."""
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
    """Return the controls named in `only`, with commas, or all that can be made. Raises UserError.

    `without` are those that `impossible` returned.
    """
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
    """Return whether every one of these controls is trained and evaluated."""
    return all((folder.control(name, round_index, seed) / METRICS).exists() for name in names for seed in seeds)


# Training and evaluating them


def make(stages: Stages, *, round_index: int, names: Sequence[str], seeds: Sequence[int], open_run: OpenRun) -> None:
    """Train and evaluate the controls of a round that are not finished.

    Args:
        stages: The opened run.
        round_index: A finished round of it that trained.
        names: Some of `NAMES`.
        seeds: Each control is made once with each.
        open_run: Opens the run of a config, for `at_once`.

    Raises:
        RunError: The run has no supervised training.
    """
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
            if name == "at_once":
                cost = _train_at_once(stages, home, round_index=round_index, seed=seed, open_run=open_run)
                model: Model = home.checkpoint(1)
            else:
                cost = _train(stages, home, name=name, round_index=round_index, seed=seed)
                model = home.checkpoint(round_index)
            _evaluate(stages, home, round_index, model)
            split, rows = held_out_rows(home, round_index)
            held_out = evaluate.held_out_scores(rows, split=split, ks=stages.evaluation.sampling.ks)
            write_json(home.path / METRICS, {**asdict(cost), "held_out": asdict(held_out)})


def held_out_rows(folder: RunFolder, round_index: int) -> tuple[Split, list[dict[str, Any]]]:
    """Return the split that a round's decisions are made on, dev or else test, and its rows, one a problem."""
    split = common_split([(folder, round_index)])
    return split, evaluate.read(folder.eval(round_index), split)


def _train(stages: Stages, home: RunFolder, *, name: str, round_index: int, seed: int) -> Cost:
    """Train a control of `TRAINED`, in place of the round's supervised training."""
    out = home.checkpoint(round_index)
    if not out.exists():
        # Its models are read where the run has them.
        share_start(stages.context.folder, home.path, names=(stages.context.folder.problems.name,))
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
                work = home.work / job.out.name
                stages.training.run_job(job, seed=seed + round_index, work_dir=work, on_step=on_step)
    return _cost(stages, home, name=name, round_index=round_index, seed=seed, trained=round_index, samples=(0, 0))


def _examples(stages: Stages, home: RunFolder, *, name: str, round_index: int, seed: int) -> list[Example]:
    """Return what a control of `TRAINED` imitates."""
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
    """Write the selection of a control: as many traces as the round's rules select, drawn from more.

    A score tells correct traces from incorrect ones, so random traces are not weighted by it.
    """
    is_blind = name == "random" and spec.weighting == "score"
    drawn = replace(
        spec,
        rules=(*spec.rules, {"control": DRAWN_FROM[name]}),
        weighting="uniform" if is_blind else spec.weighting,
        seed=seed,
    )
    write_table(path, select(con, drawn, round_index=round_index).traces.to_arrow_table())


def at_once_config(folder: RunFolder, home: RunFolder, *, rounds: int, steps: int, seed: int) -> Config:
    """Return the config of a fork in `home` that draws in one round what `rounds` rounds of a run drew.

    Where a round samples only some of the problems, this one samples more of them, and each more often only when there
    are no more. It trains for `steps`.
    """
    config = configs.load(folder.config)
    changes: dict[str, Any] = {"rounds": 1, "seed": seed, "report_to": None}
    changes |= {"train.max_steps": steps, "train.step_growth": 1.0}
    n, per_round = config.sample.n * rounds, config.sample.problems
    if per_round is not None:
        together = min(per_round * rounds, len(read_problems(folder.problems)["train"]))
        n = -(-config.sample.n * per_round * rounds // together)
        changes["sample.problems"] = together
    changes["sample.n"] = n
    if config.budget.tokens is not None:
        changes["budget.tokens"] = config.budget.tokens * rounds
    is_of_all_rounds = config.budget.plan == "adaptive" and config.select.rounds == "all"
    if config.budget.plan != "fixed" and not is_of_all_rounds:
        changes["budget.target"] = config.budget.target * rounds
    return fork_config(folder, home.path.name, changes, folder=home.path)


def _train_at_once(stages: Stages, home: RunFolder, *, round_index: int, seed: int, open_run: OpenRun) -> Cost:
    """Make the fork of `at_once` and do its round up to the checkpoint; what is there already is not done again."""
    source = stages.context.folder
    steps = sum(fit_of(source, number).steps for number in _lineage(stages).rounds(round_index))
    config = at_once_config(source, home, rounds=round_index, steps=steps, seed=seed)
    if not home.path.exists():
        write_fork(source, stages.context.ledger, config, draws=True)
    stages.context.engine.release()
    with open_run(config) as forked:
        policy = forked.training.start()
        if not home.checkpoint(1).exists():
            sample_round(forked, 1, policy)
            forked.selection.select(1)
            forked.training.train(1, policy)
        query = "select count(*), coalesce(sum(tokens), 0)::bigint from samples where split = 'train'"
        (samples,) = forked.context.ledger.connect().sql(query).fetchall()
    return _cost(stages, home, name="at_once", round_index=round_index, seed=seed, trained=1, samples=samples)


def _evaluate(stages: Stages, home: RunFolder, round_index: int, model: Model) -> None:
    """Evaluate a control by the round's own plan of requests; its samples go to the ledger of the control."""
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
