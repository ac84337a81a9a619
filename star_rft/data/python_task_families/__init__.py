"""The families of the built-in programming tasks."""

from __future__ import annotations

from star_rft.data.python_task_families.family import Family
from star_rft.data.python_task_families.on_lists import ON_LISTS
from star_rft.data.python_task_families.on_numbers import ON_NUMBERS
from star_rft.data.python_task_families.on_scores import ON_SCORES
from star_rft.data.python_task_families.on_texts import ON_TEXTS

FAMILIES = (*ON_NUMBERS, *ON_LISTS, *ON_TEXTS, *ON_SCORES)

__all__ = ["FAMILIES", "Family"]
