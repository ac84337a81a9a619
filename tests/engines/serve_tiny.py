"""An OpenAI-compatible server over our own sampler: python -m tests.engines.serve_tiny MODEL PORT [options]

It answers as `vllm serve` does (tokens and log-probabilities), or with text alone, as many others do. What arrives
within a moment is drawn as one batch. Each completion is counted in a file, so that a test knows what was drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from star_rft.engines.hf.sampler import HFSampler
from star_rft.models.spec import ModelSpec
from star_rft.types import Completion, Decoding, Request

PAUSE = 0.01  # seconds in which requests gather


@dataclass
class Tiny:
    """The model behind the server. After `dies_after` completions of its life the process is gone, as by SIGKILL."""

    model: str
    sampler: HFSampler
    counts: Path | None
    text_only: bool
    dies_after: int | None
    drawn: int = 0

    def __post_init__(self) -> None:
        self.waiting: list[tuple[Request, Decoding, asyncio.Future[Completion]]] = []

    async def draw(self, prompt: str, ids: tuple[int, ...] | None, seed: int, decoding: Decoding) -> Completion:
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self.waiting.append((Request(str(len(self.waiting)), 0, prompt, seed, ids), decoding, future))
        return await future

    async def work(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            together, self.waiting = self.waiting, []
            by_decoding: dict[Decoding, list[tuple[Request, asyncio.Future[Completion]]]] = defaultdict(list)
            for index, (request, decoding, future) in enumerate(together):
                unique = replace(request, problem_id=str(index))
                by_decoding[decoding].append((unique, future))
            for decoding, pairs in by_decoding.items():
                futures = dict(pairs)
                stream = self.sampler.sample(list(futures), decoding=decoding)
                for completion in await asyncio.to_thread(list, stream):
                    self.count(completion)
                    if not futures[completion.request].done():
                        futures[completion.request].set_result(completion)

    def count(self, completion: Completion) -> None:
        self.drawn += 1
        if self.counts is not None:
            line = json.dumps([self.model, completion.request.prompt, completion.request.seed])
            with self.counts.open("a") as stream:
                stream.write(line + "\n")
        if self.dies_after is not None and self.drawn > self.dies_after:
            os._exit(137)


def application(tiny: Tiny, *, key: str | None) -> Starlette:
    def refused(request: HTTPRequest) -> JSONResponse | None:
        given = request.headers.get("authorization", "")
        return JSONResponse({"error": f"bad key {given}"}, 401) if key and given != f"Bearer {key}" else None

    async def models(request: HTTPRequest) -> JSONResponse:
        owner = "somebody" if tiny.text_only else "vllm"
        card = {"id": tiny.model, "object": "model", "owned_by": owner, "root": tiny.model}
        return refused(request) or JSONResponse({"object": "list", "data": [card]})

    async def completions(request: HTTPRequest) -> JSONResponse:
        if (refusal := refused(request)) is not None:
            return refusal
        body: dict[str, Any] = await request.json()
        prompt: Any = body["prompt"]
        ids = tuple(prompt) if isinstance(prompt, list) else None
        text = str(prompt if ids is None else tiny.sampler.tokenizer.decode(prompt))
        one = await tiny.draw(text, ids, body["seed"], _decoding(body))
        choice: dict[str, Any] = {"index": 0, "text": one.text, "finish_reason": one.finish_reason, "logprobs": None}
        if not tiny.text_only:
            # The sum is all that our sampler knows: on the first token it is the same sum.
            values = [one.logprob, *[0.0] * (len(one.token_ids) - 1)]
            choice |= {"token_ids": list(one.token_ids), "logprobs": {"token_logprobs": values, "tokens": []}}
        usage = {"completion_tokens": len(one.token_ids)}
        return JSONResponse({"object": "text_completion", "choices": [choice], "usage": usage})

    routes = [Route("/v1/models", models), Route("/v1/completions", completions, methods=["POST"])]
    return Starlette(routes=routes)


def _decoding(body: dict[str, Any]) -> Decoding:
    return Decoding(
        temperature=body["temperature"],
        max_tokens=body["max_tokens"],
        top_p=body["top_p"],
        top_k=max(body.get("top_k", 0), 0),
        stop=tuple(body.get("stop", ())),
        stop_token_ids=tuple(body.get("stop_token_ids", ())),
    )


async def serve(tiny: Tiny, port: int, key: str | None) -> None:
    work = asyncio.create_task(tiny.work())
    config = uvicorn.Config(application(tiny, key=key), host="127.0.0.1", port=port, log_level="warning")
    await uvicorn.Server(config).serve()
    work.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--counts", type=Path)
    parser.add_argument("--text-only", action="store_true")
    parser.add_argument("--dies-after", type=int)
    parser.add_argument("--key-variable")
    given = parser.parse_args()
    torch.set_num_threads(1)
    key = os.environ.get(given.key_variable) if given.key_variable else None
    print(f"serving {given.model} with the key {key}", flush=True)  # as careless servers do
    sampler = HFSampler(ModelSpec(given.model, dtype="float32", device="cpu"), batch_size=64)
    tiny = Tiny(given.model, sampler, given.counts, given.text_only, given.dies_after)
    asyncio.run(serve(tiny, given.port, key))


if __name__ == "__main__":
    main()
