"""The sampler on OpenAI-compatible servers: vLLM serve, SGLang, llama.cpp's server and others.

Tokens, end of sequence and stop strings mean what they mean with the hf engine: a server's tokens are decoded here.
Where it gives none, its text is tokenised, and there is no log-probability. Any of the servers may draw a request, so
equal requests give equal completions only as far as the servers themselves promise it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from star_rft import models
from star_rft.addresses import key_from
from star_rft.engines.server.client import Address, Fleet, reached
from star_rft.engines.server.http import MENDABLE, TransientError, parsed, problem_with, wait_asked
from star_rft.engines.server.launch import LocalServer
from star_rft.engines.server.protocols import DIALECTS, VERSION, Answer, Dialect, answer
from star_rft.engines.stopping import StopDetector
from star_rft.engines.tokenize import tokenized
from star_rft.errors import UserError
from star_rft.models.ends import ends_of
from star_rft.models.tokens import continuation_ids
from star_rft.types import Completion, Decoding, Model, Request

if TYPE_CHECKING:
    import httpx

COMPLETIONS, MODELS = "/completions", "/models"
ADVICE = "what was sampled so far is kept, and the same command goes on from there"


class ServerSampler:
    """Draws completions of `model` from the servers at `urls`, or from one that the command `start` starts.

    Nothing is contacted or started before the first completion is drawn. An address is used if its list of models holds
    this one, under its path, its hub name, or one of `names`; that is checked again after its connections were lost. A
    server that was started here ends with `close`. `key_variable` names the environment variable that holds the key;
    the other arguments are those of `Fleet` and of the config's section `server`.
    """

    def __init__(
        self,
        model: models.AnyModel,
        *,
        urls: Sequence[str] = (),
        names: Sequence[str] = (),
        start: str | None = None,
        start_timeout: float = 600.0,
        log: Path = Path("server.log"),
        api: Literal["auto", "vllm", "sglang", "llamacpp", "openai"] = "auto",
        key_variable: str | None = None,
        concurrency: int = 64,
        timeout: float = 600.0,
        retries: int = 8,
        backoff: float = 1.0,
    ) -> None:
        if bool(urls) == (start is not None):
            raise UserError("a server backend needs either addresses or a command that starts a server")
        self.version = VERSION
        self._start, self._start_timeout, self._log = start, start_timeout, log
        self._key = key_from(key_variable, of="server.key_variable")
        self._patience: dict[str, Any] = {
            "concurrency": concurrency,
            "timeout": timeout,
            "retries": retries,
            "backoff": backoff,
        }
        spec = models.ModelSpec.of(model)
        self._model, self._urls, self._names, self._api = spec.path, urls, names, api
        self._tokenizer = models.load_tokenizer(spec)
        self._ends = ends_of(spec, self._tokenizer)
        self._limit = models.longest_sequence(models.read_config(spec)).tokens  # None: the model states none
        self._started: LocalServer | None = None
        self._fleet: Fleet | None = None
        self._served: dict[Address, tuple[str, Dialect]] = {}  # what it calls our model, and how it is asked
        self._is_closed = False

    def sample(
        self,
        requests: Sequence[Request],
        *,
        decoding: Decoding,
        batch_size: int | None = None,  # noqa: ARG002
    ) -> Iterator[Completion]:
        """Yield exactly one completion a request, as they finish. A faulty request raises UserError now.

        `batch_size` is ignored: servers batch by themselves.
        """
        if self._is_closed:
            raise RuntimeError("this sampler was closed")
        stops = StopDetector(self._tokenizer, self._ends, decoding)
        prompts = tokenized(requests, self._tokenizer, decoding=decoding, limit=self._limit, whose="the model")
        asked = [(request, prompt.ids) for prompt in prompts for request in prompt.requests]
        return self._completions(asked, decoding, stops)

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:  # noqa: ARG002
        """Return 0: servers batch by themselves."""
        return 0

    def close(self) -> None:
        """Cancel what is under way and end the server that was started here; the sampler cannot be used afterwards."""
        self._is_closed = True
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None
        if self._started is not None:
            self._started.close()
            self._started = None

    def _completions(
        self, asked: Sequence[tuple[Request, tuple[int, ...]]], decoding: Decoding, stops: StopDetector
    ) -> Iterator[Completion]:
        def body(index: int, address: Address) -> dict[str, Any]:
            name, dialect = self._served[address]
            request, ids = asked[index]
            return dialect.body(name, request.prompt, ids, request.seed, decoding, stops)

        def read(_: int, address: Address, response: httpx.Response) -> tuple[Answer, str, Dialect]:
            return answer(parsed(response, self._key)), address.url, self._served[address][1]

        if not asked:
            return
        for index, (found, url, dialect) in self._ready().ask(COMPLETIONS, len(asked), body, read):
            yield self._completion(asked[index][0], found, url, dialect, decoding, stops)

    def _ready(self) -> Fleet:
        """Return the fleet of servers; at the first call the command is started, and its server waited for."""
        if self._is_closed:
            raise RuntimeError("this sampler was closed")
        if self._fleet is None:
            urls = self._urls
            if self._start is not None:
                self._started = LocalServer(self._start, self._model, log=self._log, key=self._key)
                self._started.wait(self._answers, timeout=self._start_timeout)
                urls = [self._started.url]
            started = self._started
            self._fleet = Fleet(
                [url.rstrip("/").removesuffix(COMPLETIONS) for url in urls],
                key=self._key,
                advice=ADVICE,
                admit=self._admit,
                on_absence=started.require_alive if started is not None else lambda: None,
                **self._patience,
            )
        return self._fleet

    def _answers(self, url: str) -> bool:
        import httpx

        try:
            return httpx.get(url + MODELS, headers=self._key.headers, timeout=10.0, trust_env=False).is_success
        except httpx.TransportError:
            return False

    async def _admit(self, address: Address, client: httpx.AsyncClient) -> str:
        """Note what a server calls our model, and of which kind it is; return why it cannot be used, or ""."""
        response = await reached(client.get(address.url + MODELS), address, timeout=self._patience["timeout"])
        if response.status_code in MENDABLE:
            raise TransientError(problem_with(response, self._key), wait=wait_asked(response))
        if not response.is_success:
            raise UserError(f"{address.url}{MODELS} refused a request: {problem_with(response, self._key)}")
        listed = parsed(response, self._key).get("data")
        cards = [card for card in listed if isinstance(card, dict)] if isinstance(listed, list) else []
        names = [str(card.get("id")) for card in cards]
        ours = next((card for card in cards if self._is_ours(card)), None)
        if ours is None and self._started is not None and len(cards) == 1:
            (ours,) = cards  # `start` was given the model's path, whatever name the server lists it under
        if ours is None:
            return self._not_served(names)
        kind = self._api if self._api != "auto" else str(ours.get("owned_by", "")).lower()
        self._served[address] = (str(ours["id"]), DIALECTS.get(kind, DIALECTS["openai"]))
        return ""

    def _is_ours(self, card: dict[str, Any]) -> bool:
        """Whether a listed model is the wanted one: by its path, which vLLM gives as `root`, or by a name."""
        given = [value for value in (card.get("id"), card.get("root")) if isinstance(value, str)]
        return card.get("id") in self._names or any(_same_model(value, self._model) for value in given)

    def _not_served(self, names: Sequence[str]) -> str:
        where = Path(self._model).resolve() if Path(self._model).exists() else self._model
        return (
            f"serves {', '.join(names) or 'no model'}, and what is asked for now is {where}: serve that one, under"
            " this name (vllm serve PATH, sglang --model-path PATH, llama-server --alias PATH), and the same command"
            " goes on; or give server.start, and star-rft starts a server for each model"
        )

    def _completion(
        self, request: Request, found: Answer, url: str, dialect: Dialect, decoding: Decoding, stops: StopDetector
    ) -> Completion:
        counted = found.tokens if found.token_ids is None else len(found.token_ids)
        if found.finish_reason == "length" and counted is not None and counted < decoding.max_tokens:
            raise UserError(
                f"{url} cut a completion of problem {request.problem_id} off after {counted} tokens, before max_tokens"
                f" {decoding.max_tokens}: give the server a longer context, or lower sample.max_tokens and"
                " eval.max_tokens"
            )
        if found.token_ids is None:
            return self._of_text(request, found, decoding)
        text, reason = stops.text(found.token_ids)
        return Completion(
            request=request,
            text=text,
            token_ids=found.token_ids,
            finish_reason="stop" if reason == "stop" else found.finish_reason,
            logprob=found.logprob if dialect.has_raw_logprobs(decoding.temperature) else None,
        )

    def _of_text(self, request: Request, found: Answer, decoding: Decoding) -> Completion:
        """Make a completion of text alone, with the ids of the text, which may differ from those that were drawn.

        Where there are stop strings the server does not say whether one of them or the model's end token ended it, so
        no end token is added.
        """
        ids = continuation_ids(self._tokenizer, found.text)
        if found.finish_reason == "stop" and not decoding.stop and self._ends.plain is not None:
            ids = (*ids, self._ends.plain)
        return Completion(request, found.text, ids, found.finish_reason, None, ids_are_sampled=False)


def _same_model(name: str, model: Model) -> bool:
    if name == str(model):
        return True
    return Path(model).exists() and Path(name).exists() and Path(name).resolve() == Path(model).resolve()
