"""The optimizer's moments beside the weights, so that the next round goes on with them (B-STaR, 2412.17256)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.errors import TrainingError

if TYPE_CHECKING:
    import torch

    from star_rft.training.trainer import PlannedTrainer

# Not *.safetensors: engines load every such file of a folder as weights.
OPTIMIZER = "optimizer.pt"


def fingerprint(folder: Path) -> str:
    """Return 16 hex digits of the optimizer's state in a folder; raise TrainingError where there is none."""
    file = folder / OPTIMIZER
    if not file.is_file():
        raise TrainingError(f"optimizer_from {folder} holds no {OPTIMIZER}: it is written with save_optimizer")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def gathered(trainer: PlannedTrainer) -> dict[str, Any]:
    """Return the state of each parameter under its name, on the CPU; learning rates and schedule are not in it.

    Every rank calls it, for each may hold a shard; only the first one gets the state.
    """
    model: Any = trainer.model
    optimizer: Any = trainer.optimizer
    names = _names(model, optimizer)
    state: dict[str, dict[str, torch.Tensor]] = {}
    for parameter, name in names.items():
        entries = {key: _whole(value).cpu() for key, value in optimizer.state.get(parameter, {}).items()}
        if entries and trainer.is_world_process_zero():
            state[name] = entries
    return {"shapes": _shapes(names), "state": state}


def save(content: dict[str, Any], folder: Path) -> None:
    import torch

    torch.save(content, folder / OPTIMIZER)


def load(model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Give a fresh optimizer the state that `save` wrote; raise TrainingError where that is of another model."""
    import torch

    saved = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True, mmap=True)
    names = _names(model, optimizer)
    if saved["shapes"] != _shapes(names):
        raise TrainingError(f"optimizer_from {folder} is of another model: its parameters differ in name or shape")
    fresh: dict[str, Any] = optimizer.state_dict()
    numbers = [number for group in fresh["param_groups"] for number in group["params"]]
    state = {
        number: {key: _shard(value, of=parameter) for key, value in saved["state"][name].items()}
        for number, (parameter, name) in zip(numbers, names.items(), strict=True)
        if name in saved["state"]
    }
    optimizer.load_state_dict({"state": state, "param_groups": fresh["param_groups"]})


def _whole(value: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def _shard(value: torch.Tensor, *, of: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of what belongs to a parameter, sharded as that is; a count of steps is whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(of, DTensor) or value.shape != of.shape:
        return value
    return distribute_tensor(value.to(of.device), of.device_mesh, of.placements)


def _names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, str]:
    """Return the name of each parameter that the optimizer has, in its order."""
    name_of: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {parameter: name_of[parameter] for group in optimizer.param_groups for parameter in group["params"]}


def _shapes(names: dict[torch.Tensor, str]) -> dict[str, list[int]]:
    return {name: list(parameter.shape) for parameter, name in names.items()}
