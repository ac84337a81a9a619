"""Completions of an OpenAI-compatible server, for a judge: concurrent, patient, and silent about the key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from star_rft.addresses import key_from, require_address
from star_rft.engines.server.client import Address, Fleet
from star_rft.engines.server.http import shown
from star_rft.errors import UserError
from star_rft.types import digest

if TYPE_CHECKING:
    import httpx

PATH = "/chat/completions"


class Endpoint:
    """Asks a server at `url` (such as http://localhost:8000/v1); calling it completes a batch of questions in order.

    At most `concurrency` requests are under way. What another try may mend is tried again up to `retries` times
    (`Fleet`); then RunFailure is raised, for a score that was lost is not one that does not exist. A server that was
    never reached, and any other refusal, is a UserError at once. The key is read from the environment variable
    `key_variable`, sent as a bearer token and shown nowhere. The server decides what `max_tokens` and `temperature` of
    None are.
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
        address = require_address(url).removesuffix(PATH)
        self._key = key_from(key_variable, of=f"endpoint {url}")
        self._fleet = Fleet(
            [address],
            key=self._key,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            advice="the scores so far are saved, and the same command goes on from there",
        )
        asked = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
        self._body = {name: value for name, value in asked.items() if value is not None}
        self.version = digest("endpoint", address + PATH, asked)

    def __call__(self, questions: Sequence[str]) -> Iterator[str | None]:
        """Yield a completion a question, in order; None for one without text or cut off by the token limit."""

        def body(index: int, _: Address) -> dict[str, Any]:
            return {**self._body, "messages": [{"role": "user", "content": questions[index]}]}

        answers: dict[int, str | None] = {}  # those that came before their turn
        turn = 0
        try:
            for index, text in self._fleet.ask(PATH, len(questions), body, self._text):
                answers[index] = text
                while turn in answers:
                    yield answers.pop(turn)
                    turn += 1
        finally:
            self._fleet.close()

    def _text(self, _: int, address: Address, response: httpx.Response) -> str | None:
        try:
            choice: dict[str, Any] = response.json()["choices"][0]
            content = choice["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise UserError(
                f"{address.url} does not answer as an OpenAI-compatible server: {shown(response, self._key)}"
            ) from None
        return None if choice.get("finish_reason") == "length" else content
