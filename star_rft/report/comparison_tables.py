"""A comparison of runs in a terminal: scores with their intervals, and the differences from the first model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from star_rft.experiments.compare import Comparison
from star_rft.report.tables import signed, slim_table
from star_rft.types import Interval

NAME_SHOWN = 16  # characters of a run's name in a column's title


def comparison_table(found: Comparison, measures: Sequence[str]) -> Table:
    """Return a row a model and measure; a difference is bold if its interval leaves out 0. Fits 80 columns."""
    first, *others = found.models
    title = f"Held-out scores on data.{found.split}: {found.problems:,} problems, {found.n} samples of each"
    against = f"minus {first.name}" if len(first.name) <= NAME_SHOWN else "minus the first"
    table = slim_table(title, "model", "measure", "score", against)
    table.columns[0].no_wrap, table.columns[0].justify = False, "left"
    for model in (first, *others):
        table.add_section()
        for place, measure in enumerate(measures):
            difference = model.differences.get(measure)
            shown = "" if difference is None else signed(difference)
            name = model.name if place == 0 else ""
            table.add_row(
                name, measure, str(model.scores[measure]), shown, style="bold" if _is_sure(difference) else ""
            )
    return table


def comparison_lines(found: Comparison) -> Iterator[str]:
    """Yield notes on the table: where curves cross, what intervals are over, what else differs."""
    first = found.models[0]
    for model in found.models[1:]:
        for at, how in ((model.below_at, "below"), (model.above_at, "above")):
            if at is not None and at > 1:
                yield f"{model.name}: mean pass@k is {how} that of {first.name} at k = {at}, and at no smaller k."
    is_over_seeds = any(len(model.seeds) > 1 for model in found.models)
    over = "problems and training seeds" if is_over_seeds else "problems"
    yield f"Intervals: 95%, over {over}; differences are paired by problem."
    yield from (f"Note: {note}." for note in found.notes)


def shown_measures(found: Comparison, *, all_of_them: bool) -> list[str]:
    """Return the measures that are shown by default: pass@1, and pass@k and maj@k of the largest k."""
    if all_of_them:
        return list(found.measures)
    largest = max(int(name.partition("@")[2]) for name in found.measures if "@" in name)
    wanted = dict.fromkeys(("pass@1", f"pass@{largest}", f"maj@{largest}"))
    return [name for name in wanted if name in found.measures]


def _is_sure(difference: Interval | None) -> bool:
    return difference is not None and (difference.low > 0 or difference.high < 0)
