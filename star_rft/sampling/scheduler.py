"""Plans a round wave by wave: asks the budget with the counts that the ledger holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import pyarrow as pa

from star_rft.frontier.budget import Budget
from star_rft.frontier.counts import count_samples
from star_rft.sampling.context import RunContext
from star_rft.sampling.plan import Unit, read_plan, write_plan
from star_rft.sampling.policy import Source
from star_rft.sampling.rollout import Rollout
from star_rft.types import Model, Problem

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Scheduler:
    """`tokens` is what a round's train samples may take in all. `key` and `rounds` say which traces count as distinct.

    With `escalates` a source is asked only when those before it are finished, and only for the problems that they
    leave without a correct trace; else every source is asked for every problem.
    """

    rollout: Rollout
    budget: Budget
    tokens: int | None
    key: str
    rounds: str
    escalates: bool

    @property
    def context(self) -> RunContext:
        return self.rollout.context

    def next(
        self, round_index: int, policy: Model, problems: Sequence[Problem], sources: Sequence[Source]
    ) -> list[Unit]:
        """Return the units of the first wave that is not drawn yet, planning it if need be; none: all is drawn."""
        committed = self.context.ledger.units().keys()
        for wave in count():
            path = self.context.folder.plan(round_index, wave)
            if not path.exists():
                tables = self._tables(round_index, wave, policy, problems, sources)
                if wave > 0 and not any(table.num_rows for table in tables):
                    return []
                write_plan(path, tables)
            units = read_plan(path)
            if any(unit.name not in committed for unit in units):
                return units
        raise AssertionError("unreachable: count() does not end")

    def tokens_left(self, round_index: int) -> int | None:
        """Return what is left of the round's tokens; None where there is no limit."""
        if self.tokens is None:
            return None
        query = "select coalesce(sum(tokens), 0) from samples where split = 'train' and round = ?"
        ((spent,),) = self.context.ledger.connect().execute(query, [round_index]).fetchall()
        return self.tokens - int(spent)

    def _tables(
        self, round_index: int, wave: int, policy: Model, problems: Sequence[Problem], sources: Sequence[Source]
    ) -> list[pa.Table]:
        con = self.context.ledger.connect()
        tokens_left = self.tokens_left(round_index)
        tables = []
        for source in sources:
            counts = count_samples(
                con,
                [problem.id for problem in problems],
                round_index=round_index,
                sample_indices=source.sample_indices,
                key=self.key,
                rounds=self.rounds,
                seed=self.context.seed,
                has_quarantine=self.context.has_quarantine,
            )
            max_tokens = max(decoding.max_tokens for decoding in source.decodings)
            allotted_P = self.budget.allot(counts, tokens_left=tokens_left, max_tokens=max_tokens)
            begins = counts.samples_P
            tables.append(
                self.rollout.planned(
                    round_index, "train", source, policy, problems, counts=allotted_P, begins=begins, wave=wave
                )
            )
            if tokens_left is not None:
                tokens_left -= int(allotted_P.sum()) * max_tokens
            if self.escalates:
                if allotted_P.any():
                    break
                problems = [p for p, is_open in zip(problems, counts.distinct_P == 0, strict=True) if is_open]
        return tables


def affordable(problems: Sequence[Problem], *, n: int, max_tokens: int, tokens_left: int | None) -> Sequence[Problem]:
    """Return as many of the problems as can be asked `n` times with what is left."""
    return problems if tokens_left is None else problems[: max(0, tokens_left) // (n * max_tokens)]
