"""pass@k of any model without training: a run of no rounds, resumable like every other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from star_rft import config as configs
from star_rft.config import Config
from star_rft.types import digest


def bench_config(
    model: str,
    data: str,
    *,
    ks: Sequence[int],
    n: int | None = None,
    limit: int | None = None,
    overrides: Iterable[str] = (),
) -> Config:
    """Return the config of a benchmark. Its folder is named by its content: other settings, other folder."""
    raw: dict[str, Any] = {
        "name": "bench",
        "rounds": 0,
        "model": {"name": model},
        "data": {"test": {"source": data, "limit": limit}},
        "eval": {"n": n or max(ks), "k": sorted({1, *ks}), "greedy": True},
    }
    if model == "tiny":  # its pretraining knows one prompt form only, and it has 512 positions
        raw["prompt"] = TINY_PROMPT
        raw["eval"]["max_tokens"] = TINY_TOKENS
    settled = configs.load(raw, overrides)
    name = f"bench-{digest(configs.dump(settled), size=4)}"
    return settled.model_copy(update={"name": name})


TINY_TOKENS = 160
TINY_PROMPT = {"template": "Question: {question}\nAnswer:", "completion_prefix": " "}
