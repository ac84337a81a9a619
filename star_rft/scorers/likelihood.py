"""The scorer `likelihood`: the log-probability of a completion under a model.

V-STaR trains a verifier by DPO and scores solutions by their likelihood under it (arXiv 2402.06457, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.data import Prompter
from star_rft.errors import RunFailure
from star_rft.models import fingerprint, load, load_tokenizer
from star_rft.models.ends import ends_of
from star_rft.models.limits import longest_sequence
from star_rft.models.spec import AnyModel, ModelSpec
from star_rft.models.tokens import continuation_ids, ended_text_ids, text_ids
from star_rft.scorers.registry import ScorerContext, scorer
from star_rft.training.dataset import SampleOrigin, example_of, row_of
from star_rft.types import Problem, Scorer, Trace, digest

if TYPE_CHECKING:
    import torch

BATCH_TOKENS = 4096  # of a batch, padding included; its logits are (BATCH_TOKENS, vocabulary) floats

Row = tuple[Sequence[int], Sequence[int]]  # the ids of a prompt, and of its completion
# Part of the version: scores depend on how traces are tokenised.
ENCODING = "likelihood of trained ids"


@scorer(needs_model=True)
def likelihood(
    context: ScorerContext,
    *,
    reference: str | None = None,
    per_token: bool = True,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int = BATCH_TOKENS,
    trust_remote_code: bool | None = None,
) -> Scorer:
    """The log-probability of a completion after its prompt, a mean over tokens or the sum.

    It is that of the tokens that were sampled where the scoring model has the policy's vocabulary, else that of the
    tokenised texts.
    """
    spec = replace(context.model, dtype=dtype, device=device)
    if trust_remote_code is not None:
        spec = replace(spec, trust_remote_code=trust_remote_code)
    prompter = context.prompter
    is_same = load_tokenizer(spec).get_vocab() == prompter.tokenizer.get_vocab()
    return Likelihood(
        spec,
        render=prompter.render,
        ids=partial(_trained_ids, prompter=prompter, origin=context.origin) if is_same else None,
        is_chat=prompter.is_chat,
        reference=reference,
        per_token=per_token,
        batch_tokens=batch_tokens,
    )


def _trained_ids(trace: Trace, *, prompter: Prompter, origin: SampleOrigin) -> Row:
    example = example_of(row_of(trace, origin), prompter=prompter, stops=origin.stops)
    return example.prompt_ids, example.completion_ids


class Likelihood:
    """Scores a completion by its log-probability after the prompt, in nats.

    A trace that is longer than the model's positions, or has an empty completion, has no score. The weights are loaded
    by the first `score`.

    Args:
        model: The model that scores.
        render: Returns the prompt of a problem as the model was trained with it.
        ids: Returns the tokens of prompt and completion of a trace, as they are trained on. For models with another
            vocabulary than the policy's it is None: then the two texts are tokenised, each alone.
        is_chat: Without `ids`: a completion that ended by itself ends with the chat template's end token.
        reference: A model whose log-probability is subtracted. The difference times beta is DPO's implicit reward.
        per_token: Divide by the number of tokens.
        batch_tokens: Tokens of a batch, padding included.
    """

    def __init__(
        self,
        model: AnyModel,
        *,
        render: Callable[[Problem], str],
        ids: Callable[[Trace], Row] | None = None,
        is_chat: bool = False,
        reference: str | Path | None = None,
        per_token: bool = True,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        spec = ModelSpec.of(model)
        self.tokenizer = load_tokenizer(spec)
        self.render, self.per_token, self.batch_tokens = render, per_token, batch_tokens
        self.ids, self.is_chat = ids, is_chat
        self.ends = ends_of(spec, self.tokenizer)
        self._specs = [spec] if reference is None else [spec, spec.at(reference)]
        self.version = digest(ENCODING, [fingerprint(spec.path) for spec in self._specs], per_token, spec.dtype)
        self._models: list[Any] = []
        self._is_closed = False

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        """Yield a score a trace, in order; RunFailure for one that is not finite."""
        if self._is_closed:
            raise RuntimeError("this scorer was closed")
        if not self._models:
            self._models = [load(spec)[0] for spec in self._specs]
        limits = [longest_sequence(model.config).tokens for model in self._models]
        limit = min((tokens for tokens in limits if tokens is not None), default=None)
        rows = [self._row(trace) for trace in traces]
        lengths = [len(prompt) + len(completion) for prompt, completion in rows]
        scored = [i for i, (_, completion) in enumerate(rows) if completion and (limit is None or lengths[i] <= limit)]
        scores: list[float | None] = [None] * len(rows)
        for batch in by_length([lengths[i] for i in scored], batch_tokens=self.batch_tokens):
            members = [scored[i] for i in batch]
            for i, score in zip(members, self._log_ratios([rows[i] for i in members]), strict=True):
                if not isfinite(score):
                    raise RunFailure(
                        f"{self._specs[0].path}: scored a sample of problem {traces[i].problem.id} as {score}"
                    )
                scores[i] = score
        yield from scores

    def close(self) -> None:
        """Free the models' memory; the scorer cannot be used afterwards."""
        import torch

        is_on_gpu = any(model.device.type == "cuda" for model in self._models)
        self._models, self._is_closed = [], True
        if is_on_gpu:
            torch.cuda.empty_cache()

    def _row(self, trace: Trace) -> Row:
        if self.ids is not None:
            return self.ids(trace)
        prompt, text = text_ids(self.tokenizer, self.render(trace.problem)), trace.sample.text
        if trace.sample.finish_reason == "length":
            return prompt, continuation_ids(self.tokenizer, text)
        return prompt, ended_text_ids(self.tokenizer, text, self.ends, is_chat=self.is_chat)

    def _log_ratios(self, rows: Sequence[Row]) -> list[float]:
        policy, *reference = [log_probabilities(model, rows) for model in self._models]
        sums = [a - b for a, b in zip(policy, reference[0], strict=True)] if reference else policy
        lengths = [len(completion) for _, completion in rows]
        return [total / length for total, length in zip(sums, lengths, strict=True)] if self.per_token else sums


def log_probabilities(model: Any, rows: Sequence[Row]) -> list[float]:
    """Return the sum of log-probabilities over the tokens of each completion, in nats; softmax in float32."""
    import torch
    from torch.nn.functional import cross_entropy

    tokens = [[*prompt, *completion] for prompt, completion in rows]
    sums = []
    with torch.inference_mode():
        inputs = pad(tokens, pad_id=0, device=model.device)
        logits_B_T_V = model(**inputs, use_cache=False).logits
        for row, (prompt, _) in enumerate(rows):
            start, end = max(len(prompt), 1), len(tokens[row])  # the first token has no prediction
            targets = inputs["input_ids"][row, start:end]
            sums.append(-cross_entropy(logits_B_T_V[row, start - 1 : end - 1].float(), targets, reduction="sum").item())
    return sums


def by_length(lengths: Sequence[int], *, batch_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of each batch, longest sequences first, so that a lack of memory shows at once.

    Args:
        lengths: Tokens of each sequence.
        batch_tokens: Most tokens of a batch, padding included; a longer sequence is a batch of its own.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def pad(rows: Sequence[Sequence[int]], *, pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask` of sequences, each (B, T), padded on the right with `pad_id`."""
    import torch

    longest = max(map(len, rows))
    ids_B_T = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask_B_T = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids_B_T.to(device), "attention_mask": mask_B_T.to(device)}
