"""The records that travel between stages. All are frozen; a stage returns new ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from verifiers.types import Verdict

# `probe` samples answer problems of dev before a round, to choose its temperature (B-STaR).
Split = Literal["train", "dev", "test", "probe"]
FinishReason = Literal["stop", "length"]
# A checkpoint folder or a hub name.
Model = Path | str


def digest(*parts: object, size: int = 8) -> str:
    """Return `2 * size` hex digits that depend on every part and on nothing else (not on the process)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


@dataclass(frozen=True, slots=True)
class Problem:
    """One question whose answer a verifier can check.

    `id` is a hash of the content (see `star_rft.data`), so it is stable over files and machines.
    `solution` is the worked chain of thought where the data set has one.
    """

    id: str
    prompt: str
    reference: Any
    verifier: str
    solution: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How completions are drawn. `temperature` 0 is greedy; `top_p` 1.0 and `top_k` 0 are off.

    `stop` are strings and `stop_token_ids` tokens that end a completion, besides the model's own end tokens.
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
        fields = asdict(self)
        if not self.stop_token_ids:  # so that decodings without them keep the ids, and the seeds, that they had
            del fields["stop_token_ids"]
        return digest(fields)


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to draw. `prompt` is the rendered text; `seed` (64 bits) fixes the randomness.

    `prompt_ids` are its tokens; where they are None the engine tokenises the text as it is.
    """

    problem_id: str
    sample_index: int
    prompt: str
    seed: int
    prompt_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a backend returns for a request.

    `token_ids` are all sampled tokens, the end token included; `text` ends before that token
    and before a stop string. `logprob` is the sum over `token_ids` at temperature 1, untruncated; None where the
    engine gives none. Where an engine gives text only, `token_ids` are those of the text, `ids_are_sampled` is False,
    and they are never trained on as they are.
    """

    request: Request
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprob: float | None
    ids_are_sampled: bool = True


class Sampler(Protocol):
    """A backend that draws completions from one model."""

    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        """Yield exactly one completion a request, in the order in which they finish.

        Requests for one prompt stand next to each other, so that a backend can share their prefill.
        `batch_size` is what the plan recorded; engines that batch by themselves ignore it.
        """
        ...

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        """Return how many completions to draw at once by the memory there is: what the plan records."""
        ...

    def close(self) -> None:
        """Free the model's memory; the sampler cannot be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion with everything that produced it: a row of the ledger.

    `hinted`: its prompt held the answer; `leaks_hint`: and the text shows it (see `star_rft.sampling.hints`).
    `ids_are_sampled`: `token_ids` are the very tokens that the model drew, not those of a text that a server gave.
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
        return digest(
            self.problem_id, self.split, self.round, self.sample_index, self.model, self.decode_id, self.hinted
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """A sample with its problem and its verdict, joined at once: nothing travels in parallel lists."""

    problem: Problem
    sample: Sample
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to train on. The loss falls on `completion_ids` only, which end as `models.tokens` says."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Preference:
    """Completions of one prompt, best first, for objectives that compare; those of equal score are not compared.

    Each of `completion_ids` ends with its end token; `scores` belong to them and never rise.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...]


class Scorer(Protocol):
    """Float scores where no program can judge, or beyond what one can: only rules that rank read them."""

    @property
    def version(self) -> str:
        """What the scores depend on besides the traces: a model's fingerprint, a template."""
        ...

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        """Yield a score a trace, in order; None where there is none (a judge that does not answer).

        All traces of a problem stand next to each other.
        """
        ...

    def close(self) -> None:
        """Free what the scorer holds; it cannot be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """How a model did on one held-out split.

    `pass_at_k` (k as text) is unbiased over `n` samples a problem and counts unknown as not correct;
    `pass_at_1_upper` counts it as correct. `vs_base` and `vs_last` are paired differences of pass@1.
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
    """What a round came to; `metrics.json` is this record. Round 0 is the model that the loop starts from.

    Counts are of this round's train samples, hinted ones apart; `selected` counts the traces selected for
    training, `distinct` the correct ones that differ in their list of equations, `problems_sampled` the train problems
    that were sampled, `unsolved` those of them without a correct sample, `coverage` the share of all train problems
    with one, `trained_on_share` the share with a selected trace, of whichever round, and `invalid_steps_share` the
    share of the correct samples that state a false equation. `temperature_search` is the temperature and threshold that
    were chosen, with their score; `waves` how often the plan was asked. `classes` and `transitions` count train
    problems (`frontier`), `flagged` selected traces that may be right by luck; `diversity` and `kl` are the figures of
    the modules of these names, and `gate` is its decision (`gate.Decision`). None means not measured.
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
        return self.held_out.pass_at_k if self.held_out else {}

    @property
    def pass_at_1(self) -> float | None:
        return self.pass_at_k.get("1")
