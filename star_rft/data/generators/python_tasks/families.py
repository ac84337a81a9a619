"""The families of the built-in programming tasks."""

from __future__ import annotations

from star_rft.data.generators.python_tasks.family import Family
from star_rft.data.generators.python_tasks.lists import ON_LISTS
from star_rft.data.generators.python_tasks.numbers import ON_NUMBERS
from star_rft.data.generators.python_tasks.scores import ON_SCORES
from star_rft.data.generators.python_tasks.texts import ON_TEXTS

FAMILIES = (*ON_NUMBERS, *ON_LISTS, *ON_TEXTS, *ON_SCORES)

__all__ = ["FAMILIES", "Family"]
