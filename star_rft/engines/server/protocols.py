"""Differences between OpenAI-compatible servers: their parameters and their answers.

Read in the sources of vLLM 0.32, SGLang 0.5 and llama.cpp (tools/server) of 2026; vLLM's is tested against a real one.
A server names its kind in `owned_by` of its list of models. One of an unknown kind gets the parameters that all kinds
share: prompts are sent as text, and completions come back as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from star_rft.engines.server.http import TransientError
from star_rft.engines.stopping import StopDetector
from star_rft.errors import UserError
from star_rft.types import Decoding, FinishReason

# Of how servers are asked and read here, for decodings: theirs is not known before one is up, nor the same everywhere.
VERSION = "1"
TOKEN_ID = "token_id:"  # how vLLM writes tokens with return_tokens_as_token_ids


@dataclass(frozen=True, slots=True)
class Dialect:
    """The parameters of one kind of server.

    Attributes:
        takes_ids: Prompts are sent as token ids, so that the server's tokenizer does not matter.
        seed_bits: How many bits of a seed it takes.
        no_top_k: Its value of `top_k` for all tokens; None where it has no such parameter.
        takes_stop_ids: Requests can name tokens that end a completion.
        always: Sent with every request, above all to switch off sampling defaults of the server and the checkpoint.
        logprobs_are_raw: Its log-probabilities are those at temperature 1, whatever the request's temperature.
    """

    name: str
    takes_ids: bool
    seed_bits: int
    no_top_k: int | None
    takes_stop_ids: bool = False
    always: Mapping[str, Any] = field(default_factory=dict)
    logprobs_are_raw: bool = True

    def body(
        self, name: str, text: str, ids: Sequence[int], seed: int, decoding: Decoding, stops: StopDetector
    ) -> dict[str, Any]:
        """Return the request for one completion by the model that the server calls `name`."""
        if decoding.stop_token_ids and not self.takes_stop_ids:
            raise UserError(
                f"server.api: servers of kind {self.name} take no stop_token_ids: leave sample.stop_token_ids and"
                " eval.stop_token_ids out, or use one of vLLM or SGLang"
            )
        if decoding.top_k and self.no_top_k is None:
            raise UserError(
                "server.api: the protocol that all servers share has no top_k: leave sample.top_k and eval.top_k at 0,"
                " or name the server's kind"
            )
        body = {
            "model": name,
            "prompt": list(ids) if self.takes_ids else text,
            "max_tokens": decoding.max_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "n": 1,
            "seed": seed & ((1 << self.seed_bits) - 1),
            **self.always,
        }
        # Where ids can be named, a stop string that is a special token is one of them: no text would show it.
        if self.takes_stop_ids:
            body["stop_token_ids"] = sorted(stops.ids)
        if stop := stops.strings if self.takes_stop_ids else decoding.stop:
            body["stop"] = list(stop)
        if self.no_top_k is not None:
            body["top_k"] = decoding.top_k or self.no_top_k
        return body

    def has_raw_logprobs(self, temperature: float) -> bool:
        """Whether log-probabilities of samples at this temperature are those at temperature 1."""
        return self.logprobs_are_raw or temperature in (0.0, 1.0)


_PLAIN = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "min_p": 0.0}

DIALECTS: Mapping[str, Dialect] = {
    # `logprobs` 0 asks for the sampled token's alone. Raw unless the server was started with another --logprobs-mode.
    "vllm": Dialect("vllm", True, 63, -1, True, {**_PLAIN, "logprobs": 0, "return_token_ids": True}),
    # It divides by the temperature first, unless SGLANG_RETURN_ORIGINAL_LOGPROB is set, which nobody outside can see.
    "sglang": Dialect(
        "sglang", True, 31, -1, True, {**_PLAIN, "logprobs": 0, "return_token_ids": True}, logprobs_are_raw=False
    ),
    # Its own order of samplers truncates before the temperature, and has min_p and more in it.
    "llamacpp": Dialect("llamacpp", True, 31, 0, False, {"logprobs": 1, "samplers": ["temperature", "top_k", "top_p"]}),
    "openai": Dialect("openai", False, 31, None),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion as a server gave it; `token_ids` and `logprob` are None where it gave none, or not all."""

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...] | None
    logprob: float | None
    tokens: int | None  # how many it counted


def answer(found: Mapping[str, Any]) -> Answer:
    """Read the one completion of an answer; what is missing or malformed is a TransientError."""
    choices = found.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        count = len(choices) if isinstance(choices, list) else "no"
        raise TransientError(f"an answer with {count} choices where one was asked for")
    choice = choices[0]
    text, reason = choice.get("text"), choice.get("finish_reason")
    if not isinstance(text, str):
        raise TransientError(f"a completion without text: {str(choice)[:100]}")
    if reason not in ("stop", "length"):
        raise TransientError(f"a completion that was not finished (finish_reason {reason!r})")
    usage = found.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    ids, logprobs = _tokens(choice)
    # llama.cpp leaves out the tokens of a stop string and of characters that take several.
    is_whole = ids is not None and bool(ids) and tokens in (None, len(ids))
    return Answer(
        text=text,
        finish_reason=reason,
        token_ids=tuple(ids) if ids is not None and is_whole else None,
        logprob=_sum(logprobs, len(ids)) if ids is not None and is_whole else None,
        tokens=tokens if isinstance(tokens, int) else None,
    )


def _tokens(choice: Mapping[str, Any]) -> tuple[list[int] | None, list[Any]]:
    """Return the tokens of a choice and their log-probabilities, wherever a server puts them."""
    ids, logprobs = choice.get("token_ids"), choice.get("logprobs")
    values: list[Any] = []
    if isinstance(logprobs, dict):
        content, tokens = logprobs.get("content"), logprobs.get("tokens")
        if isinstance(content, list) and all(isinstance(entry, dict) for entry in content):  # llama.cpp
            values = [entry.get("logprob") for entry in content]
            ids = ids or [entry.get("id") for entry in content]
        elif isinstance(tokens, list):
            values = logprobs.get("token_logprobs") or []
            ids = ids or [_numbered(token) for token in tokens]
    if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
        return None, []
    return ids, values


def _numbered(token: object) -> int | None:
    digits = token.removeprefix(TOKEN_ID) if isinstance(token, str) and token.startswith(TOKEN_ID) else ""
    return int(digits) if digits.isdecimal() else None


def _sum(logprobs: Sequence[Any], count: int) -> float | None:
    """Add up log-probabilities, one a token; None where one is missing or none."""
    if len(logprobs) != count or not all(isinstance(value, int | float) for value in logprobs):
        return None
    total = math.fsum(logprobs)
    return total if math.isfinite(total) else None
