"""The programs of benchmarks/ as modules: they import each other as scripts of one folder do."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from tests.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


def benchmark(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))
