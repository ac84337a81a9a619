"""Which attention implementation of transformers computes what a model's definition says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from star_rft.models.errors import library_errors

# What attention is given beside what it computes: the mask has the window, and a flag of the output changes nothing.
HARMLESS = frozenset({"sliding_window", "position_ids", "use_cache"})


def use_exact_attention(model: Any) -> None:
    """Switch a loaded model to eager attention where the fused one (sdpa) leaves out a part of its formula.

    sdpa ignores arguments that it does not know: soft caps, sinks. Eager attention is the definition in the model's own
    file. What the model passes is seen in a forward of two tokens; a model that cannot take those is left as it is.
    """
    import torch

    if not any(config._attn_implementation == "sdpa" for config in _configs(model)):
        return
    ids_1_T = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    with _recorded() as ignored, torch.no_grad():
        try:
            model(input_ids=ids_1_T, use_cache=False)
        except library_errors():  # it needs more than ids: the probes of its users refuse it
            return
    if ignored:
        model.set_attn_implementation("eager")


def _configs(model: Any) -> list[Any]:
    """Return the config of a model and those of its parts."""
    parts = [getattr(model.config, name) for name in model.config.sub_configs]
    return [model.config, *(part for part in parts if part is not None)]


@contextmanager
def _recorded() -> Iterator[set[str]]:
    """Give the names of arguments that sdpa is given inside and does not compute."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = HARMLESS | set(inspect.signature(sdpa_attention_forward).parameters)
    ignored: set[str] = set()

    def record(*args: Any, **kwargs: Any) -> Any:
        ignored.update(
            name
            for name, argument in kwargs.items()
            if argument is not None and name not in known and not name.startswith("output_")
        )
        return sdpa_attention_forward(*args, **kwargs)

    ALL_ATTENTION_FUNCTIONS["sdpa"] = record  # of this object alone: the library's own table is left as it is
    try:
        yield ignored
    finally:
        ALL_ATTENTION_FUNCTIONS.pop("sdpa")
