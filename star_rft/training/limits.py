"""The longest sequence of a training: what the user allows, and what the models take."""

from __future__ import annotations

from dataclasses import dataclass

from star_rft.models.classes import read_config
from star_rft.models.limits import longest_sequence
from star_rft.models.load import require_model_folder
from star_rft.models.spec import ModelSpec
from star_rft.training.options import Say


@dataclass(frozen=True, slots=True)
class Limit:
    """Sequences of more than `tokens` are left out; `name` is what sets the limit, in a user's words."""

    tokens: int
    name: str

    def report(self, dropped: int, what: str, say: Say | None) -> None:
        """Say how many were left out, where it is a model that does not take them and not the user's own setting."""
        if dropped and say is not None and not self.name.startswith("max_tokens"):
            say(f"{dropped} {what} left out: they are longer than {self.name}")


def limit_of(max_tokens: int, *models: ModelSpec) -> Limit:
    """Return the smallest limit of `max_tokens` and of the models that see the sequences.

    Positions beyond a model's table have no embedding, and where rope depends on the longest row of a batch, one long
    row would change the loss of all others.
    """
    limit = Limit(max_tokens, f"max_tokens={max_tokens}")
    for model in dict.fromkeys(models):
        require_model_folder(model.path)
        longest = longest_sequence(read_config(model))
        if longest.tokens is not None and longest.tokens < limit.tokens:
            limit = Limit(longest.tokens, f"the {longest.tokens} tokens that the model takes ({longest.why})")
    return limit
