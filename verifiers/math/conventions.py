"""Conventions on when two answers are equal, where mathematics alone does not decide. Each is an option of `math`."""

from __future__ import annotations

from dataclasses import dataclass

UNITS = ("optional", "required", "ignored")


@dataclass(frozen=True, slots=True)
class Conventions:
    """Values of the options of the verifier `math`, whose docstring says what each means."""

    percent: bool = True
    units: str = "optional"
    ordered: bool = False
    decimals: int = 6
    decimal_comma: bool = False
    case_sensitive: bool = False
    names: bool = True


DEFAULT = Conventions()
