"""What is different when star-rft is imported in a notebook."""

from __future__ import annotations

import sys


def import_tqdm() -> None:
    """Import tqdm in a notebook without its advice to install ipywidgets.

    transformers imports tqdm for bars that star-rft never shows, and the advice would be the first output of a run.
    """
    if "ipykernel" not in sys.modules:
        return
    import warnings
    from importlib import import_module

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import_module("tqdm.auto")
