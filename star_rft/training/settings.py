"""What a training is asked to do, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Comparison = Literal["dpo", "rso", "rrhf"]


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

    Of rankings, `examples` counts the rankings and `dropped_too_long` their completions.
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
    epochs: float | None
    max_steps: int | None
    batch_size: int
    micro_batch_size: int | None
    max_tokens: int
    schedule: str
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    precision: str
    lora: LoraSpec | None
    gradient_checkpointing: bool
    packing: str | bool
    seed: int
    save_dtype: str
