"""Scorers by name, and a round's traces gone over by one; scores stand in the ledger beside the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.data import Prompter
from star_rft.errors import UserError
from star_rft.ledger.traces import trace_of
from star_rft.progress import Advance
from star_rft.training.dataset import SampleOrigin, ids_of
from star_rft.types import Decoding, Model, Problem, Sampler, Scorer, Split, Trace, digest

if TYPE_CHECKING:
    import duckdb

# The scorers by name, with what each takes and of which type; a number may be whole.
OPTIONS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "reward_model": {
        "batch_tokens": (int,),
        "chat": (bool, str),
        "template": (str,),
        "device": (str,),
        "dtype": (str,),
        "trust_remote_code": (bool,),
    },
    "majority": {},
    "likelihood": {
        "reference": (str,),
        "per_token": (bool,),
        "batch_tokens": (int,),
        "device": (str,),
        "dtype": (str,),
        "trust_remote_code": (bool,),
    },
    "judge": {
        "template": (str,),
        "pattern": (str,),
        "lowest": (int, float),
        "highest": (int, float),
        "max_tokens": (int,),
        "temperature": (int, float),
        "url": (str,),
        "model": (str,),
        "key_variable": (str,),
        "concurrency": (int,),
        "timeout": (int, float),
        "retries": (int,),
    },
}
SCORERS = tuple(OPTIONS)
JUDGE_OPTIONS = ("template", "pattern", "lowest", "highest")
JUDGE_TOKENS = 512
# Traces that are in memory at once, rounded up to whole problems.
CHUNK = 4096


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """How a run scores. `make(policy)` opens the scorer; a score from `threshold` on counts as correct."""

    name: str
    make: Callable[[Model], Scorer]
    threshold: float | None
    decides: bool
    frees_policy: bool = True  # the scorer is a model of its own, and one at a time is in memory

    def status(self, score: float | None) -> str:
        if score is None:
            return "unknown"
        return "correct" if self.threshold is None or score >= self.threshold else "incorrect"


@dataclass(frozen=True, slots=True)
class ScorerContext:
    """What a scorer may need of a run: the policy, how it is asked and was sampled, where a model is converted to."""

    policy: Model
    sampler: Callable[[Model], Sampler]
    fingerprint: Callable[[Model], str]
    prompter: Prompter
    origin: SampleOrigin
    into: Path
    seed: int
    trust_remote_code: bool = False


def check_options(by: str, options: Mapping[str, Any]) -> None:
    """Raise UserError for an option that the scorer does not have, or of another type."""
    valid = OPTIONS[by]
    for name, value in options.items():
        if name not in valid:
            raise UserError(f"scorer.{name}: {by} has no such setting; valid are {', '.join(valid) or 'none'}")
        if not isinstance(value, valid[name]) or (isinstance(value, bool) and bool not in valid[name]):
            kinds = " or ".join(kind.__name__ for kind in valid[name])
            raise UserError(f"scorer.{name}: {value!r} is not valid: it must be {kinds}")


def open_scorer(name: str, *, model: str | None, options: Mapping[str, Any], around: ScorerContext) -> Scorer:
    """Return a scorer by name; `model` is what scores, by default the policy. Raises UserError."""
    from star_rft import models
    from star_rft.scorers import Majority, RewardModel

    if name == "majority":
        return Majority()
    trust = around.trust_remote_code
    options = options if name == "judge" else {"trust_remote_code": trust, **options}
    path = around.policy if model is None else models.resolve(model, into=around.into, trust_remote_code=trust)
    if name == "reward_model":
        return RewardModel(path, **options)
    if name == "likelihood":
        return _likelihood(path, options, around)
    return _judge(path, options, around)


def _likelihood(path: Model, options: Mapping[str, Any], around: ScorerContext) -> Scorer:
    """Score the ids that the policy drew, where the model that scores has the policy's vocabulary; else the texts."""
    from star_rft import models
    from star_rft.scorers import Likelihood

    prompter = around.prompter
    tokenizer = models.load_tokenizer(path, trust_remote_code=around.trust_remote_code)
    is_same = tokenizer.get_vocab() == prompter.tokenizer.get_vocab()
    return Likelihood(
        path,
        render=prompter.render,
        ids=partial(ids_of, prompter=prompter, origin=around.origin) if is_same else None,
        is_chat=prompter.is_chat,
        **options,
    )


def _judge(path: Model, options: Mapping[str, Any], around: ScorerContext) -> Scorer:
    """A judge behind an address, or a model in this process, which may be the policy."""
    from star_rft import models
    from star_rft.scorers import Endpoint, Judge, policy

    own = {name: options[name] for name in JUDGE_OPTIONS if name in options}
    asked = {name: value for name, value in options.items() if name not in own}
    if "url" in asked:
        if "model" not in asked:
            raise UserError("scorer.url needs scorer.model: the name of the model that the server is to ask")
        endpoint = Endpoint(asked.pop("url"), **asked)
        return Judge(endpoint, version=endpoint.version, **own)
    if misplaced := sorted(asked.keys() - {"max_tokens", "temperature"}):
        raise UserError(f"scorer.{misplaced[0]} is of a server: give scorer.url too, or leave it out")
    decoding = Decoding(
        temperature=float(asked.get("temperature", 0.0)), max_tokens=asked.get("max_tokens", JUDGE_TOKENS)
    )
    tokenizer = models.load_tokenizer(path, trust_remote_code=around.trust_remote_code)
    prompter = Prompter(tokenizer)

    def complete(questions: Sequence[str]) -> Iterator[str | None]:
        # Asked for only now: one model at a time is in memory, and a repeated command needs none.
        asked = policy(around.sampler(path), prompter, decoding=decoding, seed=around.seed, encode=prompter.prompt_ids)
        return asked(questions)

    return Judge(complete, version=digest(around.fingerprint(path), decoding.id), **own)


def scored(
    con: duckdb.DuckDBPyConnection,
    scorer: Scorer,
    scoring: ScorerSettings,
    *,
    round_index: int,
    split: Split,
    problems: Mapping[str, Problem],
    advance: Advance,
) -> Iterator[tuple[str, float | None, str]]:
    """Yield (sample id, score, status) for the traces of one split and round, problem by problem."""
    for traces in _chunks(con, round_index=round_index, split=split, problems=problems):
        for trace, score in zip(traces, scorer.score(traces), strict=True):
            yield trace.sample.id, score, scoring.status(score)
        advance(len(traces), 0)


def _chunks(
    con: duckdb.DuckDBPyConnection, *, round_index: int, split: Split, problems: Mapping[str, Problem]
) -> Iterator[Sequence[Trace]]:
    rows = con.sql(
        f"select * from traces where split = '{split}' and round = {int(round_index)}"
        " order by problem_id, sample_index, sample_id"
    )
    waiting: list[Trace] = []
    for batch in rows.to_arrow_reader(CHUNK):
        waiting += [trace_of(row, problems[row["problem_id"]]) for row in batch.to_pylist()]
        last = waiting[-1].problem.id
        whole = [trace for trace in waiting if trace.problem.id != last]
        if len(whole) >= CHUNK:
            yield whole
            waiting = waiting[len(whole) :]
    if waiting:
        yield waiting
