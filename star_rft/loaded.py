"""The model that is in memory to be sampled from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from star_rft.types import Model, Sampler


@dataclass(slots=True)
class Engine:
    """At most one loaded sampler: kept from evaluation to the next round's sampling, freed before training."""

    make: Callable[[Model], Sampler]
    _model: Model | None = None
    _sampler: Sampler | None = None

    def sampler(self, model: Model) -> Sampler:
        if self._sampler is None or self._model != model:
            self.release()
            self._model, self._sampler = model, self.make(model)
        return self._sampler

    def release(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
        self._model = self._sampler = None
