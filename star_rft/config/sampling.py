"""The config sections about sampling, budgets, verifiers, scorers and evaluation."""

from __future__ import annotations

import os
import shlex
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from star_rft.addresses import require_address
from star_rft.config.base import AboveZero, NonNegative, Positive, Section, TopP, one_or_many


class SecondConfig(Section):
    """A verifier and its options, as in the section `verifier`."""

    name: str
    options: dict[str, Any] = {}


class VerifierConfig(Section):
    """The verifier. `second` is another one, which judges the selected traces too; its disagreements are flagged.

    `workers` is the number of processes (one a core unless given), and `timeout` the seconds for one completion.
    """

    name: str = "math"
    options: dict[str, Any] = {}
    second: SecondConfig | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    timeout: AboveZero = 10.0


class DecodingConfig(Section):
    """`stop` are strings, and `stop_token_ids` tokens, that end a completion besides the model's own end tokens."""

    temperature: NonNegative = 1.0
    top_p: TopP = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    max_tokens: Positive = 512
    stop: list[Annotated[str, Field(min_length=1)]] = []
    stop_token_ids: list[Annotated[int, Field(ge=0)]] = []


class SampleConfig(DecodingConfig):
    """`n` completions a problem and model; `unit` is how many are committed together: a crash loses at most one unit.

    `temperature`, `top_p` and `system` may be lists, whose entries the samples take in turn. `models` are names,
    folders or `policy`, the model that is trained; all sample the same problems into one ledger. `problems` is how many
    train problems a round samples, drawn anew each round; all of them unless given. `backend` draws everything,
    held-out samples too: `hf`, `vllm`, `server` or `ray`, the name of an engine that is registered, or
    `module:function`. The sections `vllm`, `server` and `ray` set up theirs; `engine_options` are those of any other
    engine.
    """

    temperature: Annotated[float | list[float], one_or_many(NonNegative)] = 1.0  # type: ignore[assignment]
    top_p: Annotated[float | list[float], one_or_many(TopP)] = 1.0  # type: ignore[assignment]
    system: list[str] = []
    models: Annotated[list[str], Field(min_length=1)] = ["policy"]
    n: Positive = 8
    problems: Positive | None = None
    backend: str = "hf"
    engine_options: dict[str, Any] = {}
    batch_size: Positive | None = None
    unit: Positive = 1024

    @model_validator(mode="after")
    def _greedy_is_drawn_once(self) -> SampleConfig:
        temperatures = self.temperatures
        if sum(temperatures[i % len(temperatures)] == 0 for i in range(self.n)) > 1:
            raise ValueError(f"temperature 0 draws the same completion again (n={self.n}): set n=1 or raise it")
        return self

    @model_validator(mode="after")
    def _each_model_samples_once(self) -> SampleConfig:
        if len(set(self.models)) < len(self.models):
            raise ValueError(f"models={self.models} names one twice, whose samples would be the same: raise n instead")
        return self

    @property
    def temperatures(self) -> list[float]:
        """The temperatures that samples take in turn; one where a number was given."""
        return self.temperature if isinstance(self.temperature, list) else [self.temperature]

    @property
    def top_ps(self) -> list[float]:
        """The values of top_p that samples take in turn; one where a number was given."""
        return self.top_p if isinstance(self.top_p, list) else [self.top_p]


class BudgetConfig(Section):
    """How many samples each problem gets; `sample.n` is the most of one model in a round.

    With `plan: fixed` every problem gets that. `uniform` and `prop2diff` (DART) sample until a problem has `target`
    correct traces, or `target` times its fail rate. `adaptive` samples until a problem has `target` distinct ones,
    first where the next is likeliest, and uses another of `sample.models` only for problems that those before it leave
    unsolved. `probe` is how many samples every problem gets first; `tokens` is the most that a round's sampling may
    take.
    """

    plan: Literal["fixed", "uniform", "prop2diff", "adaptive"] = "fixed"
    target: Positive = 4
    probe: Positive = 4
    tokens: Positive | None = None


class RationalizeConfig(Section):
    """Unsolved problems are sampled again with the answer as a hint (STaR).

    `template` is the whole prompt with {question} and {answer}; by default the answer follows the question in
    brackets. `mark` follows the right one of listed choices instead. The rule `hinted` bounds their share.
    """

    template: str | None = None
    mark: str | None = None
    n: Positive = 1
    temperature: NonNegative | None = None


class ScorerConfig(Section):
    """Float scores beyond the verifier's verdict, for rules that rank.

    `model` is what scores: a sequence classifier for `reward_model`, a causal model for `likelihood`; `judge` asks the
    policy itself unless `options.url` names an endpoint. With `decides` a score from `threshold` on (any, unless given)
    counts as correct, and the verifier's verdict no longer decides what is selected.
    """

    name: str
    model: str | None = None
    decides: bool = False
    threshold: float | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _has_its_model(self) -> ScorerConfig:
        if self.threshold is not None and not self.decides:
            raise ValueError("threshold is for decides: true; to drop low scores use the rule 'threshold'")
        return self


class TemperatureSearchConfig(Section):
    """B-STaR: before each round, the pair of temperature and score threshold that balances best on a few dev problems.

    `target` is n*, how many distinct correct traces are enough for a problem.
    """

    temperatures: Annotated[list[AboveZero], Field(min_length=1)]
    thresholds: Annotated[list[float | None], Field(min_length=1)] = [None]
    problems: Positive = 64
    n: Positive = 16
    target: Positive = 8


class EvalConfig(DecodingConfig):
    """Held-out sampling: `n` completions a problem give pass@k for every k <= n; `greedy` adds one more.

    `kl_traces` is how many traces the KL divergence from the model of round 0 is measured on; 0: it is not measured.
    """

    every: Positive = 1
    n: Positive = 8
    k: list[Positive] = [1, 8]
    greedy: bool = True
    group_by: str | None = None
    kl_traces: Annotated[int, Field(ge=0)] = 64

    @property
    def has_greedy(self) -> bool:
        """Whether a greedy completion comes on top: one drawn at temperature 0 is greedy already."""
        return self.greedy and self.temperature > 0

    @model_validator(mode="after")
    def _k_is_at_most_n(self) -> EvalConfig:
        if too_large := [k for k in self.k if k > self.n]:
            raise ValueError(f"k={too_large[0]} needs {too_large[0]} samples a problem but n={self.n}: k <= n")
        if 1 not in self.k:
            raise ValueError(f"k={self.k} lacks 1: pass@1 is always reported")
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"temperature 0 draws the same completion n={self.n} times: set n=1 or raise it")
        return self


class VLLMConfig(Section):
    """vLLM in processes of its own, for `sample.backend: vllm`.

    `python` is the interpreter of the environment that has vLLM; this one unless given. `data_parallel` engines of
    `tensor_parallel` GPUs each share the requests. `memory` is the share of a GPU that an engine takes,
    `max_model_len` its longest sequence (prompt and completion); the model's unless given. With `serve_adapters` a LoRA
    checkpoint is served as its adapter on its base, without the merged weights. An engine without progress for `stall`
    seconds is ended. `env` are environment variables and `options` further engine arguments of vLLM.
    """

    python: str | None = None
    tensor_parallel: Positive = 1
    data_parallel: Positive = 1
    max_model_len: Positive | None = None
    memory: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    eager: bool = False
    serve_adapters: bool = False
    stall: AboveZero = 600.0
    env: dict[str, str] = {}
    options: dict[str, Any] = {}


class ServerConfig(Section):
    """OpenAI-compatible servers, for `sample.backend: server`.

    `url` is one address or several, which share the requests; `model` the name under which they serve the model that
    the run starts from, its own unless given. Or `start` is a command that serves {model} at port {port} of this
    machine: it is started when a model is first sampled and stopped before training. `api` is the servers' kind, which
    `auto` reads from their list of models. At most `concurrency` requests are under way at each address. A request that
    fails is tried again up to `retries` times, after `backoff` seconds, twice that, and so on. `key_variable` names the
    environment variable that holds the key, which is stored nowhere.
    """

    url: Annotated[str | list[str], one_or_many(str)] | None = None
    model: str | None = None
    api: Literal["auto", "vllm", "sglang", "llamacpp", "openai"] = "auto"
    start: str | None = None
    start_timeout: AboveZero = 600.0
    concurrency: Positive = 64
    timeout: AboveZero = 600.0
    retries: Annotated[int, Field(ge=0)] = 8
    backoff: NonNegative = 1.0
    key_variable: str | None = None

    @model_validator(mode="after")
    def _addresses_are_addresses(self) -> ServerConfig:
        for url in self.urls:
            require_address(url)
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("url names one address twice: raise concurrency instead")
        return self

    @model_validator(mode="after")
    def _a_command_can_be_filled_in(self) -> ServerConfig:
        if self.start is None:
            return self
        if self.urls:
            raise ValueError("url and start exclude each other: what star-rft starts it also asks")
        try:
            words = shlex.split(self.start)
        except ValueError as error:
            raise ValueError(f"start is no command: {error}") from None
        if self.key_variable and (key := os.environ.get(self.key_variable, "").strip()) and key in self.start:
            raise ValueError("start holds the key: leave it to the environment, where the server can read it")
        for place in ("{model}", "{port}"):
            if not any(place in word for word in words):
                raise ValueError(f"start lacks {place}, as in: vllm serve {{model}} --port {{port}}")
        return self

    @property
    def urls(self) -> list[str]:
        """All addresses; none where `start` makes a server."""
        return self.url if isinstance(self.url, list) else [self.url] if self.url is not None else []


class RayConfig(Section):
    """A Ray cluster, for `sample.backend: ray`: actors that draw, verify and write whole units of the plan.

    `address` is the cluster's ("auto" finds the one that this machine belongs to); without one a cluster of this
    machine alone is started. Each of `actors` runs `engine` with `cpus` and `gpus` of a node: `hf`, `vllm`, or an
    engine that every node can import, by the name of its entry point or as `module:function`. Its options are those
    of `sample.backend`. The run folder must lie where every node can write.
    """

    address: str | None = None
    engine: str = "hf"
    actors: Positive = 1
    cpus: AboveZero = 1.0
    gpus: NonNegative = 0.0
