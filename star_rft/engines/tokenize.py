"""Tokenises requests, groups them by prompt, and refuses prompts that are empty or too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from star_rft.errors import UserError
from star_rft.types import Decoding, Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with every request for it."""

    ids: tuple[int, ...]
    requests: tuple[Request, ...]


def tokenized(
    requests: Sequence[Request],
    tokenizer: PreTrainedTokenizerBase,
    *,
    decoding: Decoding,
    limit: int | None,
    whose: str,
) -> list[Prompt]:
    """Gather the requests by prompt, in the order in which the prompts come first.

    Args:
        requests: Those without `prompt_ids` are tokenised here, as the text is.
        tokenizer: That of the model.
        decoding: Says how many tokens a completion may have.
        limit: Positions for a prompt and its completion together; None where there is no limit.
        whose: What has this limit, for the error.

    Raises:
        UserError: A prompt is empty, or too long for the limit.
    """
    groups: dict[tuple[str, tuple[int, ...] | None], list[Request]] = {}
    for request in requests:
        groups.setdefault((request.prompt, request.prompt_ids), []).append(request)
    texts = [text for text, ids in groups if ids is None]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
    prompts = [Prompt(tuple(next(encoded)) if ids is None else ids, tuple(group)) for (_, ids), group in groups.items()]
    for prompt in prompts:
        problem = prompt.requests[0].problem_id
        if not prompt.ids:
            raise UserError(f"the prompt of problem {problem} is empty")
        if limit is not None and len(prompt.ids) + decoding.max_tokens > limit:
            raise UserError(
                f"the prompt of problem {problem} has {len(prompt.ids)} tokens, which with max_tokens "
                f"{decoding.max_tokens} exceeds the {limit} positions of {whose}: lower sample.max_tokens "
                f"and eval.max_tokens, or leave such problems out"
            )
    return prompts
