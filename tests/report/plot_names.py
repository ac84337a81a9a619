"""The plots of a report."""

from __future__ import annotations

# What a page of a finished run draws; `curves` need more than one sample a problem, `by_group` groups.
PLOTS = {
    "by_round",
    "curves",
    "by_group",
    "coverage",
    "flows",
    "funnel",
    "distinct_solutions",
    "kl",
    "lengths",
    "seconds",
    "tokens",
    "timeline",
}
