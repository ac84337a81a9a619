"""Which rounds of a run an export is about."""

from __future__ import annotations

from star_rft.errors import RunError
from star_rft.folder import RunFolder
from star_rft.record import read


def chosen_rounds(folder: RunFolder, *, number: int | None = None, every: bool = False) -> list[int]:
    """Return the round that was asked for, all that selected something, or the round of the model to use.

    The model to use is the one that the last decision of the gate went on from; without a gate it is the newest.
    Raises RunError where there is no such round.
    """
    there = [found for found in _numbers(folder) if folder.selection(found).exists()]
    if not there:
        raise RunError(
            f"{folder.path}: no round has selected anything to train on yet: star-rft run {folder.path} first"
        )
    if every:
        return there
    if number is None:
        number = _of_the_model_to_use(folder, there)
    if number not in there:
        why = "round 0 is the model that the loop began with" if number == 0 else f"round {number} has no selection"
        raise RunError(f"{folder.path}: {why}, so nothing was trained on in it; --round takes {_listed(there)}")
    return [number]


def _of_the_model_to_use(folder: RunFolder, there: list[int]) -> int:
    finished = [found for found in folder.finished_rounds() if found > 0]
    gate = read(folder.metrics(finished[-1])).gate if finished else None
    if gate is None:
        return there[-1]
    if gate["model_round"] == 0:
        raise RunError(
            f"{folder.path}: every round was rolled back, so the model to use is the one that the loop began with, and"
            f" nothing was trained on for it; name a round: --round takes {_listed(there)}"
        )
    return int(gate["model_round"])


def _numbers(folder: RunFolder) -> list[int]:
    names = (path.name for path in (folder.path / "rounds").glob("*"))
    return sorted(int(name) for name in names if name.isdigit())


def _listed(rounds: list[int]) -> str:
    return ", ".join(map(str, rounds))
