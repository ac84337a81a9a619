"""The tokens that end a completion: those at which sampling stops, and the one that is put behind a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_rft.errors import UserError
from star_rft.models.spec import AnyModel, ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANSWER = "zebra"  # an assistant's turn, found again in what a chat template makes of it


@dataclass(frozen=True, slots=True)
class Ends:
    """The end tokens of a model, by its tokenizer, its generation_config.json and its chat template.

    `declared` are those of the first two. `chat` is the token with which the template ends an assistant's turn, None
    where there is no template or it ends a turn with plain text; `plain` ends a text without a template.
    """

    declared: frozenset[int]
    chat: int | None
    plain: int | None

    @property
    def ids(self) -> frozenset[int]:
        """Every token that ends a completion when it is sampled."""
        return self.declared | ({self.chat} if self.chat is not None else set())

    def behind_text(self, *, is_chat: bool) -> int:
        """Return the token that ends a completion that is given as text. Raises UserError where there is none."""
        end = self.chat if is_chat and self.chat is not None else self.plain
        if end is None:
            raise UserError(
                "the model has no end-of-sequence token, so that it could not learn to stop: set eos_token in"
                " tokenizer_config.json, or eos_token_id in generation_config.json"
            )
        return end


@dataclass(frozen=True, slots=True)
class Stops:
    """What ends the completions of one decoding: sampled tokens, and strings in their text."""

    ids: frozenset[int]
    strings: tuple[str, ...]


def stops_of(
    tokenizer: PreTrainedTokenizerBase, ends: Ends, *, stop: Sequence[str], stop_token_ids: Sequence[int]
) -> Stops:
    """Return what ends a completion: the model's end tokens, `stop_token_ids`, and the stop strings.

    A special token is in no decoded text. So a stop string that begins with one becomes the id of that token. Raises
    UserError for one that holds a special token further on, and for an id that the tokenizer does not have.
    """
    special = _special_tokens(tokenizer)
    ids, strings = {*ends.ids, *stop_token_ids}, []
    for token in stop_token_ids:
        if not 0 <= token < len(tokenizer):
            raise UserError(
                f"stop_token_ids: the tokenizer has no token {token}: its ids are 0 to {len(tokenizer) - 1}"
            )
    for text in stop:
        found = [token for token in special if token in text]
        first = next((token for token in sorted(found, key=len, reverse=True) if text.startswith(token)), None)
        if first is not None:
            ids.add(special[first])
        elif found:
            raise UserError(
                f"the stop string {text!r} holds the special token {found[0]!r}, which is in no decoded text:"
                f" give {found[0]!r} alone"
            )
        else:
            strings.append(text)
    return Stops(frozenset(ids), tuple(strings))


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the tokens that decoding leaves out, by their texts."""
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**added, **dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))}


def ends_of(
    model: AnyModel, tokenizer: PreTrainedTokenizerBase, *, chat_options: Mapping[str, Any] | None = None
) -> Ends:
    """Return the end tokens of a model by its files alone: its weights are not read."""
    from transformers import AutoConfig, GenerationConfig

    spec = ModelSpec.of(model)
    try:
        generation = GenerationConfig.from_pretrained(spec.path)
    except OSError:  # without the file transformers takes the same keys of the model's config
        config = AutoConfig.from_pretrained(spec.path, trust_remote_code=spec.trust_remote_code)
        generation = GenerationConfig.from_model_config(config)
    return ends_by(tokenizer, generation, chat_options=chat_options)


def ends_by(
    tokenizer: PreTrainedTokenizerBase, generation_config: Any = None, *, chat_options: Mapping[str, Any] | None = None
) -> Ends:
    """Return the end tokens that a tokenizer and a generation config name; the latter may be None."""
    eos: Any = None if generation_config is None else generation_config.eos_token_id
    listed = [token for token in (eos if isinstance(eos, list) else [eos]) if token is not None]
    own: int | None = tokenizer.eos_token_id
    declared = frozenset([*listed, *([own] if own is not None else [])])
    plain = own if own is not None else next(iter(listed), None)
    return Ends(declared, template_end(tokenizer, declared, chat_options or {}), plain)


def template_end(
    tokenizer: PreTrainedTokenizerBase, declared: frozenset[int], options: Mapping[str, Any]
) -> int | None:
    """Return the token with which the chat template ends an assistant's turn; None where it has none.

    That is the first special token behind the last turn's text. Some templates (GLM-4) write nothing there: then it is
    the token that begins the next turn, if the model declares it as an end.
    """
    if not tokenizer.chat_template:
        return None
    # An added token that is not marked as special, as some fine-tuned models have, ends a turn as well.
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _ANSWER}]
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    # Templates of some multimodal models show nothing but lists of parts.
    in_parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    for form in (turns, in_parts):
        last = _special_behind_answer(tokenizer, form, special, options)
        if last is not None:
            return last
        following = _special_behind_answer(tokenizer, [*form, form[0]], special, options)
        if following in declared:
            return following
    return None


def _special_behind_answer(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, Any]],
    special: set[int],
    options: Mapping[str, Any],
) -> int | None:
    from jinja2 import TemplateError

    try:
        text = str(tokenizer.apply_chat_template(list(turns), tokenize=False, **options))  # type: ignore[arg-type]
    except (TemplateError, TypeError):  # it has no place for an assistant's turn, or takes one of another form
        return None
    _, found, behind = text.rpartition(_ANSWER)
    if not found:
        return None
    ids: list[int] = tokenizer(behind, add_special_tokens=False)["input_ids"]
    return next((token for token in ids if token in special), None)
