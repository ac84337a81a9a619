"""The vLLM sampler: sends token ids and seeds to engines in other processes.

`worker.py` has the messages, `engine.py` the processes. This process tokenises prompts, and decodes and cuts
completions, with the checkpoint's tokenizer, exactly as the hf engine does: vLLM only chooses the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from star_rft.engines.stopping import StopDetector
from star_rft.engines.tokenize import tokenized
from star_rft.engines.vllm.engine import Message, Replicas, SeededPrompt, adapter_of, vllm_version
from star_rft.errors import UserError
from star_rft.models import load_tokenizer
from star_rft.models.ends import ends_of
from star_rft.models.spec import AnyModel, ModelSpec
from star_rft.types import Completion, Decoding, Request

# vLLM refuses larger temperatures, and silently raises smaller ones, of which the ledger would not know.
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 2.0

# Engine arguments that another key of the config sets; None: fixed here, because the text or the log-probability of a
# completion would mean something else.
OWN_ARGUMENTS = {
    "model": "model.name",
    "tokenizer": "model.name",
    "dtype": "model.dtype",
    "trust_remote_code": "model.trust_remote_code",
    "tensor_parallel_size": "vllm.tensor_parallel",
    "data_parallel_size": "vllm.data_parallel",
    "max_model_len": "vllm.max_model_len",
    "gpu_memory_utilization": "vllm.memory",
    "enforce_eager": "vllm.eager",
    "enable_lora": "vllm.serve_adapters",
    "generation_config": None,
    "logprobs_mode": None,
}


class VLLMSampler:
    """Draws completions from a model in `data_parallel` engines of `tensor_parallel` GPUs each.

    Each request is drawn exactly once, by a seed of its own. Equal requests give nearly always equal completions, but
    that is no promise: an engine batches as requests come, and batch shape moves logits.
    """

    def __init__(
        self,
        model: AnyModel,
        *,
        python: str,
        tensor_parallel: int = 1,
        data_parallel: int = 1,
        max_model_len: int | None = None,
        memory: float = 0.9,
        eager: bool = False,
        serves_adapters: bool = False,
        stall: float = 600.0,
        env: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.version = vllm_version(python)
        further = _checked(options or {})
        spec = ModelSpec.of(model)
        self.tokenizer = load_tokenizer(spec)
        self._ends = ends_of(spec, self.tokenizer)
        self._whose = "the model" if max_model_len is None else "vllm.max_model_len"
        adapter = adapter_of(spec.path) if serves_adapters else None
        arguments = {
            "model": str(adapter.base if adapter else spec.path),
            "tokenizer": str(spec.path),
            "trust_remote_code": spec.trust_remote_code,
            "dtype": spec.dtype,
            "tensor_parallel_size": tensor_parallel,
            "max_model_len": max_model_len or -1,  # -1: the model's, or as much of it as the memory holds
            "gpu_memory_utilization": memory,
            "enforce_eager": eager,
            "enable_prefix_caching": True,  # the samples of a prompt share its prefill
            "generation_config": "vllm",  # none of the checkpoint's defaults
            "logprobs_mode": "raw_logprobs",  # of the model itself: temperature 1, untruncated
            "disable_log_stats": True,
            **(adapter.arguments if adapter else {}),
            **further,
        }
        self._replicas: Replicas | None = Replicas(
            python,
            first={"arguments": arguments, "adapter": str(adapter.folder) if adapter else None},
            replicas=data_parallel,
            gpus_each=tensor_parallel,
            env=env or {},
            stall=stall,
        )

    def sample(
        self,
        requests: Sequence[Request],
        *,
        decoding: Decoding,
        batch_size: int | None = None,  # noqa: ARG002
    ) -> Iterator[Completion]:
        """Yield exactly one completion a request, as they finish. A faulty request raises ValueError now.

        `batch_size` is ignored: the engine batches by itself. Several streams may be read at once, each in a thread.
        """
        if self._replicas is None:
            raise RuntimeError("this sampler was closed")
        if decoding.temperature != 0 and not LEAST_TEMPERATURE <= decoding.temperature <= MOST_TEMPERATURE:
            span = f"{LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}"
            raise UserError(f"temperature {decoding.temperature:g}: vLLM draws at 0 or from {span}")
        limit = self._replicas.limit
        prompts = tokenized(requests, self.tokenizer, decoding=decoding, limit=limit, whose=self._whose)
        seeded = [SeededPrompt(p.ids, p.requests, tuple(engine_seed(r.seed) for r in p.requests)) for p in prompts]
        return self._completions(self._replicas, seeded, decoding, StopDetector(self.tokenizer, self._ends, decoding))

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:  # noqa: ARG002
        """Return 0: the engine batches by itself, as the memory allows."""
        return 0

    def close(self) -> None:
        """End every process of the engines; RunFailure if one is left, or does not give its GPU memory back."""
        replicas, self._replicas = self._replicas, None
        if replicas is not None:
            replicas.close()

    def _completions(
        self, replicas: Replicas, prompts: Sequence[SeededPrompt], decoding: Decoding, stops: StopDetector
    ) -> Iterator[Completion]:
        params = {
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k,
            "max_tokens": decoding.max_tokens,
            "stop": list(stops.strings),
            "stop_token_ids": sorted(stops.ids),
        }
        for request, message in replicas.draw(prompts, params):
            yield self._completion(request, message, stops)

    def _completion(self, request: Request, message: Message, stops: StopDetector) -> Completion:
        token_ids, logprob = tuple(message["token_ids"]), message["logprob"]
        if math.isnan(logprob):
            raise FloatingPointError("the model returned NaN instead of logits: its weights are broken")
        text, reason = stops.text(token_ids)
        if reason == "length" and message["stopped_text"] is not None:
            # vLLM decodes the tokens behind the prompt, so it may find a stop string that begins with a space which
            # the completion alone, decoded here, does not begin with.
            text, reason = message["stopped_text"], "stop"
        return Completion(request, text, token_ids, reason, logprob)


def engine_seed(seed: int) -> int:
    """Return a seed as vLLM takes it: signed, 64 bits, and not -1, which means none."""
    signed = seed - 2**64 if seed >= 2**63 else seed
    return 0 if signed == -1 else signed


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raise UserError for an engine argument that the sampler sets itself. The worker refuses those vLLM lacks."""
    for name in options:
        if name in OWN_ARGUMENTS:
            key = OWN_ARGUMENTS[name]
            raise UserError(f"vllm.options.{name} cannot be set" + (f": set {key}" if key else ": samples stand on it"))
    return options
