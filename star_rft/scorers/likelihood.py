"""The log-probability of a completion: under a model that DPO trained on correct against incorrect ones, it ranks them.

V-STaR (arXiv 2402.06457, section 3.2): such a verifier is used through its likelihood of the solution, without a
head of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from star_rft.models import fingerprint, load, load_tokenizer
from star_rft.scorers.batches import by_length, pad
from star_rft.types import Problem, RunFailure, Trace, digest

BATCH_TOKENS = 4096  # a batch's logits are this many vocabularies wide

Row = tuple[list[int], list[int]]  # the ids of a prompt, and of its completion


class Likelihood:
    """Scores a completion by its log-probability after the prompt: a mean over tokens, or the sum.

    `reference` is subtracted where it is given: times beta, that is the implicit reward of DPO. `render` makes the
    prompt that the model was trained with. Prompt and completion are tokenised apart, as in training; the end of
    the sequence is part of a completion that came to its end. None is the score of what is longer than the
    model's positions, and of an empty completion. The weights are loaded by the first `score`.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        render: Callable[[Problem], str],
        reference: str | Path | None = None,
        per_token: bool = True,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int = BATCH_TOKENS,
        trust_remote_code: bool = False,
    ) -> None:
        self.tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
        self.render, self.per_token, self.batch_tokens = render, per_token, batch_tokens
        self._paths = [model] if reference is None else [model, reference]
        self._load = partial(load, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        self.version = digest("likelihood", [fingerprint(path) for path in self._paths], per_token, dtype)
        self._models: list[Any] = []
        self._is_closed = False

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        """Yield a score a trace, in order."""
        if self._is_closed:
            raise RuntimeError("this scorer was closed")
        if not self._models:
            self._models = [self._load(path)[0] for path in self._paths]
        limit = min(model.config.get_text_config().max_position_embeddings for model in self._models)
        rows = self._encoded(traces)
        lengths = [len(prompt) + len(completion) for prompt, completion in rows]
        scored = [i for i, (_, completion) in enumerate(rows) if completion and lengths[i] <= limit]
        scores: list[float | None] = [None] * len(rows)
        for batch in by_length([lengths[i] for i in scored], batch_tokens=self.batch_tokens):
            members = [scored[i] for i in batch]
            for i, score in zip(members, self._log_ratios([rows[i] for i in members]), strict=True):
                if not isfinite(score):
                    raise RunFailure(f"{self._paths[0]}: scored a sample of problem {traces[i].problem.id} as {score}")
                scores[i] = score
        yield from scores

    def close(self) -> None:
        """Free the models' memory; the scorer cannot be used afterwards."""
        import torch

        is_on_gpu = any(model.device.type == "cuda" for model in self._models)
        self._models, self._is_closed = [], True
        if is_on_gpu:
            torch.cuda.empty_cache()

    def _encoded(self, traces: Sequence[Trace]) -> list[Row]:
        if not traces:
            return []
        prompts = self.tokenizer([self.render(t.problem) for t in traces], add_special_tokens=False)["input_ids"]
        completions = self.tokenizer([t.sample.text for t in traces], add_special_tokens=False)["input_ids"]
        ends = [[self.tokenizer.eos_token_id] if t.sample.finish_reason == "stop" else [] for t in traces]
        return [(prompt, text + end) for prompt, text, end in zip(prompts, completions, ends, strict=True)]

    def _log_ratios(self, rows: Sequence[Row]) -> list[float]:
        policy, *reference = [log_probabilities(model, rows) for model in self._models]
        sums = [a - b for a, b in zip(policy, reference[0], strict=True)] if reference else policy
        lengths = [len(completion) for _, completion in rows]
        return [total / length for total, length in zip(sums, lengths, strict=True)] if self.per_token else sums


def log_probabilities(model: Any, rows: Sequence[Row]) -> list[float]:
    """Return the sum over each completion's tokens, in float32."""
    import torch
    from torch.nn.functional import cross_entropy

    tokens = [prompt + completion for prompt, completion in rows]
    sums = []
    with torch.inference_mode():
        inputs = pad(tokens, pad_id=0, device=model.device)
        logits_B_T_V = model(**inputs, use_cache=False).logits
        for row, (prompt, _) in enumerate(rows):
            start, end = max(len(prompt), 1), len(tokens[row])  # nothing predicts the very first token
            targets = inputs["input_ids"][row, start:end]
            sums.append(-cross_entropy(logits_B_T_V[row, start - 1 : end - 1].float(), targets, reduction="sum").item())
    return sums
