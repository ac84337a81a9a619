"""One config run with several training seeds, each in a folder of its own, and the runs compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from star_rft import config as configs
from star_rft.config import Config
from star_rft.errors import UserError
from star_rft.experiments.compare import Comparison, compare
from star_rft.experiments.fork import fork, fork_config
from star_rft.runs.folder import RunFolder


def seed_configs(config: Config, seeds: Sequence[int], *, own_samples: bool = False) -> list[Config]:
    """Return a config for each seed: its run is called NAME-seedN, and so is its folder.

    Args:
        config: The config to run; its own seed is not used.
        seeds: Two or more different seeds.
        own_samples: Whether each run draws its own samples of round 1. Else all but the first are forks of the first.

    Raises:
        UserError: The seeds are not two or more different whole numbers, or the config trains nothing.
    """
    is_whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not is_whole or len(set(seeds)) < max(2, len(seeds)):
        raise UserError(f"seeds {list(seeds)} must be two or more different whole numbers from 0 on")
    if config.rounds == 0:
        raise UserError("with rounds: 0 nothing is trained, so all seeds would be one model")
    folder, made = config.folder, list[Config]()
    for seed in seeds:
        place = folder.with_name(f"{folder.name}-seed{seed}")
        source = str(made[0].folder) if made and not own_samples else None
        about = {"seed": seed, "name": f"{config.name}-seed{seed}", "run_dir": str(place), "forked_from": source}
        made.append(config.model_copy(update=about))
    return made


def compare_seeds(runs: Sequence[Config], run: Callable[[Config], object]) -> Comparison:
    """Run or resume each config of `seed_configs`, and compare the runs with the model that they start from.

    Args:
        runs: The configs, from `seed_configs`.
        run: Runs a config to its end, in its folder.

    Returns:
        The comparison. Its first model is the start, its second the runs as one model over their seeds.

    Raises:
        UserError: A run was begun with samples of another origin, or a fork cannot be made.
    """
    for config in runs:
        _check_origin(config)
        if config.forked_from is not None and not RunFolder(config.folder).config.exists():
            first = RunFolder(runs[0].folder)
            fork(first, fork_config(first, config.name, {"seed": config.seed}, folder=config.folder))
        run(config)
    starts = [config.folder for config in runs if config.forked_from is None]
    return compare([*(f"{start}:0" for start in starts), *(str(config.folder) for config in runs)])


def _check_origin(config: Config) -> None:
    folder = RunFolder(config.folder)
    if folder.config.exists() and (was := configs.load(folder.config).forked_from) != config.forked_from:
        how = f"with the samples of {was}" if was else "with samples of its own (--own-samples)"
        raise UserError(f"{folder.path}: was begun {how}: repeat the command as it was, or use another name")
