"""Load a causal language model and its tokenizer, or refuse them in one line before any work begins."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.files import whole_folder
from star_rft.models.attention import use_exact_attention
from star_rft.models.classes import (
    auto_class,
    freeze_media,
    quantization,
    read_config,
    require_text,
    without_quantization,
)
from star_rft.models.errors import ModelError, explained, library_errors
from star_rft.models.files import check_files, weight_files
from star_rft.models.limits import text_config
from star_rft.models.spec import AnyModel, ModelSpec
from star_rft.models.vocabulary import check_vocabulary
from star_rft.models.weights import check_weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("auto", "float32", "bfloat16", "float16")
ADAPTER_CONFIG = "adapter_config.json"
# One of these makes a tokenizer; Mistral's tekken.json alone does not.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars: the command line draws its own. Also a decorator."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@without_bars()
def load(model: AnyModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in eval mode.

    Raises ModelError for a checkpoint that lacks weights of the model or has others, and for a tokenizer that does not
    fit it.
    """
    import torch

    spec = ModelSpec.of(model)
    dtype = spec.dtype
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    place = device_of(spec.device)
    if dtype == "auto":
        dtype = "float32" if place.type == "cpu" else "bfloat16"
    loaded = read_model(spec, dtype=getattr(torch, dtype))
    tokenizer = load_tokenizer(spec)
    check_tokenizer(spec.path, loaded, tokenizer)
    module: torch.nn.Module = loaded  # whose `to` and `eval` are typed
    module.to(place).eval()
    require_text(spec.path, loaded)
    freeze_media(loaded)
    use_exact_attention(loaded)
    return loaded, tokenizer


def read_model(spec: ModelSpec, *, dtype: Any, **options: Any) -> Any:
    """Return the model with every weight of its checkpoint, in a dtype of torch or in its own ("auto").

    Raises ModelError for a checkpoint that holds other weights as well. `options` are `from_pretrained`'s.
    """
    path = spec.path
    require_model_folder(path)
    if Path(path).is_dir() and not weight_files(Path(path)):
        raise ModelError(f"{path} holds no weights (model.safetensors): cannot load a causal language model")
    config = read_config(spec)
    dequantised = quantization(path, config)
    if dequantised is not None:
        options["quantization_config"] = dequantised
    kind = auto_class(path, config)
    try:
        with _without_warnings():
            model, info = kind.from_pretrained(
                path,
                dtype=dtype,
                trust_remote_code=spec.trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that `check_weights` can name them
                **options,
            )
    except library_errors() as error:
        raise explained(error, path, what="weights", is_trusted=spec.trust_remote_code) from error
    check_weights(path, model, info)
    return model if dequantised is None else without_quantization(model, dtype)


@without_bars()
def initialise(model: AnyModel, *, into: Path, seed: int) -> Path:
    """Write a model of the same architecture and tokenizer with random weights into a folder, once; return it."""
    import torch

    if into.exists():
        return into
    spec = ModelSpec.of(model)
    require_model_folder(spec.path)
    tokenizer = load_tokenizer(spec)
    config = read_config(spec)
    kind = auto_class(spec.path, config)
    if quantization(spec.path, config) is not None:
        del config.quantization_config
    with torch.random.fork_rng(), whole_folder(into) as folder:
        torch.manual_seed(seed)
        _widen(text_config(config))
        fresh = kind.from_config(config, trust_remote_code=spec.trust_remote_code)
        fresh.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return into


def load_tokenizer(model: AnyModel) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model alone. Raises ModelError where it has none that can be read."""
    from transformers import AutoTokenizer

    spec = ModelSpec.of(model)
    path, is_trusted = spec.path, spec.trust_remote_code
    require_model_folder(path)
    if Path(path).is_dir():
        _require_tokenizer_files(Path(path))
    try:
        with _without_warnings():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=is_trusted)
    except library_errors() as error:
        raise explained(error, path, what="tokenizer", is_trusted=is_trusted) from error
    if len(tokenizer) == 0:  # what AutoTokenizer makes of a folder with a config and no tokenizer files
        raise ModelError(f"{path} has no tokenizer (tokenizer.json or its like is missing)")
    return tokenizer


def device_of(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one. Raises ModelError."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r} is unknown: use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {name!r}: this machine, or this build of torch, has no CUDA device")
    return device


def require_model_folder(path: str | Path) -> None:
    """Catch a mistyped folder before the library takes it for a hub name and looks for it on the network."""
    folder = Path(path)
    if folder.is_dir():
        if is_adapter(folder):
            raise ModelError(f"{folder} is an adapter ({ADAPTER_CONFIG}), not a model: give it as model.name")
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is no model: it has no config.json")
        if (folder / ADAPTER_CONFIG).is_file():
            raise ModelError(
                f"{folder} holds a model and an adapter ({ADAPTER_CONFIG}): move one of them into a folder of its own"
            )
        check_files(folder)
    elif folder.exists():
        raise ModelError(f"{folder} is a file, not a model folder (for a GGUF file set gguf_file)")
    elif not may_be_of_hub(path):
        raise ModelError(f"no such model folder: {path}")


def may_be_of_hub(name: str | Path) -> bool:
    """Whether a name that is no folder here may be one of the hub: NAME or OWNER/NAME, and not written as a path."""
    return isinstance(name, str) and name.count("/") <= 1 and not name.startswith((".", "/", "~"))


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter of peft alone; trainers may add the base's config.json to it."""
    return (folder / ADAPTER_CONFIG).is_file() and not weight_files(folder)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep transformers from printing its table of weights: what is wrong in it becomes an error."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def check_tokenizer(path: str | Path, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError for a tokenizer that does not fit the model."""
    rows = model.get_input_embeddings().weight.shape[0]
    check_vocabulary(path, tokenizer, rows=rows, config=model.config, generation_config=model.generation_config)


def _widen(config: Any) -> None:
    """Give a narrow model from scratch wider weights: with the usual 0.02, for thousands, it stays on a plateau."""
    # Through the attributes, which know what a class calls its width; not every config has both.
    width, spread = getattr(config, "hidden_size", None), getattr(config, "initializer_range", None)
    if isinstance(width, int) and isinstance(spread, int | float):
        config.initializer_range = max(spread, width**-0.5)


def _require_tokenizer_files(folder: Path) -> None:
    """Name what is wrong with the files of a tokenizer where the libraries would say less."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            Tokenizer.from_file(str(file))
        except Exception as error:
            if type(error) is not Exception:  # which is what tokenizers raises for a file that it cannot read
                raise
            raise ModelError(f"{file} is no tokenizer that can be read ({error}): download it again") from error
    elif (folder / "tokenizer.model").is_file():
        with (folder / "tokenizer.model").open("rb") as stream:
            package = "sentencepiece" if stream.read(1) == b"\n" else "tiktoken"  # a protobuf, or lines of base64
        if importlib.util.find_spec(package) is None:
            raise ModelError(
                f"{folder}: its tokenizer.model needs a package that is missing here: pip install {package}"
            )
    elif (folder / "tekken.json").is_file() and not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelError(
            f"{folder} has a tokenizer for mistral-common only (tekken.json): put the tokenizer.json of the same model "
            "beside it, from a version of it for transformers"
        )
