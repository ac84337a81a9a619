"""The configs of published methods that come with star-rft, and their settings in a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_rft.config.training import name_of


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe's line in the table of `star-rft recipes` and docs/recipes.md: short texts for people."""

    name: str
    title: str
    paper: str
    sampling: str
    selection: str
    training: str
    rounds: str
    run: str


def row(config: Mapping[str, Any]) -> Row:
    """Return the row of a config, given as `config.model_dump(by_alias=True)`."""
    about = config["about"] or {"title": config["name"], "paper": "", "run": ""}
    return Row(
        name=config["name"],
        title=about["title"],
        paper=about["paper"],
        sampling=_sampling(config),
        selection=_selection(config),
        training=_training(config),
        rounds=str(config["rounds"]),
        run=about["run"],
    )


def recipe_files() -> list[Path]:
    """Return the files of the configs that come with star-rft."""
    return sorted((Path(__file__).parent / "configs").glob("*.yaml"))


def headline(path: Path) -> str:
    """Return the first line of a config file: a comment that says in a sentence what it does."""
    return path.read_text().partition("\n")[0].lstrip("# ")


def rule_text(rule: str | Mapping[str, Any]) -> str:
    """Return a selection rule as short text: "dedup equations, prefer furthest"."""
    if isinstance(rule, str):
        return rule
    ((name, options),) = rule.items()
    if not isinstance(options, Mapping):
        return f"{name} {options}"
    if not options:
        return str(name)
    (_, value), *rest = options.items()
    return ", ".join([f"{name} {_value(value)}", *(f"{key} {_value(value)}" for key, value in rest)])


def _sampling(config: Mapping[str, Any]) -> str:
    sample = config["sample"] if config["rounds"] else config["eval"]
    parts = [f"n={sample['n']}", f"T={_value(sample['temperature'])}"]
    parts += [f"top-p {_value(sample['top_p'])}"] if sample["top_p"] != 1.0 else []
    parts += [f"top-k {sample['top_k']}"] if sample["top_k"] else []
    parts += [f"{sample['problems']} problems a round"] if sample.get("problems") else []
    parts += [f"{len(sample['models'])} models"] if len(sample.get("models", ())) > 1 else []
    parts += ["temperature search"] if config["temperature_search"] else []
    parts += ["hints"] if config["rationalize"] else []
    return ", ".join(parts)


def _selection(config: Mapping[str, Any]) -> str:
    if not config["rounds"]:
        return "none"
    select, scorer = config["select"], config["scorer"]
    parts = [f"{scorer['name']} scores{' and decides' if scorer['decides'] else ''}"] if scorer else []
    parts += [" > ".join(map(rule_text, select["rules"]))]
    parts += ["all rounds"] if select["rounds"] == "all" and config["rounds"] > 1 else []
    parts += ["reference solutions added"] if select["reference_solutions"] else []
    return "; ".join(parts)


def _training(config: Mapping[str, Any]) -> str:
    if not config["rounds"]:
        return "none"
    parts = ["warm start"] if config["warm_start"] else []
    if train := config["train"]:
        length = counted(train["max_steps"], "step") if train["max_steps"] else counted(train["epochs"], "epoch")
        length += f", {train['step_growth']:g}x a round" if train["step_growth"] > 1 else ""
        weights = "" if train["weighting"] == "uniform" else f", weights {train['weighting']}"
        goes_on = ", optimizer goes on" if train["optimizer"] == "continue" else ""
        parts += [f"SFT from {train['from']}: {length}, lr {train['lr']:g}{weights}{goes_on}"]
    if compare := config["preference"]:
        what = f"{name_of(compare['objective']).upper()} from {compare['from']}"
        parts += [f"{what}{' (a verifier)' if compare['makes'] == 'verifier' else ''}, lr {compare['lr']:g}"]
    return "; ".join(parts)


def counted(number: float, what: str) -> str:
    """Return a number with its noun, "1 step" or "2.5 epochs"."""
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _value(value: Any) -> str:
    return "/".join(map(_value, value)) if isinstance(value, list | tuple) else str(value)
