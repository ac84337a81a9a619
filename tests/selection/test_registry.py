"""Rules as plug-ins: names that are taken, and functions that are no rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from star_rft.selection.candidates import RuleError
from star_rft.selection.registry import RULES, bound, rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from star_rft.selection.candidates import CandidateTable


def untyped(pool, *, words=3):
    """Its option has no annotation, so any value will do."""


def typed_for_checkers_only(pool: CandidateTable, *, words: Sequence[str] = ()) -> None:
    """Its annotations are names that only type checkers import."""


def with_any_option(pool: object, **options: object) -> None: ...


def without_pool(*, words: int) -> None: ...


class Brief:
    def __init__(self, pool: object) -> None: ...


WORDS = 3


@pytest.mark.parametrize("name", ["untyped", "typed_for_checkers_only"])
def test_annotations_that_are_missing_or_cannot_be_evaluated_allow_any_value(name: str) -> None:
    (call,) = bound([{f"{__name__}:{name}": {"words": "many"}}])
    assert call.keywords == {"words": "many"}


@pytest.mark.parametrize("name", ["with_any_option", "without_pool", "Brief", "WORDS"])
def test_what_is_no_rule_is_refused_when_it_is_named(name: str) -> None:
    with pytest.raises(RuleError, match=r"must be a function \(pool, \*, options\), but "):
        bound([f"{__name__}:{name}"])


def test_a_name_of_a_built_in_rule_is_refused_where_it_is_taken_and_not_later() -> None:
    with pytest.raises(RuleError, match=r"the name .cap. is taken by star_rft\.selection\.rules:cap; choose another"):

        @rule
        def cap(pool: object) -> None: ...

    assert RULES.get("cap").function.__module__ == "star_rft.selection.rules"
