"""Options and reports of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypedDict

from star_rft.progress import OnStep

PreferenceObjective = Literal["dpo", "rso", "rrhf"]
# Told one line that a user should read.
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Low-rank adapters. `target_modules`: "all-linear", a regular expression, or ends of module names."""

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True, slots=True)
class FitReport:
    """What was trained on. `tokens` counts prompts and completions over all steps, without padding.

    Of preferences, `examples` counts the preferences and `dropped_too_long` their completions.
    """

    steps: int
    examples: int
    dropped_too_long: int
    tokens: int
    loss_first: float
    loss_last: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides the trained weights, besides the objective with its data, and the model."""

    lr: float
    epochs: float | None = 1.0
    max_steps: int | None = None
    batch_size: int = 32
    micro_batch_size: int | None = None
    max_tokens: int = 2048
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    lora: LoraSpec | None = None
    gradient_checkpointing: bool = False
    packing: Literal["auto"] | bool = "auto"
    liger: Literal["auto"] | bool = "auto"
    router_loss: bool = True
    seed: int = 0
    save_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


@dataclass(frozen=True, slots=True)
class FitContext:
    """Where and how a training runs: what its weights do not depend on, those that it starts from aside."""

    device: str = "auto"
    end_ids: Sequence[int] = ()
    weights_from: Path | None = None
    float32_dir: Path | None = None
    save_steps: int | None = None
    optimizer_from: Path | None = None
    save_optimizer: bool = False
    trust_remote_code: bool = False
    report_to: Sequence[str] = ()
    on_step: OnStep | None = None
    say: Say | None = None


class FitOptions(TypedDict, total=False):
    """What every training may be told, by name: defaults in `Settings` and `FitContext`, meanings in `fit`."""

    epochs: float | None
    max_steps: int | None
    batch_size: int
    micro_batch_size: int | None
    max_tokens: int
    schedule: Literal["cosine", "linear", "constant"]
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    precision: Literal["auto", "float32", "bfloat16"]
    lora: LoraSpec | None
    gradient_checkpointing: bool
    packing: Literal["auto"] | bool
    liger: Literal["auto"] | bool
    router_loss: bool
    seed: int
    save_dtype: Literal["auto", "float32", "bfloat16", "float16"]
    device: str
    end_ids: Sequence[int]
    weights_from: Path | None
    float32_dir: Path | None
    save_steps: int | None
    optimizer_from: Path | None
    save_optimizer: bool
    trust_remote_code: bool
    report_to: Sequence[str]
    on_step: OnStep | None
    say: Say | None


def settled(lr: float, options: FitOptions) -> tuple[Settings, FitContext]:
    """Return the options in their two kinds, the missing ones filled in. Raises TypeError for an unknown one."""
    around = {field.name for field in fields(FitContext)}
    given: Mapping[str, Any] = options
    return (
        Settings(lr=lr, **{name: value for name, value in given.items() if name not in around}),
        FitContext(**{name: value for name, value in given.items() if name in around}),
    )
