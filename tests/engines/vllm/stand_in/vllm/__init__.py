"""A stand-in for vLLM, with as much of its surface as the worker uses, so that its processes can be tested without it.

A completion is `seed % 7` times the token 100 and then end-of-sequence (2), cut at max_tokens. The engine option
`misbehave` says what goes wrong, and `children` how many processes it starts, as vLLM does.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

LONGEST = 512


@dataclass
class EngineArgs:
    model: str
    tokenizer: str
    trust_remote_code: bool
    dtype: str
    tensor_parallel_size: int
    max_model_len: int
    gpu_memory_utilization: float
    enforce_eager: bool
    enable_prefix_caching: bool
    generation_config: str
    logprobs_mode: str
    disable_log_stats: bool
    kv_cache_memory_bytes: int = 0
    enable_chunked_prefill: bool = True
    max_num_seqs: int = 8
    misbehave: str = ""
    children: int = 0
    step_seconds: float = 0.0


@dataclass
class SamplingParams:
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    stop: list
    stop_token_ids: list
    logprobs: int
    output_kind: int
    ignore_eos: bool
    seed: int

    def __post_init__(self):
        if self.top_p > 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}.")


@dataclass
class Request:
    key: str
    params: SamplingParams
    token_ids: list = field(default_factory=list)

    def step(self):
        self.token_ids.append(2 if len(self.token_ids) == self.params.seed % 7 else 100)
        ended = self.token_ids[-1] in self.params.stop_token_ids
        return "stop" if ended else "length" if len(self.token_ids) == self.params.max_tokens else None


class LLMEngine:
    def __init__(self, arguments):
        if arguments.misbehave == "refuse":
            raise ValueError("1 validation error\n  the model is too large")
        if arguments.misbehave == "fail to load":
            raise RuntimeError("no such weights")
        print("loading", arguments.model, flush=True)
        self.arguments, self.running, self.steps, self.children = arguments, [], 0, []
        for _ in range(arguments.children):
            # As a fork would, it keeps the pipes of the worker open.
            self.children.append(subprocess.Popen(["sleep", "1000"], close_fds=False))
        limit = LONGEST if arguments.max_model_len == -1 else arguments.max_model_len
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=limit),
            scheduler_config=SimpleNamespace(max_num_seqs=arguments.max_num_seqs),
        )
        self.engine_core = SimpleNamespace(shutdown=self.shutdown)
        if arguments.misbehave == "load forever":
            time.sleep(1000)

    @classmethod
    def from_engine_args(cls, arguments):
        return cls(arguments)

    def has_unfinished_requests(self):
        return bool(self.running)

    def add_request(self, key, prompt, params, lora_request=None):
        assert prompt["prompt_token_ids"]
        self.running.append(Request(key, params))

    def abort_request(self, keys):
        self.running = [one for one in self.running if one.key not in set(keys)]

    def step(self):
        time.sleep(self.arguments.step_seconds)
        self.steps += 1
        if self.steps == 3:
            self.misbehave()
        outputs = []
        for one in self.running[: self.arguments.max_num_seqs]:
            if finish := one.step():
                self.running.remove(one)
                completion = SimpleNamespace(
                    finish_reason=finish,
                    stop_reason=None,
                    text="",
                    token_ids=one.token_ids,
                    cumulative_logprob=-0.5 * len(one.token_ids),
                )
                outputs.append(SimpleNamespace(finished=True, request_id=one.key, outputs=[completion]))
        return outputs

    def misbehave(self):
        how = self.arguments.misbehave
        if how == "raise":
            raise MemoryError("out of\nmemory")
        if how == "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hang":
            time.sleep(1000)
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)

    def shutdown(self):
        print("shut down in order", flush=True)
        if self.arguments.misbehave == "not close":
            time.sleep(1000)
        for child in self.children:
            child.kill()
            child.wait()
