"""A completions server with a deterministic engine, and faults where a test wants them.

Its text is a function of prompt and seed, so that a test knows what each request must come to. It counts what it
finished, how many requests it had at once and which keys it saw.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

MODEL = "the-model"
Fault = Callable[[int, int], str]  # from the request's number at this server and its try to a fault's name; "" is none


def written(prompt: str, seed: int) -> str:
    """Return what the engine says: words that the tiny tokenizer has."""
    return f" Then {seed % 1000} apples of {len(prompt)}."


@dataclass
class FaultyServer:
    """Serves MODEL on a loopback port in a thread of its own. `fault` says what goes wrong with a request."""

    fault: Fault = lambda number, sample_index: ""
    seconds: float = 0.0
    models: list[str] = field(default_factory=lambda: [MODEL])
    owned_by: str = "somebody"
    key: str = ""
    port: int = 0
    finished: Counter[int] = field(default_factory=Counter)  # by seed
    tries: Counter[int] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    began: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    dropped: int = 0  # clients that went before their answer
    looked: int = 0  # at the list of models

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def up(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def down(self) -> None:
        """Go away at once, as a process that is killed: open connections are reset."""
        asyncio.run_coroutine_threadsafe(self._down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _down(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.transport.abort()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        key = next((line[15:] for line in head.split("\r\n") if line.lower().startswith("authorization: ")), "")
        self.keys.add(key)
        if self.key and key != f"Bearer {self.key}":
            return await self._send(writer, 401, {"error": f"wrong key {key}, not {self.key}"})
        if head.startswith("GET /v1/models "):
            self.looked += 1
            cards = [{"id": name, "owned_by": self.owned_by} for name in self.models]
            return await self._send(writer, 200, {"data": cards})
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.bodies.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._complete(body, reader, writer)
        finally:
            self.at_once -= 1

    async def _complete(self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seed = body["seed"]
        number = len(self.bodies)
        self.tries[seed] += 1
        self.began.append(time.monotonic())
        fault = self.fault(number, self.tries[seed])
        if fault == "drop":
            return writer.transport.abort()
        gone = asyncio.create_task(reader.read(1))  # the client sends nothing more unless it goes
        await asyncio.wait([gone], timeout=30.0 if fault == "stall" else self.seconds)
        if gone.done():
            self.dropped += 1
            return writer.transport.abort()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        text = written(str(body["prompt"]), seed)
        choice = {"index": 0, "text": text, "finish_reason": "stop"}
        answer: dict[str, Any] = {"choices": [choice]}
        if fault in ("429", "500", "503"):
            retry = {"Retry-After": "1"} if fault == "429" else {}
            return await self._send(writer, int(fault), {"error": "busy"}, **retry)
        if fault == "half a body":
            data = json.dumps(answer).encode()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[: len(data) // 2])
            await writer.drain()
            return writer.transport.close()
        if fault == "trickle":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await asyncio.sleep(0.05)
            return None
        if fault == "truncated JSON":
            return await self._send(writer, 200, json.dumps(answer)[:-9])
        if fault == "no JSON":
            return await self._send(writer, 200, "<html>Bad gateway</html>")
        if fault == "no choices":
            return await self._send(writer, 200, {"choices": []})
        if fault == "no text":
            return await self._send(writer, 200, {"choices": [{"index": 0, "finish_reason": "stop"}]})
        if fault == "aborted":
            return await self._send(writer, 200, {"choices": [choice | {"finish_reason": "abort"}]})
        if fault == "cut off":
            answer = {"choices": [choice | {"finish_reason": "length"}], "usage": {"completion_tokens": 7}}
        self.finished[seed] += 1
        await self._send(writer, 200, answer)

    async def _send(self, writer: asyncio.StreamWriter, status: int, body: object, **headers: str) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + data)
        await writer.drain()


@contextmanager
def serving(**settings: Any) -> Iterator[FaultyServer]:
    server = FaultyServer(**settings)
    server.up()
    try:
        yield server
    finally:
        server.down()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
