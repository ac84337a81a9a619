"""The scorer `judge`: a language model, in this process or behind an OpenAI-compatible server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from star_rft.addresses import key_from, require_address
from star_rft.data import Prompter
from star_rft.engines.server.client import Address, Fleet
from star_rft.engines.server.http import shown
from star_rft.errors import UserError
from star_rft.models import load_tokenizer
from star_rft.scorers.registry import ScorerContext, scorer
from star_rft.types import Decoding, Request, Sampler, Scorer, Trace, digest

if TYPE_CHECKING:
    import httpx

# From questions to completions, one each and in order; None for one that was cut off.
Complete = Callable[[Sequence[str]], Iterator[str | None]]

# A scale of five additive points, after Self-Rewarding Language Models (arXiv 2401.10020, figure 2), in own words.
ADDITIVE = """\
You will read a question and one answer to it. Rate the answer by collecting points: begin with 0 and add one
for each statement below that holds.

- The answer deals with what was asked, even if much is missing or wrong.
- Its approach can lead to what was asked, and a good part of the way is done.
- It reaches a usable result for everything that was asked, and no step contradicts another.
- Every step and the result are right as far as you can check them; you did check them.
- An expert would have nothing to add or to remove: it is complete, clear and to the point.

Question:
{question}

Answer:
{answer}

First write your reasons in a few sentences. Then write the sum of the points in a last line of this form:
Score: <0 to 5>
"""
SCORE = r"(?i)score:\s*\**\s*(-?\d+(?:\.\d+)?)"
JUDGE_TOKENS = 512  # most tokens of a completion of a judge in this process
_SLOT = re.compile(r"\{(question|answer)\}")


@scorer(asks_model=True)
def judge(
    context: ScorerContext,
    *,
    template: str = ADDITIVE,
    pattern: str = SCORE,
    lowest: float | int = 0.0,
    highest: float | int = 5.0,
    max_tokens: int | None = None,
    temperature: float | int | None = None,
    url: str | None = None,
    model: str | None = None,
    key_variable: str | None = None,
    concurrency: int | None = None,
    timeout: float | int | None = None,
    retries: int | None = None,
) -> Scorer:
    """The score that a language model gives a completion.

    The model is one in this process (the policy, or `scorer.model`), or one behind `url`.
    """
    own: dict[str, Any] = {"template": template, "pattern": pattern, "lowest": lowest, "highest": highest}
    asked: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    served: dict[str, Any] = {"model": model, "key_variable": key_variable, "concurrency": concurrency}
    served |= {"timeout": timeout, "retries": retries}
    given = {name: value for name, value in {**asked, **served}.items() if value is not None}
    if url is not None:
        if model is None:
            raise UserError("scorer.url needs scorer.model: the name of the model that the server is to ask")
        endpoint = Endpoint(url, **given)
        return Judge(endpoint, version=endpoint.version, **own)
    if misplaced := sorted(given.keys() & served.keys()):
        raise UserError(f"scorer.{misplaced[0]} is of a server: give scorer.url too, or leave it out")
    decoding = Decoding(temperature=float(temperature or 0.0), max_tokens=max_tokens or JUDGE_TOKENS)
    prompter = Prompter(load_tokenizer(context.model))

    def complete(questions: Sequence[str]) -> Iterator[str | None]:
        # Opened only now: one model at a time is in memory, and scores that are stored need none.
        sampler = context.sampler(context.model.path)
        return policy(sampler, prompter, decoding=decoding, seed=context.seed, encode=prompter.prompt_ids)(questions)

    return Judge(complete, version=digest(context.fingerprint(context.model.path), decoding.id), **own)


class Renders(Protocol):
    """Renders a question to the prompt of a model, as `Prompter` does."""

    def text(self, question: str) -> str:
        """Return the prompt for a question."""
        ...


class Judge:
    """Scores a trace by the text that a language model writes about it.

    Equal questions are asked once.

    Args:
        complete: Completes a batch of questions.
        version: Hash of who is asked and how: a model's weights and its decoding, or `Endpoint.version`.
        template: The question, with `{question}` and `{answer}` for the problem's prompt and the completion.
        pattern: Regular expression; the first group of its last match is the score.
        lowest: Smallest score; a smaller one counts as none.
        highest: Largest score; a larger one counts as none.

    Raises:
        UserError: Template, pattern or range cannot be used.
    """

    def __init__(
        self,
        complete: Complete,
        *,
        version: str,
        template: str = ADDITIVE,
        pattern: str = SCORE,
        lowest: float = 0.0,
        highest: float = 5.0,
    ) -> None:
        if missing := {"question", "answer"} - set(_SLOT.findall(template)):
            raise UserError(f"the judge's template lacks {', '.join(f'{{{slot}}}' for slot in sorted(missing))}")
        if not lowest < highest:
            raise UserError(f"a judge's scores cannot lie between {lowest:g} and {highest:g}")
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise UserError(f"the judge's pattern {pattern!r} is no regular expression: {error}") from None
        if self.pattern.groups == 0:
            raise UserError(f"the judge's pattern {pattern!r} has no group (in round brackets) around the score")
        self.complete, self.template, self.lowest, self.highest = complete, template, lowest, highest
        self.version = digest("judge", version, template, pattern, lowest, highest)

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        """Yield a score a trace, in order; None where the judge names none in the range."""
        questions = [self.question(trace) for trace in traces]
        unique = list(dict.fromkeys(questions))
        answers = dict(zip(unique, self.complete(unique), strict=True))
        yield from (self.parse(answers[question]) for question in questions)

    def close(self) -> None:
        """Do nothing: the sampler belongs to the caller."""

    def question(self, trace: Trace) -> str:
        """Return the template filled in for a trace."""
        slots = {"question": trace.problem.prompt, "answer": trace.sample.text}
        return _SLOT.sub(lambda slot: slots[slot[1]], self.template)  # one pass: braces in a trace have no meaning

    def parse(self, text: str | None) -> float | None:
        """Return the score that a text names last; None where there is none, or it is outside the range."""
        found = list(self.pattern.finditer(text or ""))
        try:
            score = float(found[-1][1]) if found else None
        except (TypeError, ValueError):  # the group took no part in the match, or holds no number
            return None
        return score if score is not None and self.lowest <= score <= self.highest else None


def policy(
    sampler: Sampler,
    prompter: Renders,
    *,
    decoding: Decoding,
    seed: int = 0,
    encode: Callable[[str], tuple[int, ...]] | None = None,
) -> Complete:
    """Return a judge's `complete` that draws from a sampler, in Self-Rewarding that of the policy itself.

    A completion that reached the token limit counts as none: the last number in it need not be the score.

    Args:
        sampler: Draws the completions.
        prompter: Renders the questions.
        decoding: How completions are drawn.
        seed: Each question's seed is a hash of this and the question.
        encode: Returns the tokens of a prompt; None: the sampler tokenises the text as it is.
    """

    def complete(questions: Sequence[str]) -> Iterator[str | None]:
        prompts = [prompter.text(question) for question in questions]
        requests = [
            Request(f"(judge {i})", i, text, int(digest(seed, question), 16), None if encode is None else encode(text))
            for i, (question, text) in enumerate(zip(questions, prompts, strict=True))
        ]
        drawn = {done.request.sample_index: done for done in sampler.sample(requests, decoding=decoding)}
        for i in range(len(requests)):
            yield drawn[i].text if drawn[i].finish_reason == "stop" else None

    return complete


PATH = "/chat/completions"


class Endpoint:
    """A judge's `complete` that asks an OpenAI-compatible server.

    Args:
        url: Address of the API, such as http://localhost:8000/v1.
        model: Name of the model on the server.
        key_variable: Environment variable with the key, which is sent as a bearer token and never shown.
        max_tokens: Most tokens of a completion; None: as the server decides.
        temperature: Of sampling; None: as the server decides.
        concurrency: Most requests at the same time.
        timeout: Seconds a request.
        retries: How often a request is repeated after a failure that may pass (`engines.server.client.Fleet`).
        backoff: Seconds before the first repetition; each further wait is longer.

    Raises:
        UserError: Address or key cannot be used. When called: no server was reached, or it refuses the request.
        RunFailure: When called: a request failed `retries` times. No score is given then, as None would mean that the
            judge named none.
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
