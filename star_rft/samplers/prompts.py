"""What every backend does with requests before it draws: tokens of their prompts, and the same complaints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.types import Decoding, Request, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with every request for it."""

    ids: tuple[int, ...]
    requests: tuple[Request, ...]


def tokenized(
    requests: Sequence[Request], tokenizer: PreTrainedTokenizerBase, *, decoding: Decoding, limit: int, whose: str
) -> list[Prompt]:
    """Gather the requests by prompt, in the order in which the prompts come first.

    `limit` is how many positions a prompt and its completion have; `whose` says in an error where that comes from.
    """
    by_text: dict[str, list[Request]] = {}
    for request in requests:
        by_text.setdefault(request.prompt, []).append(request)
    if not by_text:
        return []
    encoded = tokenizer(list(by_text), add_special_tokens=False)["input_ids"]
    prompts = [Prompt(tuple(ids), tuple(group)) for ids, group in zip(encoded, by_text.values(), strict=True)]
    for prompt in prompts:
        problem = prompt.requests[0].problem_id
        if not prompt.ids:
            raise UserError(f"the prompt of problem {problem} is empty")
        if len(prompt.ids) + decoding.max_tokens > limit:
            raise UserError(
                f"the prompt of problem {problem} has {len(prompt.ids)} tokens, which with max_tokens "
                f"{decoding.max_tokens} exceeds the {limit} positions of {whose}: lower sample.max_tokens "
                f"and eval.max_tokens, or leave such problems out"
            )
    return prompts


def eos_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Return the tokens that end a completion, by the tokenizer and by the checkpoint."""
    eos = generation_config.eos_token_id
    ids = [tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])]
    return frozenset(token for token in ids if token is not None)


def eos_ids_of(path: str | Path, tokenizer: Any, *, trust_remote_code: bool = False) -> frozenset[int]:
    """Return them for a model that another process has loaded: by its files alone."""
    from transformers import AutoConfig, GenerationConfig

    try:
        generation_config = GenerationConfig.from_pretrained(path)
    except OSError:  # without the file transformers takes the same keys of the model's config
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        generation_config = GenerationConfig.from_model_config(config)
    return eos_ids(tokenizer, generation_config)
