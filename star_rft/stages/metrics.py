"""The report of a round, with the gate's decision, from the ledger and the files of the round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from star_rft.data import Prompter
from star_rft.errors import RunError
from star_rft.evaluation import evaluate
from star_rft.evaluation.diversity import diversity
from star_rft.evaluation.evaluate import HeldOutSampling
from star_rft.evaluation.gate import Decision, Gate, Signs, decide, evaluated
from star_rft.evaluation.kl import kl_to_base, length_change, own_samples, reference_solutions
from star_rft.models.spec import ModelSpec
from star_rft.runs.reports import frontier_figures, is_ended, read_report, selection_figures, train_figures
from star_rft.sampling import temperature_search
from star_rft.sampling.context import RunContext
from star_rft.training.dataset import Mixture
from star_rft.types import HeldOutScores, Model, Problem, RoundReport, Split


@dataclass(frozen=True, slots=True)
class RoundMetrics:
    """Makes the report of a round, with the gate's decision.

    `start` is the model of round 0, from which KL is measured on `kl_traces` traces; `mixture` and `anchor` are what is
    added to the selected traces of a round.
    """

    context: RunContext
    start: ModelSpec
    prompter: Prompter
    sampling: HeldOutSampling
    gate: Gate | None
    kl_traces: int
    mixture: Mixture
    anchor: Sequence[Problem]

    def report(self, round_index: int, policy: Model) -> RoundReport:
        """Return the report of a round, without its seconds."""
        scored = {
            split: self._scores(round_index, split) for split in ("dev", "test") if self.context.problems.get(split)
        }
        figures = self._of_training(round_index) if round_index > 0 else {}
        figures["kl"] = self._kl(round_index, policy)
        decision = self._decision(round_index, figures)
        return RoundReport(
            round=round_index,
            model=self.context.engine.fingerprint(policy),
            problems=len(self.context.train_problems),
            held_out=scored.get("dev", scored.get("test")),
            test=scored.get("test"),
            gate=None if decision is None else asdict(decision),
            **figures,
        )

    def recorded(self, round_index: int) -> RoundReport | None:
        """Return a round's report from its metrics.json; None where the round is not finished."""
        path = self.context.folder.metrics(round_index)
        return read_report(path) if path.exists() else None

    def ends(self, report: RoundReport) -> bool:
        """Return whether the run ends with this round, by the gate's patience in the current config."""
        return is_ended(report, None if self.gate is None else self.gate.patience)

    def _of_training(self, round_index: int) -> dict[str, Any]:
        con, problems = self.context.ledger.connect(), self.context.train_problems
        quarantined = self.context.quarantined(round_index)
        count, group_by = len(problems), self.sampling.group_by
        figures = train_figures(con, round_index=round_index, problems=count, group_by=group_by)
        figures |= selection_figures(con, round_index=round_index, problems=count)
        figures |= frontier_figures(con, round_index=round_index)
        anchor = sum(problem.id not in quarantined for problem in self.anchor)
        with_solution = sum(problem.id not in quarantined for problem in problems)
        references, anchors = self.mixture.counts(figures["selected"], problems=with_solution, anchor=anchor)
        figures |= {
            "reference_solutions": references,
            "anchor": anchors,
            "temperature_search": temperature_search.chosen(self.context.folder.temperature_search(round_index)),
        }
        figures["waves"] = len(list(self.context.folder.round(round_index).glob("plan*.parquet")))
        figures["diversity"] = diversity(con, round_index=round_index, seed=self.context.seed)
        return figures

    def _kl(self, round_index: int, policy: Model) -> dict[str, float]:
        """Measure KL on held-out samples, which the new policy drew; a round's train samples are from the old one."""
        split = self.context.held_out_split
        if self.kl_traces == 0 or not self.context.folder.eval(round_index).exists():
            return {}
        con, problems = self.context.ledger.connect(), self.context.problems[split]
        settings: dict[str, Any] = {"prompter": self.prompter, "traces": self.kl_traces, "seed": self.context.seed}
        own = own_samples(
            con,
            round_index=round_index,
            split=split,
            model=self.context.engine.fingerprint(policy),
            problems={problem.id: problem for problem in problems},
            stops=self.prompter.stops(self.sampling.sampled),
            **settings,
        )
        self.context.engine.release()
        items = {"own": own, "reference": reference_solutions(problems, **settings)}
        found = kl_to_base(self.start.at(policy), self.start, items)
        lengths = length_change(con, round_index=round_index, split=split)
        return found | ({"length_ratio": lengths["ratio"]} if "ratio" in lengths else {})

    def _decision(self, round_index: int, figures: Mapping[str, Any]) -> Decision | None:
        if self.gate is None:
            return None
        history = []
        for earlier in range(round_index + 1):
            if not self.context.folder.eval(earlier).exists() or not self.context.problems.get("dev"):
                continue
            rows = evaluate.read(self.context.folder.eval(earlier), "dev")
            past = None if earlier == round_index else self.recorded(earlier)
            measured = figures if past is None else {"diversity": past.diversity, "kl": past.kl}
            is_out = past is not None and past.gate is not None and past.gate["rolled_back"]
            history.append(evaluated(earlier, rows, rolled_back=is_out, signs=_signs(measured)))
        return decide(self.gate, round_index, history)

    def _scores(self, round_index: int, split: Split) -> HeldOutScores | None:
        path = self.context.folder.eval(round_index)
        if not path.exists():
            return None
        earlier = [r for r in range(round_index) if self.context.folder.eval(r).exists()]
        rows = [evaluate.read(self.context.folder.eval(r), split) for r in (*earlier[:1], *earlier[-1:])]
        return evaluate.held_out_scores(
            evaluate.read(path, split),
            split=split,
            ks=self.sampling.ks,
            base=rows[0] if rows else None,
            last=rows[-1] if rows else None,
        )


def _signs(figures: Mapping[str, Any]) -> Signs:
    """Return the figures that the gate watches.

    Of diversity these are only the distinct solutions a problem: n-grams and entropy fall when answers become right.
    """
    found: Mapping[str, float] = figures.get("diversity", {})
    return Signs(
        saturated=found.get("saturated_share"),
        diversity={"distinct_solutions": found["distinct_solutions"]} if "distinct_solutions" in found else {},
        kl=figures.get("kl", {}).get("own"),
    )


def checked(report: RoundReport, policy: Model, fingerprint: str) -> RoundReport:
    """Return a recorded report; raise RunError where the round's model is not the recorded one."""
    if fingerprint != report.model:
        raise RunError(
            f"{policy}: is not the model that round {report.round} recorded ({fingerprint}, not {report.model}): its"
            " weights were changed; restore them or begin a new run"
        )
    return report
