"""A jail of each level, opened once for a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.verifiers.sandbox.jails import LEVELS, LIMIT, jail_of
from verifiers.sandbox.jail import Jail


@pytest.fixture(scope="module", params=LEVELS)
def jail(request: pytest.FixtureRequest) -> Iterator[Jail]:
    with jail_of(request.param, time_limit=2.0) as opened:
        yield opened


@pytest.fixture(scope="module", params=LEVELS)
def hasty(request: pytest.FixtureRequest) -> Iterator[Jail]:
    """A jail for programs that hang: each is ended after a second."""
    with jail_of(request.param, time_limit=LIMIT) as opened:
        yield opened
