"""The error of a model that cannot be used, and how the errors of libraries become one line of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pickle import PickleError
from typing import Any

from star_rft.errors import UserError


class ModelError(UserError):
    """A model that cannot be found, read or used, in one line for its user."""


CONSENT = "set model.trust_remote_code: true if you trust that code"


# What a model's forward may raise when it is given inputs, a cache or arguments that it does not take.
FORWARD_ERRORS = (TypeError, ValueError, LookupError, AttributeError, RuntimeError, AssertionError)


def library_errors() -> tuple[type[Exception], ...]:
    """Return what transformers, huggingface_hub and the code of models raise for a model that they cannot read."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    plain = (OSError, ValueError, ImportError, LookupError, AttributeError, TypeError, RuntimeError, NameError)
    return (*plain, AssertionError, EOFError, PickleError, SafetensorError, StrictDataclassError)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def explained(error: BaseException, path: str | Path, *, what: str, is_trusted: bool) -> ModelError:
    """Return the one line for an error that a library raised while it read `what` of the model at `path`."""
    text = str(error)
    if re.search(r"trust_remote_code|custom code", text) and not is_trusted:
        return ModelError(f"{path}: its {what} needs code that comes with the model: {CONSENT}")
    if "does not recognize this architecture" in text or "Unrecognized model" in text:
        return ModelError(_unknown_type(path))
    if isinstance(error, ImportError) or re.search(r"requires .* to be installed|pip install", text):
        return ModelError(f"{path}: its {what} needs a package that is missing here: {_missing_package(text, error)}")
    if isinstance(error, MemoryError) or "out of memory" in text:
        return ModelError(f"{path}: not enough memory for its {what} ({first_line(error)})")
    if isinstance(error, PickleError | EOFError) or "PytorchStreamReader" in text:
        return ModelError(f"{path}: its *.bin files are damaged, or hold more than weights: download them again")
    if "automatic conversion of the weights" in text:
        return ModelError(
            f"{path}: its weights do not fit together: some of the experts, or of the parts that are fused, are "
            "missing or have another shape: download the model again"
        )
    code = ", which come with code of their own: it may need another version of transformers"
    detail = first_line(error)
    if not isinstance(error, OSError | ValueError):
        detail = f"{type(error).__name__}: {' '.join(text.split())[:300]}"
    is_own_code = is_trusted and "auto_map" in _config_at(path)
    return ModelError(f"{path}: cannot load its {what}{code if is_own_code else ''}: {detail}")


def _config_at(path: str | Path) -> dict[str, Any]:
    try:
        config = json.loads((Path(path) / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _unknown_type(path: str | Path) -> str:
    from transformers import __version__

    kind = _config_at(path).get("model_type")
    if kind is None:
        return f"{path}: its config.json names no model_type that transformers {__version__} knows"
    return (
        f"{path}: transformers {__version__} does not know model_type {kind!r}: install a newer transformers, or take "
        "another model"
    )


def _missing_package(text: str, error: BaseException) -> str:
    """Return the name of the package where the message has one, and the line that names it otherwise."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"pip install {error.name}"
    if found := re.search(r"pip install (?:-U |--upgrade )?[`'\"]?([A-Za-z][\w.\[\]-]*)", text):
        return f"pip install {found[1]}"
    return re.sub(r"\s+", " ", text).strip()[:200]


def few(names: Any, *, most: int = 3) -> str:
    """Return some of the names, and how many more there are."""
    listed = sorted(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
