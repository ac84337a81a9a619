"""What is wrong with a model, by its files: weights are named and measured, not read."""

from __future__ import annotations

from pathlib import Path

from star_rft.models.adapters import base_of
from star_rft.models.errors import ModelError
from star_rft.models.load import check_tokenizer, is_adapter, load_tokenizer, read_model, without_bars
from star_rft.models.spec import AnyModel, ModelSpec


@without_bars()
def check_model(model: AnyModel) -> None:
    """Raise ModelError for what `load` would refuse; of an adapter, for what is wrong with its base model."""
    spec = ModelSpec.of(model)
    path = spec.path
    if Path(path).is_dir() and is_adapter(Path(path)):
        base = base_of(path, Path(path))
        if Path(base).is_dir():
            try:
                check_model(spec.at(base))
            except ModelError as error:
                raise ModelError(f"the base model of the adapter {path}: {error}") from error
        return
    check_tokenizer(path, read_model(spec, dtype="auto", device_map="meta"), load_tokenizer(spec))
