"""Whether a tokenizer and a model belong together: ids that have an embedding, and a token that ends a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.models.errors import ModelError, few
from star_rft.models.limits import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_vocabulary(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, *, rows: int, config: Any, generation_config: Any
) -> None:
    """Raise ModelError where the tokenizer can produce an id without a row in the embedding, or no end is known."""
    if beyond := unembedded(tokenizer, rows):
        highest = max(beyond.values())
        raise ModelError(
            f"{path}: its tokenizer makes ids up to {highest} and the model embeds {rows} ({few(beyond)}): call "
            f"model.resize_token_embeddings({highest + 1}) before it is saved, or take the tokenizer that the "
            "model was trained with"
        )
    ends = [tokenizer.eos_token_id, *_ids(generation_config), *_ids(config), *_ids(text_config(config))]
    if not any(isinstance(end, int) and 0 <= end < rows for end in ends):
        raise ModelError(
            f"{path}: no token ends its texts: set eos_token in tokenizer_config.json, or eos_token_id in "
            "generation_config.json"
        )


def unembedded(tokenizer: PreTrainedTokenizerBase, rows: int) -> dict[str, int]:
    """Return the tokens that a text or a chat template can produce and that have no row in the embedding.

    A special token beyond the embedding that neither the chat template nor the tokenizer itself writes is allowed:
    published text models carry the tokens of the images that their larger siblings take (Gemma 3 1B), or a padding
    token that was never trained. Nothing here puts such a token into a text.
    """
    vocabulary = {token: index for token, index in tokenizer.get_vocab().items() if index >= rows}
    if not vocabulary:
        return {}
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= set(tokenizer.all_special_tokens)
    template = str(tokenizer.chat_template or "")
    written = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.sep_token, tokenizer.cls_token}
    return {
        token: index
        for token, index in vocabulary.items()
        if token not in special or token in written or token in template
    }


def _ids(config: Any) -> list[Any]:
    found = None if config is None else config.to_dict().get("eos_token_id")
    return found if isinstance(found, list) else [found]
