"""The records that stages pass to each other, and the Protocols of samplers and scorers.

All records are frozen: a stage returns new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from verifiers.types import Verdict

# `probe`: samples of dev problems that are drawn before a round, to choose its temperature (B-STaR).
Split = Literal["train", "dev", "test", "probe"]
FinishReason = Literal["stop", "length"]
# A checkpoint folder or a hub name.
Model = Path | str


def digest(*parts: object, size: int = 8) -> str:
    """Return `2 * size` hex digits: a BLAKE2b hash of the parts as JSON with sorted keys, equal in every process.

    What JSON cannot hold is hashed by its `str`.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


@dataclass(frozen=True, slots=True)
class Problem:
    """One question whose answer a verifier can check.

    Attributes:
        id: Hash of `prompt` and `reference`: the same for every file and machine.
        prompt: The question, before a template is put around it.
        reference: The reference answer, as the verifier reads it: text, or an object that JSON can hold.
        verifier: Name of the verifier.
        solution: The data set's worked solution, None where it has none.
        meta: Other columns of the row, such as `level` or `steps`.
    """

    id: str
    prompt: str
    reference: Any
    verifier: str
    solution: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How completions are drawn.

    Attributes:
        temperature: 0 is greedy decoding.
        max_tokens: Most tokens of a completion, its end token included.
        top_p: Nucleus sampling; 1.0 turns it off.
        top_k: Only the `top_k` likeliest tokens are drawn; 0 turns it off.
        stop: Strings that end a completion, besides the model's own end tokens.
        backend: Name of the engine: `hf`, `server` or `vllm`.
        backend_version: The engine's version, as the engine states it.
        stop_token_ids: Tokens that end a completion, besides the model's own end tokens.
    """

    temperature: float
    max_tokens: int
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    backend: str = "hf"
    backend_version: str = ""
    stop_token_ids: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """Return a hash of all fields: the ledger's `decode_id`, which request seeds are made from too."""
        fields = asdict(self)
        if not self.stop_token_ids:  # an empty list is left out of the hash, and so changes no id and no seed
            del fields["stop_token_ids"]
        return digest(fields)


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to draw.

    Attributes:
        problem_id: The problem that the prompt was rendered from.
        sample_index: Which of the problem's samples in the round, from 0.
        prompt: The rendered text.
        seed: 64 bits; the tokens that are drawn depend on no other randomness.
        prompt_ids: Tokens of `prompt`; None: the engine tokenises the text as it is.
    """

    problem_id: str
    sample_index: int
    prompt: str
    seed: int
    prompt_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a sampler returns for a request.

    Attributes:
        request: The request that it answers.
        text: Ends before the end token and before a stop string.
        token_ids: All sampled tokens, the end token included.
        finish_reason: `stop`, or `length` where `max_tokens` was reached.
        logprob: Sum of log-probabilities over `token_ids`, in nats, at temperature 1 without top-p and top-k; None
            where the engine gives none.
        ids_are_sampled: False where an engine returns text only: `token_ids` are then those of the tokenised text, and
            are not trained on.
    """

    request: Request
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprob: float | None
    ids_are_sampled: bool = True


class Sampler(Protocol):
    """Draws completions from one model; what a registered engine opens."""

    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        """Yield exactly one completion a request, in the order in which they finish.

        Args:
            requests: Those with the same prompt are neighbours, so that an engine can compute the prompt once.
            decoding: How all of them are drawn.
            batch_size: Sequences to decode at once, as the plan recorded it: the shape of a batch changes logits in
                their last bits. Engines that choose batches themselves ignore it.
        """
        ...

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        """Return how many sequences to decode at once in the memory that is free; the plan records it.

        Args:
            max_prompt_tokens: Tokens of the longest prompt.
            decoding: `max_tokens` bounds the completions.
        """
        ...

    def close(self) -> None:
        """Free the model's memory; the sampler cannot be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion with everything that produced it: one row of the ledger.

    Attributes:
        problem_id: The problem that it answers.
        split: Split of the problem, or `probe`.
        round: Round in which it was drawn.
        sample_index: Which of the problem's samples in the round, from 0.
        model: Hash of the weights that drew it.
        decode_id: `Decoding.id`.
        prompt_sha: Hash of the rendered prompt.
        seed: Seed of the request, 64 bits.
        hinted: The prompt held the reference answer.
        text: The completion, without end token and stop string.
        token_ids: Its tokens, see `Completion`.
        finish_reason: `stop`, or `length` where it was cut off.
        logprob: Log-probability in nats, see `Completion`; None where the engine gives none.
        leaks_hint: The text shows that the answer was given to it (`star_rft.sampling.hints`).
        ids_are_sampled: `token_ids` were drawn by the model, and not made by tokenising a server's text.
    """

    problem_id: str
    split: Split
    round: int
    sample_index: int
    model: str
    decode_id: str
    prompt_sha: str
    seed: int
    hinted: bool
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprob: float | None
    leaks_hint: bool = False
    ids_are_sampled: bool = True

    @property
    def id(self) -> str:
        """Return the ledger's `sample_id`: a hash of problem, round, index, model and decoding, not of the text."""
        return digest(
            self.problem_id, self.split, self.round, self.sample_index, self.model, self.decode_id, self.hinted
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """A problem, a sample of it, and the verdict on that sample, in one record instead of parallel lists."""

    problem: Problem
    sample: Sample
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and a completion to train on.

    Attributes:
        prompt_ids: Tokens of the prompt; they have no part in the loss.
        completion_ids: Tokens that the loss is computed on. A completion that ended by itself ends with the token that
            ended it (`models.tokens`).
        weight: Factor of the example's loss.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Preference:
    """Ranked completions of one prompt, for preference training.

    Attributes:
        prompt_ids: Tokens of the prompt.
        completion_ids: Tokens of each completion with its end token, best completion first.
        scores: A score a completion, in the same order, never rising. Completions of equal score are not compared.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...]


class Scorer(Protocol):
    """Gives traces numeric scores, for selection rules that rank and for data that no verifier can judge."""

    @property
    def version(self) -> str:
        """Return a hash of what scores depend on besides the traces, such as a model's weights and a template."""
        ...

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        """Yield a score a trace, in order; None where there is none (a judge that does not answer).

        Args:
            traces: All traces of a problem are neighbours.
        """
        ...

    def close(self) -> None:
        """Free what the scorer holds; it cannot be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the bounds of its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Scores of a model on one held-out split.

    Attributes:
        split: `dev` or `test`.
        problems: Number of problems.
        n: Samples a problem.
        pass_at_k: Mean of the unbiased pass@k over problems, by k as text; an unknown verdict counts as not correct.
        pass_at_1_interval: pass@1 with its interval over problems.
        pass_at_1_upper: pass@1 if every unknown verdict were correct.
        maj_at_k: Accuracy of the majority answer among k samples, by k as text.
        greedy: Accuracy of one greedy sample a problem; None where there are none.
        by_group: pass@1 by value of the column `eval.group_by`.
        unknown: Samples with an unknown verdict.
        truncated: Samples that reached `max_tokens` without a correct answer before.
        tokens: Sampled tokens, greedy samples included.
        vs_base: Paired difference of pass@1 to the model of round 0.
        vs_last: Paired difference of pass@1 to the model of the round before.
    """

    split: Split
    problems: int
    n: int
    pass_at_k: dict[str, float]
    pass_at_1_interval: Interval
    pass_at_1_upper: float
    maj_at_k: dict[str, float]
    greedy: Interval | None
    by_group: dict[str, float]
    unknown: int
    truncated: int
    tokens: int
    vs_base: Interval | None = None
    vs_last: Interval | None = None


@dataclass(frozen=True, slots=True)
class RoundReport:
    """The figures of one round; `metrics.json` is this record. Round 0 evaluates the model that the loop starts from.

    Counts of samples are of this round's train samples without hints, unless an attribute says otherwise. None means
    not measured.

    Attributes:
        round: Number of the round.
        model: Hash of the weights that the round ends with.
        problems: Train problems of the run.
        problems_sampled: Train problems that were sampled in this round.
        samples: Samples drawn.
        correct: Samples with the verdict correct.
        unknown: Samples with the verdict unknown.
        truncated: Samples that reached `max_tokens` without a correct answer before.
        distinct: Correct samples of a problem that differ in their list of equations, summed over problems.
        hinted: Samples drawn with a hint.
        hinted_correct: Correct samples among `hinted`.
        invalid_steps_share: Share of the correct samples that state a false equation.
        selected: Traces selected for training, of whichever round.
        reference_solutions: Reference solutions that were trained on.
        anchor: Problems of the warm start that were mixed into the training.
        coverage: Share of all train problems with a correct sample in this round.
        trained_on_share: Share of all train problems with a selected trace.
        unsolved: Problems of `problems_sampled` without a correct sample.
        unsolved_share_interval: Their share of `problems_sampled`, with its interval.
        unsolved_share_by_group: The same share by value of the column `eval.group_by`.
        dropped: Traces that selection dropped, by reason.
        temperature_search: Chosen temperature and threshold with their score (B-STaR).
        waves: Waves of sampling, see `star_rft.frontier.budget`.
        classes: Train problems by class, see `star_rft.frontier.classes`.
        transitions: Train problems by transition, see `star_rft.frontier.history`.
        diversity: Figures of `star_rft.evaluation.diversity`.
        kl: Figures of `star_rft.evaluation.kl`, in nats a token, and the change of length.
        flagged: Selected traces that may be correct by luck, by kind (`star_rft.evaluation.trace_audit`).
        gate: The decision on the round's model, as plain values (`star_rft.evaluation.gate.Decision`).
        tokens: Sampled tokens.
        held_out: Scores on data.dev.
        test: Scores on data.test.
        seconds: Seconds by stage.
    """

    round: int
    model: str
    problems: int
    problems_sampled: int = 0
    samples: int = 0
    correct: int = 0
    unknown: int = 0
    truncated: int = 0
    distinct: int = 0
    hinted: int = 0
    hinted_correct: int = 0
    invalid_steps_share: float | None = None
    selected: int = 0
    reference_solutions: int = 0
    anchor: int = 0
    coverage: float | None = None
    trained_on_share: float | None = None
    unsolved: int | None = None
    unsolved_share_interval: Interval | None = None
    unsolved_share_by_group: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    temperature_search: dict[str, float | None] | None = None
    waves: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    transitions: dict[str, int] = field(default_factory=dict)
    diversity: dict[str, float] = field(default_factory=dict)
    kl: dict[str, float] = field(default_factory=dict)
    flagged: dict[str, int] = field(default_factory=dict)
    gate: dict[str, Any] | None = None
    tokens: int = 0
    held_out: HeldOutScores | None = None
    test: HeldOutScores | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def pass_at_k(self) -> dict[str, float]:
        """Return pass@k on data.dev by k as text; empty where the round was not evaluated."""
        return self.held_out.pass_at_k if self.held_out else {}

    @property
    def pass_at_1(self) -> float | None:
        """Return pass@1 on data.dev; None where the round was not evaluated."""
        return self.pass_at_k.get("1")
