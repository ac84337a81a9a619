"""`RunContext`, which all stages of a run share, and the one loaded sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from star_rft.frontier.classes import problems_of_class
from star_rft.ledger import Ledger
from star_rft.progress import Progress
from star_rft.runs.folder import RunFolder
from star_rft.runs.timing import Timing
from star_rft.types import Model, Problem, Sampler, Split


@dataclass(slots=True)
class Engine:
    """At most one loaded sampler: kept from evaluation to the next round's sampling, freed before training.

    `fingerprint` returns a model's id in the ledger. It should be cached, because it is called for every unit.
    """

    make: Callable[[Model], Sampler]
    fingerprint: Callable[[Model], str]
    _model: Model | None = None
    _sampler: Sampler | None = None

    def sampler(self, model: Model) -> Sampler:
        """Return the sampler of a model; the one of another model is closed first."""
        if self._sampler is None or self._model != model:
            self.release()
            self._model, self._sampler = model, self.make(model)
        return self._sampler

    def release(self) -> None:
        """Close the sampler, if one is loaded."""
        if self._sampler is not None:
            self._sampler.close()
        self._model = self._sampler = None


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run's folder, ledger, problems, engine and settings, which its stages share.

    With `has_quarantine` a round leaves the problems out of its training whose references its samples contradict.
    """

    folder: RunFolder
    ledger: Ledger
    problems: Mapping[Split, Sequence[Problem]]
    engine: Engine
    progress: Progress
    timing: Timing
    seed: int
    has_quarantine: bool

    @property
    def train_problems(self) -> Sequence[Problem]:
        """All problems of the train split, in the order of the data."""
        return self.problems["train"]

    @property
    def held_out_split(self) -> Split:
        """The split that decides: dev, or test where there is no dev."""
        return "dev" if self.problems.get("dev") else "test"

    def problems_of(self, split: Split) -> Sequence[Problem]:
        """Return a split's problems; those of `probe` are dev's."""
        return self.problems.get("dev" if split == "probe" else split, ())

    def quarantined(self, round_index: int) -> frozenset[str]:
        """Return the ids of problems that a round does not train on; none before its problems are classified."""
        path = self.folder.frontier(round_index)
        return problems_of_class(path, "label_error") if self.has_quarantine and path.exists() else frozenset()
