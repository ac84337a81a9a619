"""Completions of an OpenAI-compatible server, for a judge: concurrent, patient, and silent about the key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

from star_rft.types import RunFailure, UserError, digest

if TYPE_CHECKING:
    import httpx

PATH = "/chat/completions"
PASSING = frozenset({408, 429, 500, 502, 503, 504})  # statuses that another try may mend
LONGEST_WAIT = 60.0  # seconds between two tries, whatever the server asks for
SHOWN = 200  # characters of a refusal


class Endpoint:
    """Asks a server at `url` (such as http://localhost:8000/v1); calling it completes a batch of questions in order.

    At most `concurrency` requests are under way. 429, 5xx, timeouts and lost connections are tried again up to
    `retries` times, after `backoff`, twice that, ... seconds or what Retry-After says; then RunFailure is raised,
    for a score that was lost is not one that does not exist. A server that was never reached, and any other
    refusal, is a UserError at once. The key is read from the environment variable `key_variable`, sent as a bearer
    token and shown nowhere. `max_tokens` and `temperature` None are left to the server.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        key_variable: str | None = None,
        max_tokens: int | None = 1024,
        temperature: float | None = 0.0,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 1.0,
    ) -> None:
        _require_address(url)
        if concurrency < 1 or retries < 0:
            raise UserError(f"concurrency {concurrency} must be at least 1 and retries {retries} at least 0")
        if key_variable is not None and not os.environ.get(key_variable):
            raise UserError(f"endpoint {url}: the environment variable {key_variable} for its key is not set")
        self.url = url.rstrip("/").removesuffix(PATH) + PATH
        self._key = os.environ[key_variable] if key_variable else ""
        asked = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
        self._body = {name: value for name, value in asked.items() if value is not None}
        self._concurrency, self._retries, self._backoff, self._timeout = concurrency, retries, backoff, timeout
        self._was_reached = False
        self.version = digest("endpoint", self.url, asked)

    def __call__(self, questions: Sequence[str]) -> Iterator[str | None]:
        """Yield a completion a question, in order; None for one without text or cut off by the token limit."""
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        stop = Event()
        with (
            httpx.Client(headers=headers, timeout=self._timeout) as client,
            ThreadPoolExecutor(self._concurrency) as threads,
        ):
            futures = [threads.submit(self._ask, client, question, stop) for question in questions]
            try:
                for future in futures:
                    yield future.result()
            finally:  # an error, or nobody wants the rest
                stop.set()
                threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, client: httpx.Client, question: str, stop: Event) -> str | None:
        wait = 0.0
        for attempt in range(self._retries + 1):
            if stop.wait(wait):
                return None
            response, problem = self._post(client, question)
            if response is not None and response.is_success:
                return self._text(response)
            if response is not None and response.status_code not in PASSING:
                raise UserError(f"{self.url} refused a request: {problem}")
            wait = _wait(response, self._backoff * 2**attempt)
        raise RunFailure(
            f"{self.url} failed {self._retries + 1} times, the last time with: {problem};"
            " the scores so far are saved, and the same command goes on from there"
        )

    def _post(self, client: httpx.Client, question: str) -> tuple[httpx.Response | None, str]:
        """Return a response, and in words what was wrong with it or why there is none."""
        import httpx

        try:
            body = {**self._body, "messages": [{"role": "user", "content": question}]}
            response = client.post(self.url, json=body)
        except httpx.TransportError as error:
            if not self._was_reached and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                raise UserError(f"{self.url} cannot be reached ({error}): is the server running?") from None
            return None, f"{type(error).__name__} {error}".rstrip()
        self._was_reached = True
        return response, f"{response.status_code} {self._shown(response)}"

    def _text(self, response: httpx.Response) -> str | None:
        try:
            choice: dict[str, Any] = response.json()["choices"][0]
            content = choice["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise UserError(
                f"{self.url} does not answer as an OpenAI-compatible server: {self._shown(response)}"
            ) from None
        return None if choice.get("finish_reason") == "length" else content

    def _shown(self, response: httpx.Response) -> str:
        """Return the beginning of a response in one line; servers may repeat the key that they refuse."""
        text = response.text.replace(self._key, "(key)") if self._key else response.text
        return " ".join(text.split())[:SHOWN]


def _require_address(url: str) -> None:
    import httpx

    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"endpoint {url!r} is no address: {error}") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise UserError(f"endpoint {url!r} is no address: it should look like http://localhost:8000/v1")
    if address.userinfo:
        raise UserError(f"endpoint at {address.host}: leave the password out of the address and use key_variable")


def _wait(response: httpx.Response | None, seconds: float) -> float:
    """Return how long to wait: the server's word where it gives a number, else `seconds`."""
    asked = "" if response is None else response.headers.get("Retry-After", "")
    return min(float(asked) if asked.isdigit() else seconds, LONGEST_WAIT)
