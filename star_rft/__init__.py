"""star-rft: train a language model on its own verified attempts.

>>> import star_rft
>>> for report in star_rft.run("configs/rft.yaml", {"sample.n": 16}):
...     print(report.round, report.pass_at_1)

Every name here is loaded when it is first used; importing `star_rft` loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from star_rft.progress import import_tqdm

if TYPE_CHECKING:
    from star_rft.api import (
        evaluate,
        export,
        fork,
        load_config,
        load_problems,
        open_run,
        run,
        run_seeds,
        sample,
    )
    from star_rft.api.handle import Run
    from star_rft.config import Config
    from star_rft.engines.registry import EngineContext, engine
    from star_rft.errors import RunError, RunFailure, UserError
    from star_rft.experiments.compare import Comparison, compare
    from star_rft.models.spec import ModelSpec
    from star_rft.progress import Progress
    from star_rft.scorers.registry import ScorerContext, scorer
    from star_rft.selection.registry import rule
    from star_rft.statistics import bootstrap, crossed, paired, pass_at_k
    from star_rft.training.registry import CompletionPairs, objective
    from star_rft.types import (
        Completion,
        Decoding,
        HeldOutScores,
        Interval,
        Problem,
        Request,
        RoundReport,
        Sample,
        Sampler,
        Scorer,
        Trace,
    )
    from verifiers import Verdict, Verifier
    from verifiers import register as verifier

__version__ = "0.1.0"

# Where each public name lives; a name of its own there where it differs.
_HOMES = {
    "star_rft.api": "evaluate export fork load_config load_problems open_run run run_seeds sample",
    "star_rft.api.handle": "Run",
    "star_rft.config": "Config",
    "star_rft.engines.registry": "EngineContext engine",
    "star_rft.errors": "RunError RunFailure UserError",
    "star_rft.experiments.compare": "Comparison compare",
    "star_rft.models.spec": "ModelSpec",
    "star_rft.progress": "Progress",
    "star_rft.scorers.registry": "ScorerContext scorer",
    "star_rft.selection.registry": "rule",
    "star_rft.statistics": "bootstrap crossed paired pass_at_k",
    "star_rft.training.registry": "CompletionPairs objective",
    "star_rft.types": (
        "Completion Decoding HeldOutScores Interval Problem Request RoundReport Sample Sampler Scorer Trace"
    ),
    "verifiers": "Verdict Verifier verifier=register",
}
_PLACES = {
    name.partition("=")[0]: (home, name.partition("=")[2] or name)
    for home, names in _HOMES.items()
    for name in names.split()
}

__all__ = [
    "Comparison",
    "Completion",
    "CompletionPairs",
    "Config",
    "Decoding",
    "EngineContext",
    "HeldOutScores",
    "Interval",
    "ModelSpec",
    "Problem",
    "Progress",
    "Request",
    "RoundReport",
    "Run",
    "RunError",
    "RunFailure",
    "Sample",
    "Sampler",
    "Scorer",
    "ScorerContext",
    "Trace",
    "UserError",
    "Verdict",
    "Verifier",
    "bootstrap",
    "compare",
    "crossed",
    "engine",
    "evaluate",
    "export",
    "fork",
    "load_config",
    "load_problems",
    "objective",
    "open_run",
    "paired",
    "pass_at_k",
    "rule",
    "run",
    "run_seeds",
    "sample",
    "scorer",
    "verifier",
]

import_tqdm()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'star_rft' has no attribute {name!r}; it gives {', '.join(__all__)}")
    from importlib import import_module

    home, own = _PLACES[name]
    found = getattr(import_module(home), own)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
