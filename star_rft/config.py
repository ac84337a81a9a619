"""What a run is: a strict, typed config from YAML plus `key.sub=value` overrides.

Nothing here does any work, and nothing below `build.py` sees these classes. Whatever can be refused without
touching data or a model is refused here, with the key, the value and what is valid.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from star_rft.types import UserError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
TopP = Annotated[float, Field(gt=0.0, le=1.0)]


def _one_or_many(kind: Any) -> PlainValidator:
    """Validate a value of a kind, or a list of them: a union would say what is wrong once for each."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def one(value: object) -> object:
        try:
            return adapter.validate_python(value, strict=True)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ValueError(f"{value!r} is not valid: {message[0].lower()}{message[1:]}") from None

    def validated(value: object) -> object:
        if value == []:
            raise ValueError("[] is not valid: give at least one")
        return [one(entry) for entry in value] if isinstance(value, list) else one(value)

    return PlainValidator(validated)


DType = Literal["auto", "float32", "bfloat16", "float16"]


class ConfigError(UserError):
    """A config that cannot be run: the text names the file, the key, the value and what is valid."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class ModelConfig(Section):
    """`name` is `tiny` (shipped), `smollm2` (an extra), a folder or a hub name.

    With `from_scratch` the run begins with random weights in its architecture.
    """

    name: str = "tiny"
    from_scratch: bool = False
    gguf_file: str | None = None
    dtype: DType = "auto"
    device: str = "auto"
    trust_remote_code: bool = False


class SourceConfig(Section):
    """Where problems come from. `share` [a, b] keeps those whose content hash lies there: a split of one file."""

    source: str | list[str]
    split: str | None = None
    config_name: str | None = None
    preset: str | None = None
    columns: dict[str, str] | None = None
    share: Annotated[list[Share], Field(min_length=2, max_length=2)] | None = None
    limit: Positive | None = None
    shuffle_seed: int | None = None
    max_solution_chars: Positive | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _share_is_a_range(self) -> SourceConfig:
        if self.share is not None and self.share[0] >= self.share[1]:
            raise ValueError(f"share {self.share} is empty: the first number must be the smaller one")
        return self


def _as_source(value: object) -> object:
    """`data.train: gsm8k` is short for `data.train: {source: gsm8k}`."""
    return {"source": value} if isinstance(value, str) else value


Source = Annotated[SourceConfig, BeforeValidator(_as_source)]


class DataConfig(Section):
    """`dev` decides (temperature, gate, early stop); `test` is only reported.

    `contamination` is what happens to train problems that hold a held-out one: the run stops, they are
    dropped, or they are allowed.
    """

    train: Source | None = None
    dev: Source | None = None
    test: Source | None = None
    contamination: Literal["stop", "drop", "allow"] = "stop"

    @model_validator(mode="after")
    def _something_is_held_out(self) -> DataConfig:
        if self.dev is None and self.test is None:
            raise ValueError("dev and test are both missing: give at least one held-out set")
        return self


class PromptConfig(Section):
    template: str = "{question}"
    chat: Literal["auto"] | bool = "auto"
    system: str | None = None
    few_shot: list[dict[str, str]] = []
    completion_prefix: str = ""

    @model_validator(mode="after")
    def _template_holds_the_question(self) -> PromptConfig:
        if "{question}" not in self.template:
            raise ValueError(f"template {self.template!r} has no {{question}}: the problem would not be shown")
        return self


class VerifierConfig(Section):
    name: str = "math"
    options: dict[str, Any] = {}
    workers: Annotated[int, Field(ge=0)] | None = None
    timeout: Annotated[float, Field(gt=0)] = 10.0


class DecodingConfig(Section):
    temperature: NonNegative = 1.0
    top_p: TopP = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    max_tokens: Positive = 512
    stop: list[str] = []


class SampleConfig(DecodingConfig):
    """`n` completions a prompt and model; `unit` is how many commit at once: what a crash can cost.

    `temperature`, `top_p` and `system` may be lists, whose entries the attempts take in turn. `models` are names,
    folders or `policy`, the model that is trained; all sample the same prompts into one ledger. `prompts` is how many
    train problems a round samples, drawn anew each round; all of them unless given.
    """

    temperature: Annotated[float | list[float], _one_or_many(NonNegative)] = 1.0  # type: ignore[assignment]
    top_p: Annotated[float | list[float], _one_or_many(TopP)] = 1.0  # type: ignore[assignment]
    system: list[str] = []
    models: Annotated[list[str], Field(min_length=1)] = ["policy"]
    n: Positive = 8
    prompts: Positive | None = None
    backend: Literal["hf"] = "hf"
    batch_size: Positive | None = None
    unit: Positive = 1024

    @model_validator(mode="after")
    def _greedy_is_drawn_once(self) -> SampleConfig:
        temperatures = self.temperatures
        if sum(temperatures[i % len(temperatures)] == 0 for i in range(self.n)) > 1:
            raise ValueError(f"temperature 0 draws the same completion again (n={self.n}): set n=1 or raise it")
        return self

    @property
    def temperatures(self) -> list[float]:
        return self.temperature if isinstance(self.temperature, list) else [self.temperature]

    @property
    def top_ps(self) -> list[float]:
        return self.top_p if isinstance(self.top_p, list) else [self.top_p]


class RationalizeConfig(Section):
    """Prompts that nothing solved are sampled again with the answer as a hint (STaR).

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

    name: Literal["reward_model", "judge", "majority", "likelihood"]
    model: str | None = None
    decides: bool = False
    threshold: float | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _has_its_model(self) -> ScorerConfig:
        if self.name in ("reward_model", "likelihood") and self.model is None:
            raise ValueError(f"scorer {self.name} needs a model: a folder or a hub name")
        if self.threshold is not None and not self.decides:
            raise ValueError("threshold is for decides: true; to drop low scores use the rule 'threshold'")
        return self


class BalanceConfig(Section):
    """B-STaR: before each round, the pair of temperature and score threshold that balances best on a few dev problems.

    `target` is n*, how many distinct correct traces are enough for a problem.
    """

    temperatures: Annotated[list[NonNegative], Field(min_length=1)]
    thresholds: Annotated[list[float | None], Field(min_length=1)] = [None]
    problems: Positive = 64
    n: Positive = 16
    target: Positive = 8


class SelectConfig(Section):
    """`rules` are applied left to right (`star-rft recipes --rules` lists them).

    `gold` is the share of train problems whose gold solution is added (1: every one, as in RFT).
    """

    rules: list[str | dict[str, Any]] = ["correct", {"dedup": "exact"}, {"dedup": "equations"}, {"cap": 4}]
    rounds: Literal["all", "last"] = "all"
    gold: Share = 0.0


class LoraConfig(Section):
    r: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: str | list[str] = "all-linear"


class FitConfig(Section):
    """How weights are trained; the warm start and the rounds share it."""

    lr: Annotated[float, Field(gt=0.0)] = 1e-5
    epochs: Annotated[float, Field(gt=0.0)] | None = 1.0
    max_steps: Positive | None = None
    batch_size: Positive = 32
    micro_batch_size: Positive | None = None
    max_tokens: Positive = 2048
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Share = 0.03
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    packing: Literal["auto"] | bool = "auto"
    lora: LoraConfig | None = None
    save_steps: Positive | None = None

    @model_validator(mode="after")
    def _has_a_length(self) -> FitConfig:
        if self.epochs is None and self.max_steps is None:
            raise ValueError("epochs and max_steps are both null: give one")
        return self


class TrainConfig(FitConfig):
    """Supervised training on the selected traces.

    `mix` is the share of a round's training set that is drawn from the warm start's gold solutions. `max_steps` grows
    by `step_growth` each round; with `optimizer: continue` a round goes on with the moments of the last one.
    """

    start: Literal["base", "warm_start", "last"] = Field(default="last", alias="from")
    step_growth: Annotated[float, Field(ge=1.0)] = 1.0
    optimizer: Literal["restart", "continue"] = "restart"
    weighting: Literal["uniform", "per_prompt", "score"] = "uniform"
    mix: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @model_validator(mode="after")
    def _what_goes_on_can(self) -> TrainConfig:
        if self.step_growth > 1 and self.max_steps is None:
            raise ValueError(f"step_growth={self.step_growth} grows max_steps, which is null: give it")
        if self.optimizer == "continue" and (self.start != "last" or self.lora is not None):
            raise ValueError(
                "optimizer 'continue' needs from: last and no lora: else there are no moments to go on with"
            )
        return self


class PreferenceConfig(FitConfig):
    """Training by comparison on the rankings of the rule `pairs`, after the supervised training if there is one.

    `from: trained` goes on from the model that this round trained; where it starts is the reference too. `makes:
    verifier` leaves the policy alone and writes a verifier beside it (V-STaR). `sft_weight` adds the likelihood of the
    better one.
    """

    objective: Literal["dpo", "rso", "rrhf"] = "dpo"
    beta: Annotated[float, Field(gt=0.0)] = 0.1
    sft_weight: NonNegative = 0.0
    start: Literal["trained", "base", "warm_start", "last"] = Field(default="trained", alias="from")
    makes: Literal["policy", "verifier"] = "policy"

    @model_validator(mode="after")
    def _a_verifier_starts_elsewhere(self) -> PreferenceConfig:
        if self.makes == "verifier" and self.start == "trained":
            raise ValueError("a verifier is trained before the policy: from must be base, warm_start or last")
        return self


class WarmStartConfig(FitConfig):
    """Supervised training on gold solutions before the first round; `data` is the train set unless given."""

    data: Source | None = None


class EvalConfig(DecodingConfig):
    """Held-out sampling: `n` completions a problem give pass@k for every k <= n; `greedy` adds one more."""

    every: Positive = 1
    n: Positive = 8
    k: list[Positive] = [1, 8]
    greedy: bool = True
    group_by: str | None = None

    @model_validator(mode="after")
    def _k_is_at_most_n(self) -> EvalConfig:
        if too_large := [k for k in self.k if k > self.n]:
            raise ValueError(f"k={too_large[0]} needs {too_large[0]} samples a problem but n={self.n}: k <= n")
        if 1 not in self.k:
            raise ValueError(f"k={self.k} lacks 1: pass@1 is always reported")
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"temperature 0 draws the same completion n={self.n} times: set n=1 or raise it")
        return self


class AboutConfig(Section):
    """What a recipe is: its paper, what the paper reports, and how this config differs. Nothing reads it but people."""

    title: str
    paper: str
    published: str
    differences: list[str]
    run: str = "in miniature only"


class Config(Section):
    about: AboutConfig | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Annotated[int, Field(ge=0)] = 3
    run_dir: str | None = None
    model: ModelConfig = ModelConfig()
    data: DataConfig
    prompt: PromptConfig = PromptConfig()
    verifier: VerifierConfig = VerifierConfig()
    sample: SampleConfig = SampleConfig()
    balance: BalanceConfig | None = None
    rationalize: RationalizeConfig | None = None
    scorer: ScorerConfig | None = None
    select: SelectConfig = SelectConfig()
    train: TrainConfig | None = TrainConfig()
    preference: PreferenceConfig | None = None
    warm_start: WarmStartConfig | None = None
    eval: EvalConfig = EvalConfig()
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _there_is_something_to_train_on(self) -> Config:
        if self.data.train is None and (self.rounds > 0 or self.warm_start is not None):
            raise ValueError(f"data.train is missing, and rounds={self.rounds} would train on it")
        return self

    @model_validator(mode="after")
    def _warm_start_exists_where_it_is_used(self) -> Config:
        if self.warm_start is not None:
            return self
        for key, section in (("train", self.train), ("preference", self.preference)):
            if section is not None and section.start == "warm_start":
                raise ValueError(f"{key}.from is 'warm_start' but there is no warm_start section; valid: base, last")
        if self.train is not None and self.train.mix > 0:
            raise ValueError(f"train.mix={self.train.mix} draws from the warm start's data but there is none")
        return self

    @model_validator(mode="after")
    def _a_balance_is_found_on_dev(self) -> Config:
        if self.balance is not None and self.data.dev is None:
            raise ValueError("balance tries temperatures on data.dev, which is missing")
        return self

    @model_validator(mode="after")
    def _something_trains_the_policy(self) -> Config:
        if self.train is None and (self.preference is None or self.preference.makes == "verifier"):
            raise ValueError("train is null and no preference section trains the policy: give one of them")
        if self.preference is not None and not any("pairs" in rule for rule in self.select.rules):
            raise ValueError("preference compares what the rule 'pairs' ranks, and select.rules has none")
        return self

    @property
    def folder(self) -> Path:
        return Path(self.run_dir) if self.run_dir else Path("runs") / self.name


# Changing these between two calls of one run cannot mix incompatible samples.
CHANGEABLE = {
    "about",
    "name",
    "run_dir",
    "rounds",
    "versions",
    "verifier.workers",
    "verifier.timeout",
    "train.save_steps",
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML alone reads `lr: 1e-5` as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load(source: str | Path | Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """Read a YAML file (or take a mapping), apply overrides, validate.

    `overrides` are `key.sub=value` texts, or a mapping of such keys to values. Raises ConfigError.
    """
    raw, origin = (dict(source), "config") if isinstance(source, Mapping) else (_read(Path(source)), str(source))
    for key, value in pairs(overrides).items():
        _set(raw, key, value)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {_explain(problem)}" for problem in error.errors())) from None


def pairs(overrides: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides as a mapping of keys to values, whichever way they were given."""
    return dict(overrides) if isinstance(overrides, Mapping) else dict(map(_split_override, overrides))


def dump(config: Config) -> str:
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def changes(old: Config, new: Config) -> list[str]:
    """Name the keys that differ and that would mix incompatible samples in one run folder."""
    a, b = (
        _flatten(old.model_dump(mode="json", by_alias=True)),
        _flatten(new.model_dump(mode="json", by_alias=True)),
    )
    keys = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    return [
        f"{key}: {a.get(key)!r} -> {b.get(key)!r}"
        for key in keys
        if key not in CHANGEABLE and key.split(".")[0] not in CHANGEABLE
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of sections ({', '.join(Config.model_fields)})")
    return raw


def _split_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r} must look like key.sub=value, for example sample.n=16")
    try:
        return key, yaml.load(value, Loader=_Loader)
    except yaml.YAMLError:
        return key, value


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node = raw
    for part in parents:
        child = node.get(part)
        if isinstance(child, str) and parents[0] == "data":
            child = {"source": child}
        node[part] = dict(child) if isinstance(child, Mapping) else {}
        node = node[part]
    node[last] = value


def _explain(problem: Any) -> str:
    """One line for one of pydantic's errors: the key, the value, what is valid."""
    location = [part for part in problem["loc"] if not (isinstance(part, str) and "[" in part)]
    key = ".".join(str(part) for part in location) or "config"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        valid = _keys_of(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), valid, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{key}: no such key{hint}; valid here: {', '.join(valid)}"
    if problem["type"] == "missing":
        return f"{key}: is missing"
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {problem['input']!r} is not valid: {message[0].lower()}{message[1:]}"


def _keys_of(location: Iterable[str | int]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == part), None)
        section = _section_in(field.annotation) if field else None
        if section is None:
            return []
        model = section
    return [field.alias or name for name, field in model.model_fields.items()]


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next((found for arg in get_args(annotation) if (found := _section_in(arg))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
