"""Plans a round wave by wave: each wave by the budget, from the counts of verdicts in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import pyarrow as pa

from star_rft.frontier.budget import Budget
from star_rft.frontier.counts import count_samples
from star_rft.sampling.context import RunContext
from star_rft.sampling.plan import Unit, read_plan, write_plan
from star_rft.sampling.policy import Source
from star_rft.sampling.rollout import Rollout
from star_rft.types import Model, Problem


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Makes the plan of each wave of a round.

    `tokens` is the most that a round's train samples may take together. `key` and `rounds` say which traces count as
    distinct. With `escalates` a source samples only when those before it are finished, and only the problems that they
    leave without a correct trace; else every source samples every problem.
    """

    rollout: Rollout
    budget: Budget
    tokens: int | None
    key: str
    rounds: str
    escalates: bool

    @property
    def context(self) -> RunContext:
        """The run's context, as the rollout has it."""
        return self.rollout.context

    def next(
        self, round_index: int, policy: Model, problems: Sequence[Problem], sources: Sequence[Source]
    ) -> list[Unit]:
        """Return the units of the first wave that is not drawn yet; an empty list when the round is finished.

        Existing plans are read. The first wave without one is planned and written.
        """
        committed = self.context.ledger.units().keys()
        for wave in count():
            path = self.context.folder.plan(round_index, wave)
            if not path.exists():
                tables = self._tables(round_index, wave, policy, problems, sources)
                if wave > 0 and not any(table.num_rows for table in tables):  # an empty first plan is written
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
            # The tokens of samples that are not drawn yet are unknown: each is counted with its limit.
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
    """Return as many of the first problems as can be sampled `n` times with the tokens that are left."""
    return problems if tokens_left is None else problems[: max(0, tokens_left) // (n * max_tokens)]
