"""Best-of-n: draws n samples a problem, lets a score choose one, and measures the choice for every k <= n."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

import verifiers
from star_rft.errors import RunFailure, UserError
from star_rft.files import append_line, read_lines
from star_rft.ledger.traces import trace_of
from star_rft.loop import Stages
from star_rft.progress import Advance
from star_rft.scorers.judge import Judge
from star_rft.scorers.likelihood import Likelihood
from star_rft.scorers.registry import SCORERS, ScorerContext, check_scorer, open_scorer
from star_rft.scorers.reward_model import RewardModel
from star_rft.scorers.verdict import VerifierScorer
from star_rft.statistics import chosen_at_k, kl_of_best_of_k, paired, pass_at_k, vote_at_k
from star_rft.training.dataset import SampleOrigin
from star_rft.types import Interval, Scorer, Trace, digest

CHUNK = 512  # traces that are scored and saved at once; what an interruption can cost

Weigh = Callable[[Sequence[float | None]], list[float]]


@dataclass(frozen=True, slots=True)
class Chooser:
    """A scorer, the weights that its scores have in a vote, and whether the scores are saved.

    They are not saved where they follow from verdicts, which may be renewed.
    """

    by: str
    scorer: Scorer
    weigh: Weigh
    is_kept: bool = True


@dataclass(frozen=True, slots=True)
class BestOfK:
    """Best-of-k: the choice of the sample with the best score among k, over all subsets of k samples.

    `score` is the mean score of the chosen sample, None where nothing was scored. `accuracy` is how often it is
    correct and `vs_one` the paired difference to one random sample. `oracle` is pass@k; `majority` and
    `weighted_majority` are votes among the k. `kl` bounds the divergence of this choice from the policy.
    """

    k: int
    score: float | None
    accuracy: float
    vs_one: Interval | None
    oracle: float
    majority: float
    weighted_majority: float
    kl: float


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Best-of-k for k = 1, 2, 4, ..., n, by one scorer.

    `peak` is the k of the best accuracy, and `after_peak` the paired difference of accuracy from there to n.
    """

    by: str
    version: str
    problems: int
    n: int
    unscored: int
    at: tuple[BestOfK, ...]
    peak: int
    after_peak: Interval

    @property
    def best(self) -> BestOfK:
        """The entry of `at` with the best accuracy."""
        return next(best for best in self.at if best.k == self.peak)

    @property
    def is_over_optimised(self) -> bool:
        """Whether the score still rises after the peak while verified accuracy measurably falls."""
        before, after = self.best.score, self.at[-1].score
        return before is not None and after is not None and after > before and self.after_peak.high < 0


def doublings(n: int) -> list[int]:
    """Return 1, 2, 4, ... and n."""
    if n < 1:
        raise UserError(f"--n {n} must be at least 1")
    return sorted({2**i for i in range(n.bit_length())} | {n})


def measure(stages: Stages, chooser: Chooser) -> BestOfN:
    """Score the samples of a finished evaluation that have no saved score yet, and return best-of-k for every k.

    The policy is freed before the scorer runs, and the scorer is closed at the end.
    """
    traces = held_out_traces(stages)
    stages.context.engine.release()
    path = score_file(stages.context.folder.path, chooser) if chooser.is_kept else None
    try:
        with stages.context.progress.stage(f"scoring by {chooser.by}", len(traces)) as advance:
            scores = score_traces(traces, chooser.scorer, path=path, advance=advance)
    finally:
        chooser.scorer.close()
    pairs = list(zip(traces, scores, strict=True))
    by_problem = [list(group) for _, group in groupby(pairs, key=lambda pair: pair[0].problem.id)]
    return curve(by_problem, chooser)


def held_out_traces(stages: Stages) -> list[Trace]:
    """Return the sampled completions of the model that a run starts from, problem by problem."""
    split = stages.context.held_out_split
    problems = {problem.id: problem for problem in stages.context.problems[split]}
    rows = stages.context.ledger.connect().sql(
        "select * from traces where split = $split and round = 0 and decode_id = $decode_id"
        " order by problem_id, sample_index",
        params={"split": split, "decode_id": stages.evaluation.sampling.sampled.id},
    )
    return [trace_of(row, problems[row["problem_id"]]) for row in rows.to_arrow_table().to_pylist()]


def score_file(run: Path, chooser: Chooser) -> Path:
    """Return where a run keeps the scores of this scorer: JSON lines of sample ids and scores."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", chooser.by)
    return run / "scores" / f"{name}-{digest(chooser.scorer.version)}.jsonl"


def score_traces(traces: Sequence[Trace], scorer: Scorer, *, path: Path | None, advance: Advance) -> list[float | None]:
    """Return a score for each trace. With `path`, scores in that file are used, and new ones are appended to it."""
    known: dict[str, float | None] = {}
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {name: score for line in read_lines(path) for name, score in line["scores"].items()}
    groups = [list(group) for _, group in groupby(traces, key=lambda trace: trace.problem.id)]
    missing = [group for group in groups if any(trace.sample.id not in known for trace in group)]
    advance(len(traces) - sum(map(len, missing)), 0)
    for chunk in _chunks(missing):
        scores = scorer.score(chunk)
        new = {trace.sample.id: score for trace, score in zip(chunk, scores, strict=True)}
        known |= new
        if path is not None:
            append_line(path, {"scores": new})
        advance(len(chunk), sum(len(trace.sample.token_ids) for trace in chunk))
    return [known[trace.sample.id] for trace in traces]


def _chunks(groups: Sequence[list[Trace]]) -> Iterator[list[Trace]]:
    """Gather whole problems: a scorer sees all traces of a problem at once."""
    chunk: list[Trace] = []
    for group in groups:
        if chunk and len(chunk) + len(group) > CHUNK:
            yield chunk
            chunk = []
        chunk = chunk + group
    if chunk:
        yield chunk


def curve(by_problem: Sequence[Sequence[tuple[Trace, float | None]]], chooser: Chooser) -> BestOfN:
    """Sum up best-of-k for k = 1, 2, 4, ..., n, where n is what the problem with the fewest samples has."""
    if not by_problem:
        raise RunFailure("nothing was sampled, so there is nothing to choose from")
    n = min(map(len, by_problem))
    accuracy_K_P: dict[int, list[float]] = {}
    at = []
    for k in doublings(n):
        accuracy_P = [_accuracy(problem, k) for problem in by_problem]
        accuracy_K_P[k] = accuracy_P
        at.append(
            BestOfK(
                k=k,
                score=_mean_score(by_problem, k),
                accuracy=float(np.mean(accuracy_P)),
                vs_one=paired(accuracy_P, accuracy_K_P[1]) if k > 1 else None,
                oracle=float(np.mean([pass_at_k(sum(_is_correct(p)), len(p), k) for p in by_problem])),
                majority=float(np.mean([_vote(p, [1.0] * len(p), k) for p in by_problem])),
                weighted_majority=float(np.mean([_vote(p, chooser.weigh(_scores(p)), k) for p in by_problem])),
                kl=kl_of_best_of_k(k),
            )
        )
    peak = max(at, key=lambda best: best.accuracy).k  # the smallest k of the best
    return BestOfN(
        by=chooser.by,
        version=chooser.scorer.version,
        problems=len(by_problem),
        n=n,
        unscored=sum(score is None for problem in by_problem for score in _scores(problem)),
        at=tuple(at),
        peak=peak,
        after_peak=paired(accuracy_K_P[n], accuracy_K_P[peak]),
    )


Scored = Sequence[tuple[Trace, float | None]]


def _scores(problem: Scored) -> list[float | None]:
    return [score for _, score in problem]


def _is_correct(problem: Scored) -> list[bool]:
    return [trace.verdict.is_correct for trace, _ in problem]


def _accuracy(problem: Scored, k: int) -> float:
    return float(chosen_at_k(_scores(problem), k) @ np.array(_is_correct(problem), dtype=np.float64))


def _vote(problem: Scored, weights: Sequence[float], k: int) -> float:
    return vote_at_k([trace.verdict.answer for trace, _ in problem], _is_correct(problem), weights, k)


def _mean_score(by_problem: Sequence[Scored], k: int) -> float | None:
    """Average over problems the mean over those subsets of k that hold a scored sample."""
    means = []
    for problem in by_problem:
        share_N = chosen_at_k(_scores(problem), k)
        scored = [(share, score) for share, score in zip(share_N, _scores(problem), strict=True) if score is not None]
        if total := sum(share for share, _ in scored):
            means.append(sum(share * score for share, score in scored) / total)
    return float(np.mean(means)) if means else None


def open_chooser(
    by: str,
    stages: Stages,
    *,
    model: str | None,
    options: Mapping[str, Any],
    verifier: str,
    workers: int | None,
    timeout: float,
) -> Chooser:
    """Open the scorer, or the verifier, that chooses samples. Raises UserError for a mistake in its settings.

    `verifier` measures accuracy; if it also chooses, best-of-k is pass@k. Where `model` is None the policy is the
    model of the judge and of the likelihood.
    """
    check_chooser(by, model=model, options=options)
    if by in SCORERS.names():
        context = ScorerContext(
            model=stages.training.base.at(stages.training.start()),
            sampler=stages.context.engine.sampler,
            fingerprint=stages.context.engine.fingerprint,
            prompter=stages.training.prompter,
            origin=SampleOrigin(stops=stages.training.prompter.stops(stages.evaluation.sampling.sampled)),
            into=stages.context.folder.path / "scorer_model",
            seed=stages.context.seed,
        )
        scorer = open_scorer(by, model=model, options=options, context=context)
        return Chooser(by, scorer, _weigh(scorer), is_kept=by != "majority")
    if by == verifier and not options:
        return Chooser(by, VerifierScorer(), _above(0.0), is_kept=False)
    other = VerifierScorer(by, workers=workers, timeout=timeout, options=options)
    return Chooser(by, other, _above(0.0))


def check_chooser(by: str, *, model: str | None, options: Mapping[str, Any]) -> None:
    """Raise UserError for a scorer, a verifier or an option of it that does not exist, or a model it does not use."""
    asks_model = False
    if by in SCORERS.names():
        asks_model = SCORERS.get(by).asks_model and "url" not in options
        if by == "reward_model" and model is None:
            raise UserError(
                "--by reward_model needs --scorer-model: the folder of a sequence classifier with one output"
            )
        check_scorer(by, options, model=model or "the policy")
    elif by not in verifiers.names() and ":" not in by:
        valid = ", ".join((*SCORERS.names(), *verifiers.names()))
        raise UserError(f"--by {by!r} is neither a scorer nor a verifier; valid are {valid}")
    else:
        verifiers.get(by).check_options(options)
    if model is not None and not asks_model:
        raise UserError(f"--scorer-model {model}: --by {by} asks no model in this process")


def _weigh(scorer: Scorer) -> Weigh:
    if isinstance(scorer, RewardModel):
        return _sigmoids
    if isinstance(scorer, Likelihood):
        return _exponentials
    return _above(scorer.lowest if isinstance(scorer, Judge) else 0.0)


def _above(lowest: float) -> Weigh:
    """Weigh a bounded score by how far it is above the lowest."""
    return lambda scores: [0.0 if score is None else max(score - lowest, 0.0) for score in scores]


def _sigmoids(scores: Sequence[float | None]) -> list[float]:
    """Weigh a reward by the probability that Bradley and Terry give it against a reward of 0."""
    return [0.0 if score is None else 0.5 * (1.0 + float(np.tanh(score / 2))) for score in scores]


def _exponentials(scores: Sequence[float | None]) -> list[float]:
    """Weigh a log-probability by the probability, relative to the problem's best."""
    best = max((score for score in scores if score is not None), default=0.0)
    return [0.0 if score is None else exp(score - best) for score in scores]
