"""Selection stage: classes of the train problems, the traces that a round trains on, and those that may be lucky."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from star_rft.evaluation.trace_audit import flagged_traces
from star_rft.files import write_batches, write_table
from star_rft.frontier.classes import classify
from star_rft.frontier.review import reviews
from star_rft.ledger import PREFERENCES
from star_rft.sampling import temperature_search
from star_rft.sampling.context import RunContext
from star_rft.sampling.writer import VerifierPool
from star_rft.selection.select import SelectionSpec, select

BATCH = 100_000  # rows of a selection in memory at once


@dataclass(frozen=True, slots=True)
class SelectionStage:
    """How a round selects traces. `own` are the indices of the policy's samples.

    `second` opens the second verifier, which judges selected traces as well, or yields None.
    """

    context: RunContext
    spec: SelectionSpec
    own: range
    second: Callable[[], AbstractContextManager[VerifierPool | None]]

    def classify(self, round_index: int) -> None:
        """Write the class of each train problem, by its samples so far, to frontier.parquet."""
        context, path = self.context, self.context.folder.frontier(round_index)
        if not path.exists():
            with context.timing.timed(round_index, "select"):
                found = reviews(context.folder.reviews)
                con = context.ledger.connect()
                write_table(path, classify(con, through_round=round_index, own=self.own, reviews=found))

    def spec_of(self, round_index: int) -> SelectionSpec:
        """Return how a round's traces are selected: by the config, and the threshold that its search found."""
        found = temperature_search.chosen(self.context.folder.temperature_search(round_index))
        if found and found["threshold"] is not None:
            # After `correct`, so that what is wrong is dropped as wrong, and before what ranks, dedups or caps.
            rules = tuple(self.spec.rules)
            return replace(self.spec, rules=(*rules[:1], {"threshold": found["threshold"]}, *rules[1:]))
        return self.spec

    def select(self, round_index: int) -> None:
        """Write which traces are selected, the preferences between them, and which may be right by luck."""
        context = self.context
        path, flagged_path = context.folder.selection(round_index), context.folder.flagged(round_index)
        if path.exists() and flagged_path.exists():
            return
        with context.timing.timed(round_index, "select"):
            chosen = select(context.ledger.connect(), self.spec_of(round_index), round_index=round_index)
            write_batches(
                context.folder.preferences(round_index), chosen.preferences.to_arrow_reader(BATCH), PREFERENCES
            )
            write_batches(path, chosen.traces.to_arrow_reader(BATCH))
            with self.second() as second:
                references = {problem.id: problem.reference for problem in context.train_problems}
                flagged = flagged_traces(
                    context.ledger.connect(), round_index=round_index, references=references, second=second
                )
            write_table(flagged_path, flagged.table)
