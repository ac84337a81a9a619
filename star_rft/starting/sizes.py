"""How much to sample and train, by the model and the machine: numbers to begin with, each explained in the config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from star_rft.errors import UserError
from star_rft.starting.model import SMALL, TINY, Device, ModelFacts
from star_rft.types import Problem

# Weights, gradients and two moments in float32.
BYTES_TRAINED = 16
MEMORY_SHARE = 0.6
LEAST_TOKENS = 64
FEW = 500  # with fewer problems large batches leave too few steps
CHARACTERS_A_TOKEN = 3.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """`prompts` is how many train problems a round samples, `held_out` how many are evaluated, `warm_start` how many
    gold solutions a warm start takes; None: all."""

    why: str
    rounds: int
    n: int
    prompts: int | None
    max_tokens: int
    unit: int
    lr: float
    batch_size: int
    eval_n: int
    ks: tuple[int, ...]
    held_out: int | None = None
    warm_start: int | None = None
    epochs: int = 2
    train_tokens: int = 2048
    uses_lora: bool = False


# What a round begins with at most; `sizes_for` makes it fit the data, the model and the memory.
OF_TINY = Sizes(
    why="the tiny model: a round takes seconds to a minute",
    rounds=2,
    n=8,
    prompts=500,
    max_tokens=160,
    unit=1024,
    lr=1e-3,
    batch_size=64,
    eval_n=4,
    ks=(1, 4),
)
OF_CPU = Sizes(
    why="a CPU: small, so that the first round ends; raise n, prompts and rounds where there is time",
    rounds=2,
    n=4,
    prompts=100,
    held_out=100,
    warm_start=500,
    max_tokens=320,
    unit=128,
    lr=2e-5,
    batch_size=16,
    eval_n=4,
    ks=(1, 4),
)
OF_GPU = Sizes(
    why="a GPU",
    rounds=3,
    n=16,
    prompts=4000,
    max_tokens=1024,
    unit=4096,
    lr=2e-5,
    batch_size=64,
    eval_n=8,
    ks=(1, 4, 8),
)
WITHOUT_SOLUTIONS = {"cpu": 192, "cuda": 512}  # tokens of an attempt where no gold solution says how long one is


def sizes_for(
    model: ModelFacts, device: Callable[[], Device], problems: Sequence[Problem], longest: int | None
) -> Sizes:
    """Return sizes for these train problems; raise UserError where their prompts exceed the model's context.

    `device` finds where the run will compute, which takes seconds and which the tiny model does not need.
    """
    if model.name == TINY:
        return _fitted(OF_TINY, model, problems, longest, OF_TINY.max_tokens)
    found = device()
    base = OF_GPU if found.kind == "cuda" else OF_CPU
    wanted = _answer_tokens(problems, least=WITHOUT_SOLUTIONS[found.kind])
    fitted = _fitted(base, model, problems, longest, min(wanted, base.max_tokens))
    if (model.parameters or 0) * BYTES_TRAINED > MEMORY_SHARE * found.memory:
        return replace(fitted, uses_lora=True, lr=2e-4)
    is_small = model.parameters is not None and model.parameters < SMALL
    return replace(fitted, lr=5e-5) if is_small else fitted


def _fitted(base: Sizes, model: ModelFacts, problems: Sequence[Problem], longest: int | None, wanted: int) -> Sizes:
    most = _fitting(model, longest, wanted)
    return replace(
        base,
        prompts=base.prompts if base.prompts is not None and len(problems) > base.prompts else None,
        max_tokens=most,
        train_tokens=_training_tokens(model, longest, most),
        batch_size=base.batch_size if len(problems) >= FEW else min(base.batch_size, 16),
    )


def _training_tokens(model: ModelFacts, longest: int | None, most: int) -> int:
    tokens = _rounded((longest or 512) + most, 256)
    return min(tokens, model.positions) if model.positions else tokens


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
