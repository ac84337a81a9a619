"""Script that runs one vLLM engine and speaks JSON lines over two pipes.

    python worker.py REQUESTS_FD RESULTS_FD
    python worker.py --version      prints the version of vLLM, or nothing

The first line of the requests holds the engine's arguments; the answer is `ready`. Each further line is
    {"do": "draw", "ids": [token, ...], "requests": [[key, seed], ...], "params": {...}}   the samples of one prompt
    {"do": "abort", "keys": [key, ...]}
    {"do": "close"}
and each result one of
    {"is": "done", "key": key, "token_ids": [...], "logprob": sum, "finish": "stop" or "length", "stopped_text": ...}
    {"is": "beat", "steps": how many steps the engine has done}      once a second, also while it loads
    {"is": "refused", "why": one line}             arguments, or a request, that vLLM does not take
    {"is": "failed", "why": one line}              any other exception; its traceback is in the log
What vLLM prints goes to standard output and error, which the parent keeps as a log. When the parent has ended, for
whatever reason, this process ends itself and everything that vLLM has started.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import json
import os
import queue
import signal
import sys
import threading
import time
from functools import partial
from typing import Any

BEAT_SECONDS = 1.0
LONGEST_WHY = 500  # characters
CPU_CACHE_BYTES = 4 * 2**30  # the key/value cache on a machine without GPU, at most a quarter of what is free

Message = dict[str, Any]


class InvalidRequest(Exception):
    """Something that the user asked for and vLLM does not take."""


class Wire:
    """Messages from and to the parent.

    One thread reads into `inbox` and one sends a beat every second, so that both work while the engine is busy.
    """

    def __init__(self, requests_fd: int, results_fd: int, parent: int) -> None:
        self.inbox: queue.Queue[Message] = queue.Queue()
        self.steps = 0
        self._requests = os.fdopen(requests_fd, "r", encoding="utf-8")
        self._results = os.fdopen(results_fd, "w", encoding="utf-8")
        self._lock = threading.Lock()
        self._parent = parent
        for work in (self._read, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def send(self, message: Message) -> None:
        """Write a message; ends all processes if nobody reads any more. Safe to call from any thread."""
        line = json.dumps(message) + "\n"
        try:
            with self._lock:
                self._results.write(line)
                self._results.flush()
        except BrokenPipeError:
            end_everything()

    def _read(self) -> None:
        for line in self._requests:
            self.inbox.put(json.loads(line))
        end_everything()  # the parent has closed its end, or is dead

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            if os.getppid() != self._parent:  # a child that it forked may hold its end of the pipe open
                end_everything()
            self.send({"is": "beat", "steps": self.steps})


def end_everything() -> None:
    """Kill this process and its children: they are the process group."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def give_up(wire: Wire, kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Send an exception to the parent and exit at once: exit handlers of vLLM may wait for a dead engine."""
    sys.__excepthook__(kind, error, trace)
    why = " ".join(str(error).split())[:LONGEST_WHY]
    is_refusal = issubclass(kind, InvalidRequest)
    wire.send({"is": "refused", "why": why} if is_refusal else {"is": "failed", "why": f"{kind.__name__}: {why}"})
    sys.stdout.flush()
    os._exit(1)


def version() -> str | None:
    """Return the version of the distribution that `import vllm` would import; None where there is none."""
    names = importlib.metadata.packages_distributions().get("vllm", [])
    return importlib.metadata.version(names[0]) if names else None


def start(arguments: Message) -> Any:
    """Start the engine. Refused for an argument that it does not have, or a value that it does not take."""
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    known = {field.name for field in dataclasses.fields(EngineArgs)}
    for name in arguments.keys() - known:
        near = difflib.get_close_matches(name, known, n=3)
        raise InvalidRequest(f"vllm.options.{name} is no engine argument; close to it: {', '.join(near) or 'none'}")
    is_cpu = current_platform.is_cpu()
    if arguments["dtype"] == "auto":  # as the hf backend: whatever the checkpoint was saved in
        arguments["dtype"] = "float32" if is_cpu else "bfloat16"
    if is_cpu and "kv_cache_memory_bytes" not in arguments and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        arguments["kv_cache_memory_bytes"] = min(CPU_CACHE_BYTES, _free_bytes() // 4)
    if is_cpu:  # 0.32 rewinds the generator of a prompt that it has not read to its end, and a CPU's cannot be rewound
        arguments.setdefault("enable_chunked_prefill", False)
    try:
        return LLMEngine.from_engine_args(EngineArgs(**arguments))
    except ValueError as error:
        raise InvalidRequest(f"vLLM refuses: {error}") from error


def _free_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def serve(engine: Any, wire: Wire, lora: Any) -> None:
    """Draw what is asked until told to close."""
    while True:
        while not (engine.has_unfinished_requests() and wire.inbox.empty()):
            message = wire.inbox.get()
            if message["do"] == "close":
                return
            if message["do"] == "abort":
                engine.abort_request(message["keys"])
            else:
                draw(engine, message, lora)
        outputs = engine.step()
        wire.steps += 1
        for output in outputs:
            if output.finished:
                report(wire, output)


def draw(engine: Any, message: Message, lora: Any) -> None:
    """Queue the samples of one prompt: each is a request of its own, with its own seed; the prefix is cached."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    fixed = {**message["params"], "logprobs": 0, "output_kind": RequestOutputKind.FINAL_ONLY, "ignore_eos": True}
    try:
        for key, seed in message["requests"]:
            params = SamplingParams(**fixed, seed=seed)
            engine.add_request(key, {"prompt_token_ids": message["ids"]}, params, lora_request=lora)
    except ValueError as error:
        raise InvalidRequest(f"vLLM refuses: {error}") from error


def report(wire: Wire, output: Any) -> None:
    """Send a finished output of vLLM as a `done` message; nothing for one that was aborted."""
    one = output.outputs[0]
    if one.finish_reason not in ("stop", "length"):  # aborted: nobody waits for it
        return
    wire.send(
        {
            "is": "done",
            "key": output.request_id,
            "token_ids": list(one.token_ids),
            "logprob": one.cumulative_logprob,
            "finish": one.finish_reason,
            # Where a stop string ended it: the text before that, by vLLM's own reading of the tokens.
            "stopped_text": one.text if isinstance(one.stop_reason, str) else None,
        }
    )


def main() -> None:
    """Load what the first message names, answer `ready`, and draw until the parent says `close`."""
    wire = Wire(int(sys.argv[1]), int(sys.argv[2]), os.getppid())
    sys.excepthook = partial(give_up, wire)
    first = wire.inbox.get()
    engine = start(first["arguments"])
    lora = None
    if first["adapter"] is not None:
        from vllm.lora.request import LoRARequest

        lora = LoRARequest("adapter", 1, first["adapter"])
    config = engine.vllm_config
    wire.send(
        {
            "is": "ready",
            "version": version(),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
        }
    )
    serve(engine, wire, lora)
    engine.engine_core.shutdown()


if __name__ == "__main__":  # vLLM's own processes import this file again
    if sys.argv[1:] == ["--version"]:
        print(version() or "")
    else:
        main()
