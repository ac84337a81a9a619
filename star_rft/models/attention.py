"""Which attention implementation of transformers computes what a model's definition says."""

from __future__ import annotations

from typing import Any


def use_exact_attention(model: Any) -> None:
    """Switch a loaded model to eager attention where the fused one leaves out a part of its formula."""
