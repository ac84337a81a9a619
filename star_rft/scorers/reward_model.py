"""The scorer `reward_model`: a transformers sequence classifier with one output, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from star_rft.errors import RunFailure, UserError
from star_rft.models import (
    DTYPES,
    ModelError,
    device_of,
    fingerprint,
    load_tokenizer,
    longest_sequence,
    read_config,
    without_bars,
)
from star_rft.models.errors import explained, library_errors
from star_rft.models.spec import AnyModel, ModelSpec
from star_rft.scorers.likelihood import by_length, pad
from star_rft.scorers.registry import ScorerContext, scorer
from star_rft.types import Scorer, Trace, digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_TOKENS = 16_384  # of a batch, padding included
PLAIN = "{prompt}\n{completion}"


@scorer(needs_model=True)
def reward_model(
    context: ScorerContext,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int = BATCH_TOKENS,
    chat: Literal["auto"] | bool = "auto",
    template: str = PLAIN,
    trust_remote_code: bool | None = None,
) -> Scorer:
    """The output of a sequence classifier with one output."""
    spec = replace(context.model, dtype=dtype, device=device)
    if trust_remote_code is not None:
        spec = replace(spec, trust_remote_code=trust_remote_code)
    return RewardModel(spec, batch_tokens=batch_tokens, chat=chat, template=template)


class RewardModel:
    """Scores prompt and completion by the output of a sequence classifier with one output.

    A conversation that is longer than the model's positions has no score. The weights are loaded by the first `score`;
    what the model's config shows is checked before.

    Args:
        model: The classifier. In bfloat16 a score changes by about 1e-2 with the other sequences of its batch, in
            float32 by less than 1e-5.
        batch_tokens: Tokens of a batch, padding included.
        chat: True: render with the model's chat template. "auto": where it has one. Otherwise `template` is used.
        template: Text with `{prompt}` and `{completion}`, as the model was trained on.

    Raises:
        ModelError: The model is no such classifier, or has no chat template.
        UserError: The template lacks a placeholder.
    """

    def __init__(
        self,
        model: AnyModel,
        *,
        batch_tokens: int = BATCH_TOKENS,
        chat: Literal["auto"] | bool = "auto",
        template: str = PLAIN,
    ) -> None:
        spec = ModelSpec.of(model)
        if spec.dtype not in DTYPES:
            raise ModelError(f"dtype {spec.dtype!r} is not one of {', '.join(DTYPES)}")
        if template.count("{prompt}") != 1 or template.count("{completion}") != 1:
            raise UserError(f"the template must hold {{prompt}} and {{completion}} once each: {template!r}")
        self.tokenizer = load_tokenizer(spec)
        if chat is True and not self.tokenizer.chat_template:
            raise ModelError(f"{spec.path} has no chat template: use chat=auto or false")
        config = read_config(spec)
        if config.num_labels != 1:
            raise ModelError(
                f"{spec.path} has {config.num_labels} outputs where a reward model has one (num_labels in config.json);"
                f" it was saved as {', '.join(config.architectures or ['an unnamed architecture'])}"
            )
        positions = longest_sequence(config).tokens
        self.limit = min(self.tokenizer.model_max_length, positions or self.tokenizer.model_max_length)
        self.is_chat = bool(self.tokenizer.chat_template) if chat == "auto" else chat
        self.spec, self.template, self.batch_tokens = spec, template, batch_tokens
        self.version = digest("reward_model", fingerprint(spec.path), spec.dtype, self.is_chat, template)
        self._model: Any = None
        self._is_closed = False

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        """Yield the model's output for each trace, in order; None for one that is too long."""
        if self._is_closed:
            raise RuntimeError("this reward model was closed")
        if self._model is None:
            self._model = _load(self.spec)
        rows = self._encoded(traces)
        scores: list[float | None] = [None] * len(rows)
        fitting = [i for i, row in enumerate(rows) if len(row) <= self.limit]
        # Without a padding token a classifier takes one sequence at a time.
        pad_id = self._model.config.get_text_config().pad_token_id
        batch_tokens = self.batch_tokens if pad_id is not None and pad_id >= 0 else 1
        for batch in by_length([len(rows[i]) for i in fitting], batch_tokens=batch_tokens):
            members = [fitting[i] for i in batch]
            for i, score in zip(members, self._outputs([rows[i] for i in members], pad_id or 0), strict=True):
                if not isfinite(score):
                    raise RunFailure(f"{self.spec.path}: scored a sample of problem {traces[i].problem.id} as {score}")
                scores[i] = score
        yield from scores

    def close(self) -> None:
        """Free the model's memory; the scorer cannot be used afterwards."""
        import torch

        is_on_gpu = self._model is not None and self._model.device.type == "cuda"
        self._model, self._is_closed = None, True
        if is_on_gpu:
            torch.cuda.empty_cache()

    def _encoded(self, traces: Sequence[Trace]) -> list[list[int]]:
        texts = [self._text(trace.problem.prompt, trace.sample.text) for trace in traces]
        if not texts:
            return []
        # A chat template writes the special tokens itself.
        rows: list[list[int]] = self.tokenizer(texts, add_special_tokens=not self.is_chat)["input_ids"]
        return rows

    def _text(self, prompt: str, completion: str) -> str:
        if self.is_chat:
            return _conversation(self.tokenizer, prompt, completion)
        before, _, after = self.template.partition("{prompt}")
        # Split first: braces in the prompt have no meaning.
        return before.replace("{completion}", completion) + prompt + after.replace("{completion}", completion)

    def _outputs(self, rows: Sequence[Sequence[int]], pad_id: int) -> list[float]:
        import torch

        with torch.inference_mode():
            logits_B_1 = self._model(**pad(rows, pad_id=pad_id, device=self._model.device)).logits
        outputs: list[float] = logits_B_1[:, 0].float().tolist()
        return outputs


def _conversation(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> str:
    from jinja2 import TemplateError

    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except TemplateError as error:
        raise ModelError(f"the reward model's chat template refuses a conversation: {error}") from None


@without_bars()
def _load(spec: ModelSpec) -> Any:
    """Load the classifier; ModelError where weights are missing, as transformers only warns of a random head."""
    import torch
    from transformers import AutoModelForSequenceClassification

    path, place, dtype = spec.path, device_of(spec.device), spec.dtype
    if dtype == "auto":
        dtype = "float32" if place.type == "cpu" else "bfloat16"
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=getattr(torch, dtype), trust_remote_code=spec.trust_remote_code, output_loading_info=True
        )
    except library_errors() as error:
        raise explained(error, path, what="reward model", is_trusted=spec.trust_remote_code) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{path} is no reward model: its checkpoint lacks {', '.join(missing)}, which would be random numbers"
        )
    model.config.use_cache = False  # nothing is generated
    return model.to(place).eval()
