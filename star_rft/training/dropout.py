"""Switches off dropout and other randomness of a model in training. Imports torch: import it late.

Layers drop out through modules and through functions, whose rate they read from attributes of their own or from the
config; routers add noise. All of it asks whether its module is in training, so modules are kept in eval mode. Gradient
checkpointing asks the same of the modules that do it: those stay in training, and their rates are set to 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch

from star_rft.errors import TrainingError
from star_rft.training.batching import pad
from star_rft.training.forward import Forward, token_nll
from star_rft.training.probe import LENGTHS, TOLERANCE, on_device, random_rows

RATES = re.compile(r"\w*(drop|jitter|noise)\w*")


def switch_off(model: Any, forward: Forward, *, checkpoints: bool) -> list[torch.nn.Module]:
    """Return the modules to keep in eval mode, so that the model in training computes what it does otherwise.

    Call it before adapters are added: their dropout stays. Raises TrainingError where the forward is still random.
    """
    modules = list(model.modules())
    active = [module for module in modules if checkpoints and hasattr(module, "gradient_checkpointing")]
    configs = {id(module.config): module.config for module in modules if hasattr(module, "config")}
    for place in (*active, *(configs.values() if active else ())):
        for name, value in vars(place).items():
            if RATES.fullmatch(name) and isinstance(value, float):
                setattr(place, name, 0.0)
    is_active = set(map(id, active))
    resting = [module for module in modules if id(module) not in is_active]
    model.train()
    rest(resting)
    with torch.random.fork_rng(), torch.no_grad():
        batch = on_device(model, pad(random_rows(model, LENGTHS[:1])))
        first, second = (token_nll(model, forward, batch).values for _ in range(2))
    model.eval()
    # A GPU may add up in another order each time, which moves an nll by 1e-6; dropout moves it by more than 1e-2.
    if not torch.allclose(first, second, atol=TOLERANCE):
        raise TrainingError(
            f"{type(model).__name__} computes something else each time in training (dropout or noise that cannot be "
            "switched off), and preferences are compared with a reference that does not: set gradient_checkpointing "
            "to false, or use another model"
        )
    return resting


def rest(modules: Iterable[torch.nn.Module]) -> None:
    """Put modules, without those in them, into eval mode."""
    for module in modules:
        module.training = False
