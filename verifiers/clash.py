"""Refusal of an environment that also holds the unrelated distribution `verifiers`, of the same import name."""

from __future__ import annotations

import os
import sys
import warnings

_ADVICE = (
    "The unrelated PyPI distribution 'verifiers' is installed in {place}. It and star-rft both install an "
    "import package named 'verifiers' and cannot share an environment. Run `pip uninstall verifiers`, then "
    "`pip install --force-reinstall --no-deps star-rft`, or give each an environment of its own."
)


def foreign_install() -> str | None:
    """Return the folder of sys.path that holds the other distribution, or None.

    It lists folders, because the import of importlib.metadata alone takes 17 ms.
    """
    for entry in sys.path:
        folder = entry or "."
        if not os.path.isdir(folder):
            continue
        for name in os.listdir(folder):
            if name.startswith("verifiers-") and name.endswith((".dist-info", ".egg-info")):
                return folder
    return None


def refuse_mixed_install() -> None:
    """Raise ImportError where both are installed in one folder; warn where one shadows the other."""
    place = foreign_install()
    if place is None:
        return
    ours = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if os.path.realpath(place) == ours:
        raise ImportError(_ADVICE.format(place=place))
    warnings.warn(_ADVICE.format(place=place), RuntimeWarning, stacklevel=3)
