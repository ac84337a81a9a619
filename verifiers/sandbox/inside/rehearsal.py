"""One trial played through in the zygote, with both sides' lines written beforehand.

Python warms up what it runs for the first time: modules, caches, specialised bytecode. Done here it is done once, and
not in every child, where each page it touches is a page to copy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from verifiers.sandbox.inside import candidate, judge
from verifiers.sandbox.inside.wire import HEADER, Channel

_PROGRAM = "def solve(x):\n    return [x, 'two', 3.0]\n"
_TESTS = "def check(candidate):\n    assert candidate(1) == [1, 'two', 3.0]\n    assert candidate(x=2)[0] == 2\n"
_REQUESTS: list[Any] = [
    {"q": "global", "a": ["solve"]},
    {"q": "call", "a": [{"yours": 0}, {"t": [1]}, {"d": []}]},
    {"q": "call", "a": [{"yours": 0}, {"t": []}, {"d": [["x", 2]]}]},
    {"q": "call", "a": [{"yours": 0}, {"t": [1, 2]}, {"d": []}]},
]
_RESPONSES: list[Any] = [
    {"v": None},
    {"v": {"mine": 0}},
    {"v": {"l": [1, "two", 3.0]}},
    {"v": {"l": [2, "two", 3.0]}},
]
# Python specialises what has run some dozen times.
_TIMES = 60


def rehearse() -> None:
    for _ in range(_TIMES):
        with _recorded(_REQUESTS) as channel:
            candidate.answer_calls(_PROGRAM, channel)
        with _recorded(_RESPONSES) as channel:
            outcome = judge.judge(judge.prepare(_TESTS, "solve", ""), channel)
        assert outcome[0] == "correct", outcome
    del sys.modules[candidate.MODULE]


@contextmanager
def _recorded(messages: list[Any]) -> Iterator[Channel]:
    """Yield a channel on which the other side has said all it has to say."""
    read, write = os.pipe()
    for message in messages:
        body = json.dumps(message).encode()
        os.write(write, HEADER.pack(len(body)) + body)
    os.close(write)
    channel = Channel(read, os.open(os.devnull, os.O_WRONLY))
    channel.deadline = time.monotonic() + 60
    yield channel
    channel.close()
