"""The faults of scripts/mutations.py can be planted; that the tests find them is for that script to say."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.paths import ROOT


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", ROOT / "scripts" / "mutations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = _script()


@pytest.mark.parametrize("mutation", [*script.MUTATIONS, *script.RESERVE], ids=lambda mutation: mutation.name)
def test_a_fault_changes_its_file_and_leaves_it_a_program(mutation: Any) -> None:
    text = (ROOT / mutation.path).read_text()
    mutated = mutation.mutated(text)
    assert mutated != text
    compile(mutated, mutation.path, "exec")


def test_a_text_that_is_not_there_exactly_once_is_refused() -> None:
    mutation = script.Mutation("any", "any.py", "a", "b")
    assert mutation.mutated("cat") == "cbt"
    for text in ("dog", "banana"):
        with pytest.raises(ValueError, match=r"any.py has the text \d times"):
            mutation.mutated(text)


def test_there_are_twenty_faults_with_names_of_their_own() -> None:
    names = [mutation.name for mutation in (*script.MUTATIONS, *script.RESERVE)]
    assert len(script.MUTATIONS) == 20
    assert len(set(names)) == len(names)
