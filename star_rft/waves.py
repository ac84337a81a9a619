"""A round's samples, wave by wave: each is planned from the verdicts of those before it, and drawn whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import pyarrow as pa

from star_rft.drawing import Drawing
from star_rft.frontier.budget import Budget
from star_rft.frontier.plan import Unit, read_plan, write_plan
from star_rft.frontier.seen import seen
from star_rft.runs.folder import RunFolder
from star_rft.sources import Source
from star_rft.types import Model, Problem


@dataclass(frozen=True, slots=True)
class Waves:
    """`tokens` is what a round's train samples may take in all. `key` and `rounds` say which traces count as distinct.

    With `escalates` a source is asked only when those before it are finished, and only for the problems that they
    leave without a correct trace; else every source is asked for every problem.
    """

    folder: RunFolder
    drawing: Drawing
    budget: Budget
    tokens: int | None
    key: str
    rounds: str
    escalates: bool
    holds_out_suspects: bool

    def next(self, round: int, policy: Model, problems: Sequence[Problem], sources: Sequence[Source]) -> list[Unit]:
        """Return the units of the first wave that is not drawn yet, planning it if need be; none: all is drawn."""
        committed = self.drawing.ledger.units().keys()
        for wave in count():
            path = self.folder.plan(round, wave)
            if not path.exists():
                tables = self._tables(round, wave, policy, problems, sources)
                if wave > 0 and not any(table.num_rows for table in tables):
                    return []
                write_plan(path, tables)
            units = read_plan(path)
            if any(unit.name not in committed for unit in units):
                return units
        raise AssertionError("unreachable: count() does not end")

    def tokens_left(self, round: int) -> int | None:
        """Return what is left of the round's tokens; None where there is no limit."""
        if self.tokens is None:
            return None
        query = "select coalesce(sum(tokens), 0) from samples where split = 'train' and round = ?"
        ((spent,),) = self.drawing.ledger.connect().execute(query, [round]).fetchall()
        return self.tokens - int(spent)

    def _tables(
        self, round: int, wave: int, policy: Model, problems: Sequence[Problem], sources: Sequence[Source]
    ) -> list[pa.Table]:
        con = self.drawing.ledger.connect()
        tokens_left = self.tokens_left(round)
        tables = []
        for source in sources:
            counts = seen(
                con,
                [problem.id for problem in problems],
                round=round,
                attempts=source.attempts,
                key=self.key,
                rounds=self.rounds,
                seed=self.drawing.seed,
                held_out=self.holds_out_suspects,
            )
            max_tokens = max(decoding.max_tokens for decoding in source.decodings)
            allotted_N = self.budget.allot(counts, tokens_left=tokens_left, max_tokens=max_tokens)
            begins = counts.samples_N
            tables.append(
                self.drawing.planned(
                    round, "train", source, policy, problems, counts=allotted_N, begins=begins, wave=wave
                )
            )
            if tokens_left is not None:
                tokens_left -= int(allotted_N.sum()) * max_tokens
            if self.escalates:
                if allotted_N.any():
                    break
                problems = [p for p, is_open in zip(problems, counts.distinct_N == 0, strict=True) if is_open]
        return tables


def affordable(problems: Sequence[Problem], *, n: int, max_tokens: int, tokens_left: int | None) -> Sequence[Problem]:
    """Return as many of the problems as can be asked `n` times with what is left."""
    return problems if tokens_left is None else problems[: max(0, tokens_left) // (n * max_tokens)]
