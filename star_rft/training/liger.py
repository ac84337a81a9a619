"""Liger's Triton kernels for a model's norms and MLPs, where there is a GPU that runs them.

Its fused cross-entropy stays out: the loss is weighted and summed by star-rft, over TRL's fused head.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Literal

from star_rft.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def apply(model: PreTrainedModel, *, wanted: Literal["auto"] | bool, device: str) -> bool:
    """Put the kernels into this model, and say whether that was done; raise TrainingError where it cannot be.

    `auto` means: where liger-kernel is installed, the device is a CUDA GPU, and it knows the architecture.
    """
    if wanted is False:
        return False
    lacking = _lacking(model, device)
    if lacking is None:
        _patch(model)
    elif wanted is True:
        raise TrainingError(f"liger is true, but {lacking}: set it to auto or false")
    return lacking is None


def _lacking(model: PreTrainedModel, device: str) -> str | None:
    if importlib.util.find_spec("liger_kernel") is None:
        return "liger-kernel is not installed (pip install 'star-rft[liger]')"
    if device != "cuda":
        return f"its kernels run on a CUDA GPU, and this training on {device}"
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return f"it has no kernels for models of type {model.config.model_type}"
    return None


def _patch(model: PreTrainedModel) -> None:
    """Patch the model and leave transformers as it was: what is loaded later, to sample, computes as ever.

    liger-kernel puts its classes into transformers' module too. The rotary kernel is found only there, and so is lost.
    """
    from transformers.integrations.liger import apply_liger_kernel

    module = vars(sys.modules[type(model).__module__])
    before = dict(module)
    kernels = {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
    apply_liger_kernel(model, kernels)  # type: ignore[no-untyped-call]
    module.update(before)
