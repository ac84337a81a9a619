"""A round's report, and a run's settings, as flat values by name: what trackers log."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from star_rft.evaluation.trace_audit import KINDS
from star_rft.frontier.classes import CLASSES
from star_rft.frontier.history import Transition
from star_rft.types import RoundReport

# Counts by kind leave out kinds without problems or traces; these are logged as 0, so that their curves fall to 0.
COUNTED: Mapping[str, Sequence[str]] = {"classes": CLASSES, "transitions": get_args(Transition), "flagged": KINDS}


def metrics_of(report: RoundReport) -> dict[str, float | int | str]:
    """Return a round's report as flat numbers by name, with the gate's decision as text; None is left out.

    The bounds of an interval have its name with `_low` and `_high`; `pass_at_k` of 4 is `pass_at_4`.
    """
    fields = asdict(report)
    gate = fields.pop("gate") or {}
    groups: dict[str, Any] = {name: fields.pop(name) or {} for name in ("held_out", "test")}
    share = fields.pop("unsolved_share_interval")
    groups |= {name: fields.pop(name) for name, value in dict(fields).items() if isinstance(value, dict)}
    groups |= {name: dict.fromkeys(kinds, 0) | groups[name] for name, kinds in COUNTED.items() if groups[name]}
    if fields.pop("round") > 0:  # round 0 only evaluates
        groups["round"] = {**fields, "unsolved_share": share}
    found = {name: value for group, values in groups.items() for name, value in _flat(group, values)}
    found["seconds/all"] = sum(report.seconds.values())
    decided = {name: gate[name] for name in ("action", "rule", "model_round") if name in gate}
    decided |= {"rolled_back": int(gate["rolled_back"])} if gate else {}
    return found | {f"gate/{name}": value for name, value in decided.items()}


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting with its dotted name; lists are JSON, None is left out."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", json.dumps(value)
        elif value is not None:
            yield f"{prefix}{key}", value


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float | int]]:
    for key, value in values.items():
        # Some trackers refuse other characters, which a user's group of problems may have.
        name = prefix + "/" + re.sub(r"[^A-Za-z0-9_.\- ]", "_", key)
        if isinstance(value, Mapping) and value.keys() == {"value", "low", "high"}:
            stem = name.removesuffix("_interval")
            yield from [(stem, value["value"]), (f"{stem}_low", value["low"]), (f"{stem}_high", value["high"])]
        elif key in ("pass_at_k", "maj_at_k"):
            yield from ((f"{name[:-1]}{k}", share) for k, share in value.items())
        elif isinstance(value, Mapping):
            yield from _flat(name, value)
        elif isinstance(value, int | float) and math.isfinite(value):
            yield name, value
