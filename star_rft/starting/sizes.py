"""How much to sample and train, by the model and the machine: numbers to begin with, each explained in the config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from star_rft.starting.model import SMALL, TINY, Device, ModelFacts
from star_rft.types import Problem, UserError

# Weights, gradients and two moments in float32.
BYTES_TRAINED = 16
MEMORY_SHARE = 0.6
LEAST_TOKENS = 64
CHARACTERS_A_TOKEN = 3.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """`prompts` is how many train problems a round samples, `held_out` how many are evaluated, `warm_start` how many
    gold solutions a warm start takes; None: all."""

    rounds: int
    n: int
    prompts: int | None
    held_out: int | None
    warm_start: int | None
    max_tokens: int
    unit: int
    lr: float
    epochs: int
    batch_size: int
    train_tokens: int
    uses_lora: bool
    eval_n: int
    ks: tuple[int, ...]
    why: str


def sizes_for(
    model: ModelFacts, device: Callable[[], Device], problems: Sequence[Problem], longest: int | None
) -> Sizes:
    """Return sizes for these train problems; raise UserError where their prompts exceed the model's context.

    `device` finds where the run will compute, which takes seconds and which the tiny model does not need.
    """
    few = len(problems) < 500
    if model.name == TINY:
        most = _fitting(model, longest, 160)
        return Sizes(
            rounds=2, n=8, prompts=_at_most(500, problems), held_out=None, warm_start=None, max_tokens=most, unit=1024,
            lr=1e-3, epochs=2, batch_size=16 if few else 64, train_tokens=_training_tokens(model, longest, most),
            uses_lora=False, eval_n=4, ks=(1, 4), why="the tiny model: a round takes seconds to a minute",
        )  # fmt: skip
    found = device()
    is_gpu = found.kind == "cuda"
    wanted = _answer_tokens(problems, least=512 if is_gpu else 192)
    most = _fitting(model, longest, min(wanted, 1024 if is_gpu else 320))
    train = _training_tokens(model, longest, most)
    uses_lora = (model.parameters or 0) * BYTES_TRAINED > MEMORY_SHARE * found.memory
    is_small = model.parameters is not None and model.parameters < SMALL
    lr = 2e-4 if uses_lora else 5e-5 if is_small else 2e-5
    if is_gpu:
        return Sizes(
            rounds=3, n=16, prompts=_at_most(4000, problems), held_out=None, warm_start=None,
            max_tokens=most, unit=4096, lr=lr, epochs=2, batch_size=16 if few else 64, train_tokens=train, uses_lora=uses_lora, eval_n=8,
            ks=(1, 4, 8), why="a GPU",
        )  # fmt: skip
    return Sizes(
        rounds=2, n=4, prompts=_at_most(100, problems), held_out=100, warm_start=500, max_tokens=most, unit=128, lr=lr,
        epochs=2, batch_size=16, train_tokens=train, uses_lora=uses_lora, eval_n=4, ks=(1, 4),
        why="a CPU: small, so that the first round ends; raise n, prompts and rounds where there is time",
    )  # fmt: skip


def _training_tokens(model: ModelFacts, longest: int | None, most: int) -> int:
    tokens = _rounded((longest or 512) + most, 256)
    return min(tokens, model.positions) if model.positions else tokens


def _at_most(prompts: int, problems: Sequence[Problem]) -> int | None:
    return prompts if len(problems) > prompts else None


def _answer_tokens(problems: Sequence[Problem], least: int) -> int:
    """Return room for nearly all gold solutions and half as much again, where there are any."""
    lengths = sorted(len(problem.solution) for problem in problems if problem.solution is not None)
    if not lengths:
        return least
    return max(least, _rounded(int(1.5 * lengths[int(0.95 * (len(lengths) - 1))] / CHARACTERS_A_TOKEN), 64))


def _fitting(model: ModelFacts, longest: int | None, wanted: int) -> int:
    if model.positions is None or longest is None:
        return wanted
    room = model.positions - longest
    if room < LEAST_TOKENS:
        raise UserError(
            f"model {model.name} takes {model.positions} tokens, and the longest prompt alone has {longest}: choose a "
            f"model with a longer context (--model), or leave such problems out"
        )
    return min(wanted, room)


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step
