"""The config sections about selection, training and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from star_rft.config.base import AboveZero, NonNegative, Positive, Section, Share
from star_rft.config.data import Source


class SelectConfig(Section):
    """`rules` are applied left to right (`star-rft recipes --rules` lists them).

    `reference_solutions` is the share of train problems whose reference solution is added (1: every one, as in RFT).
    `label_errors: quarantine` is for problems whose samples contradict their reference: until they are reviewed
    (`star-rft review`), neither their traces nor their reference solutions are trained on, and they are sampled less.
    """

    rules: list[str | dict[str, Any]] = ["correct", {"dedup": "exact"}, {"dedup": "equations"}, {"cap": 4}]
    rounds: Literal["all", "last"] = "all"
    reference_solutions: Share = 0.0
    label_errors: Literal["quarantine", "keep"] = "quarantine"


class LoraConfig(Section):
    """A LoRA adapter, by the names of peft's LoraConfig; without it all weights are trained."""

    r: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: str | list[str] = "all-linear"


class LaunchConfig(Section):
    """How many processes a training runs in; the warm start, the rounds and the comparisons share it.

    With one process and no `config` the run's own process trains. Else `accelerate launch` starts that many, one a GPU
    where there are any, with `config`: fsdp2 (weights, gradients and optimizer are sharded over them, the default), ddp
    (each has all of them), or a config file of accelerate. `arguments` are further ones of `accelerate launch`, and
    `command` precedes it: what starts it on each machine, such as srun. Processes that report no step for `stall`
    seconds are ended.
    """

    processes: Positive = 1
    config: str | None = None
    arguments: list[str] = []
    command: list[str] = []
    stall: AboveZero = 1800.0

    @model_validator(mode="after")
    def _what_is_launched_can_be(self) -> LaunchConfig:
        if self.processes == 1 and self.config is None and (self.arguments or self.command):
            raise ValueError("arguments and command are for launched processes: give processes, or a config")
        return self


class FitConfig(Section):
    """How weights are trained; the warm start and the rounds share it.

    `packing: true` and `auto` pack only models that keep packed sequences apart. With `router_loss` a mixture of
    experts is trained with its router's auxiliary loss too, where its config has one (`router_aux_loss_coef`).
    """

    lr: AboveZero = 1e-5
    epochs: AboveZero | None = 1.0
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
    liger: Literal["auto"] | bool = "auto"
    router_loss: bool = True
    lora: LoraConfig | None = None
    save_steps: Positive | None = None

    @model_validator(mode="after")
    def _has_a_length(self) -> FitConfig:
        if self.epochs is None and self.max_steps is None:
            raise ValueError("epochs and max_steps are both null: give one")
        return self


class TrainConfig(FitConfig):
    """Supervised training on the selected traces.

    `mix` is the share of a round's training set that is drawn from the warm start's reference solutions. `max_steps`
    is multiplied by `step_growth` each round; with `optimizer: continue` a round starts with the last one's moments.
    """

    start: Literal["base", "warm_start", "last"] = Field(default="last", alias="from")
    step_growth: Annotated[float, Field(ge=1.0)] = 1.0
    optimizer: Literal["restart", "continue"] = "restart"
    weighting: Literal["uniform", "per_problem", "score"] = "uniform"
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


def name_of(plugin: str | Mapping[str, Any]) -> str:
    """Return the name of a plug-in that is written as a name, or as {name: options}."""
    return plugin if isinstance(plugin, str) else next(iter(plugin), "")


class PreferenceConfig(FitConfig):
    """Preference training on what the rule `pairs` ranked, after the supervised training if there is one.

    `objective` is a loss of pairs: dpo, rso, rrhf, one that was registered with `star_rft.objective`, or
    "pkg.module:function"; {name: {option: value}} gives it options. `beta` is the option of dpo and rso, 0.1 unless
    given. `from: trained` starts from the model that this round trained. The model that it starts from is the reference
    of the objective too. `makes: verifier` trains a separate verifier and leaves the policy as it is (V-STaR).
    `sft_weight` adds the likelihood of the better completion to the objective.
    """

    objective: str | dict[str, dict[str, Any]] = "dpo"
    beta: AboveZero | None = None
    sft_weight: NonNegative = 0.0
    start: Literal["trained", "base", "warm_start", "last"] = Field(default="trained", alias="from")
    makes: Literal["policy", "verifier"] = "policy"

    @field_validator("objective", mode="before")
    @classmethod
    def _is_one_objective(cls, given: Any) -> Any:
        is_mapping = isinstance(given, Mapping) and len(given) == 1 and isinstance(next(iter(given.values())), Mapping)
        if not isinstance(given, str) and not is_mapping:
            raise ValueError(f"{given!r} names no objective; write a name, or {{name: {{option: value}}}}")
        return given

    @property
    def objective_name(self) -> str:
        """The name of the objective, without its options."""
        return name_of(self.objective)

    @model_validator(mode="after")
    def _a_verifier_starts_elsewhere(self) -> PreferenceConfig:
        if self.makes == "verifier" and self.start == "trained":
            raise ValueError("a verifier is trained before the policy: from must be base, warm_start or last")
        return self


class WarmStartConfig(FitConfig):
    """Supervised training on reference solutions before the first round; `data` is the train set unless given."""

    data: Source | None = None


class GateConfig(Section):
    """What is decided after each evaluated round, on data.dev alone.

    A round that is significantly worse is rolled back: the next one starts from the best. The run stops after
    `patience` evaluated rounds in a row without a significant gain; null: it never does. A loss of at most `tolerance`
    in pass@1 or pass@k only warns. `saturation`, `diversity` and `kl` are bounds of warnings; null turns one off.
    """

    patience: Positive | None = None
    roll_back: bool = True
    tolerance: Share = 0.02
    saturation: Share | None = 0.9
    diversity: Share | None = 0.5
    kl: NonNegative | None = 0.5
