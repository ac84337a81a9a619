from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest

from star_rft.errors import RunFailure, UserError
from star_rft.scorers.judge import Endpoint, Judge
from tests.scorers.traces import trace

KEY = "secret-0123456789"


@dataclass
class Server:
    """A chat-completions server; `reply` gives status, body and headers for the n-th try of a question."""

    reply: Callable[[str, int], tuple[int, Any, dict[str, str]]]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    at_once: int = 0
    most_at_once: int = 0
    lock: Any = field(default_factory=Lock)


def said(text: str | None, finish: str = "stop") -> tuple[int, Any, dict[str, str]]:
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}, {}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server(reply=lambda question, _: said(f"You said {question}"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            question = body["messages"][0]["content"]
            with state.lock:
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
                state.tries[question] = state.tries.get(question, 0) + 1
                tried = state.tries[question]
                state.bodies.append(body)
                state.paths.append(self.path)
                state.keys.append(self.headers["Authorization"])
            status, answer, headers = state.reply(question, tried)
            with state.lock:
                state.at_once -= 1
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            try:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the client has given up waiting
                return

        def log_message(self, *_: Any) -> None:
            return None

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def test_completions_come_back_in_order_whichever_is_ready_first(server: Server) -> None:
    def slow_first(question: str, _: int) -> tuple[int, Any, dict[str, str]]:
        time.sleep(0.2 if question == "q0" else 0.0)
        return said(f"of {question}")

    server.reply = slow_first
    endpoint = Endpoint(server.url, model="m", concurrency=4)
    assert list(endpoint([f"q{i}" for i in range(6)])) == [f"of q{i}" for i in range(6)]


def test_a_request_is_that_of_the_protocol(server: Server) -> None:
    list(Endpoint(server.url, model="m", max_tokens=7, temperature=None)(["hello"]))
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies == [{"model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": "hello"}]}]
    assert server.keys == [None]
    list(Endpoint(server.url + "/chat/completions/", model="m")(["hello"]))
    assert server.paths[-1] == "/v1/chat/completions"
    assert server.bodies[-1]["temperature"] == 0.0


def test_no_more_requests_are_under_way_than_allowed(server: Server) -> None:
    def slow(question: str, _: int) -> tuple[int, Any, dict[str, str]]:
        time.sleep(0.05)
        return said(question)

    server.reply = slow
    list(Endpoint(server.url, model="m", concurrency=3)([f"q{i}" for i in range(12)]))
    assert server.most_at_once == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(server: Server, status: int) -> None:
    server.reply = lambda question, tried: said("at last") if tried == 3 else (status, "busy", {})
    assert list(Endpoint(server.url, model="m", backoff=0.01)(["q"])) == ["at last"]
    assert server.tries == {"q": 3}


def test_a_timeout_is_tried_again(server: Server) -> None:
    def slow_once(question: str, tried: int) -> tuple[int, Any, dict[str, str]]:
        time.sleep(0.6 if tried == 1 else 0.0)
        return said("at last")

    server.reply = slow_once
    assert list(Endpoint(server.url, model="m", timeout=0.2, backoff=0.01)(["q"])) == ["at last"]


def test_retry_after_is_obeyed_instead_of_the_backoff(server: Server) -> None:
    server.reply = lambda _, tried: said("yes") if tried == 2 else (429, "", {"Retry-After": "0"})
    began = time.monotonic()
    assert list(Endpoint(server.url, model="m", backoff=30.0)(["q"])) == ["yes"]
    assert time.monotonic() - began < 10


def test_a_server_that_goes_on_failing_is_a_failure_not_a_missing_score(server: Server) -> None:
    server.reply = lambda *_: (503, "overloaded", {})
    with pytest.raises(RunFailure, match="failed 3 times, the last time with: 503 overloaded"):
        list(Endpoint(server.url, model="m", retries=2, backoff=0.01)(["q"]))
    assert server.tries == {"q": 3}


def test_after_a_failure_the_rest_is_not_asked(server: Server) -> None:
    server.reply = lambda *_: (400, "no", {})
    with pytest.raises(UserError):
        list(Endpoint(server.url, model="m", concurrency=1)([f"q{i}" for i in range(50)]))
    assert len(server.tries) < 5


def test_a_refusal_is_not_tried_again_and_shows_what_the_server_says(server: Server) -> None:
    server.reply = lambda *_: (404, {"error": "no model m"}, {})
    with pytest.raises(UserError, match=r"refused a request: 404.*no model m"):
        list(Endpoint(server.url, model="m")(["q"]))
    assert server.tries == {"q": 1}


def test_a_server_that_is_not_there_is_a_clear_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(UserError, match=r"cannot be reached .*: is the server running"):
        list(Endpoint(f"http://127.0.0.1:{port}/v1", model="m")(["q"]))
    assert time.monotonic() - began < 5


def test_the_key_is_sent_and_shown_nowhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    endpoint = Endpoint(server.url, model="m", key_variable="JUDGE_KEY")
    list(endpoint(["q"]))
    assert server.keys == [f"Bearer {KEY}"]
    assert KEY not in repr(endpoint) + endpoint.version
    # Servers repeat the key that they refuse; also where the text is cut off in its middle.
    for refusal in (f"bad key {KEY}", "x" * 190 + KEY):
        server.reply = lambda *_, refusal=refusal: (401, refusal, {})
        with pytest.raises(UserError, match="401") as caught:
            list(endpoint(["q"]))
        assert KEY[:8] not in str(caught.value)
    server.reply = lambda *_: (200, f"not json {KEY}", {})
    with pytest.raises(UserError, match="does not answer as an OpenAI-compatible server: not json") as caught:
        list(endpoint(["q"]))
    assert KEY not in str(caught.value)


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(UserError, match="environment variable JUDGE_KEY"):
        Endpoint("http://localhost/v1", model="m", key_variable="JUDGE_KEY")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="is no address"):
        Endpoint(url, model="m")


def test_a_password_in_the_address_is_refused_without_showing_it() -> None:
    with pytest.raises(UserError, match="key_variable") as caught:
        Endpoint(f"http://me:{KEY}@host/v1", model="m")
    assert KEY not in str(caught.value)


def test_a_completion_without_text_or_cut_off_is_none(server: Server) -> None:
    server.reply = lambda question, _: said(None) if question == "empty" else said("Score: 1", finish="length")
    assert list(Endpoint(server.url, model="m")(["empty", "cut"])) == [None, None]


def test_a_judge_at_an_endpoint_scores_traces(server: Server) -> None:
    server.reply = lambda question, _: said("Fine.\nScore: 4" if "= 4" in question else "Hmm.")
    endpoint = Endpoint(server.url, model="m")
    judge = Judge(endpoint, version=endpoint.version)
    assert list(judge.score([trace("2 + 2?", "2 + 2 = 4"), trace("2 + 2?", "2 + 2 = 5")])) == [4.0, None]
