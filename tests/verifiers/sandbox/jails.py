"""Jails of every level that this machine has, and one program judged in one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.tiers import fast_only
from verifiers.sandbox import isolation
from verifiers.sandbox.jail import Jail, JailFailure, Outcome, Settings

LIMIT = 1.0  # seconds until a program that hangs is ended
TESTS = (
    "def check(candidate):\n    assert candidate(2) == 5\n    assert candidate(3) == 10\n"
    "    assert candidate(10) == 101\n"
)
RIGHT = "def solve(x):\n    return x * x + 1\n"
REACHED = "def check(candidate):\n    assert candidate(0) == 'REACHED'\n"
TRY = "def solve(x):\n    try:\n        {attack}\n        return 'REACHED'\n    except OSError:\n        return 'no'\n"


LEVELS = fast_only(["jail", "confined"], "jail")


@contextlib.contextmanager
def jail_of(level: str, *, time_limit: float) -> Iterator[Jail]:
    """Open a jail of a level. Root cannot confine a Python in its own home, but the system's."""
    refusals = []
    for python in (isolation.interpreter(), "/usr/bin/python3"):
        for way in isolation.ways(is_unsafe=False, uid=200_123_456):
            if way.level == level:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(isolation, "interpreter", lambda python=python: python)
                    try:
                        opened = Jail(Settings(time_limit=time_limit), way)
                    except (JailFailure, OSError) as error:
                        refusals.append(str(error))
                        continue
                yield opened
                opened.close()
                return
    pytest.skip(f"the level {level!r} cannot be reached here: {refusals or 'no bubblewrap'}")


def judge(jail: Jail, program: str, tests: str = TESTS) -> Outcome:
    return jail.test(program, tests, "solve")
