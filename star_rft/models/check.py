"""What is wrong with a model, by its files: weights are named and measured, not read."""

from __future__ import annotations

from pathlib import Path

from star_rft.models.adapters import base_of
from star_rft.models.errors import ModelError
from star_rft.models.load import check_tokenizer, is_adapter, load_tokenizer, read_model, without_bars


@without_bars()
def check_model(path: str | Path, trust_remote_code: bool = False) -> None:
    """Raise ModelError for what `load` would refuse; of an adapter, for what is wrong with its base model."""
    if Path(path).is_dir() and is_adapter(Path(path)):
        base = base_of(path, Path(path))
        if Path(base).is_dir():
            try:
                check_model(base, trust_remote_code)
            except ModelError as error:
                raise ModelError(f"the base model of the adapter {path}: {error}") from error
        return
    model = read_model(path, dtype="auto", trust_remote_code=trust_remote_code, device_map="meta")
    check_tokenizer(path, model, load_tokenizer(path, trust_remote_code=trust_remote_code))
