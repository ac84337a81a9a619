"""The server backend against a server that fails in every way that a test can think of."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import pytest

from star_rft.engines.server.sampler import ServerSampler
from star_rft.errors import RunFailure, UserError
from star_rft.models import ASSETS, load_tokenizer
from star_rft.types import Completion, Decoding, Request
from tests.engines.faulty_server import MODEL, FaultyServer, closed_port, serving, written

TINY = ASSETS / "tiny"
DECODING = Decoding(temperature=1.0, max_tokens=60)
KEY = "secret-0123456789"
QUICK: dict[str, Any] = {"names": [MODEL], "backoff": 0.02, "timeout": 5.0, "concurrency": 8}


def requests(count: int) -> list[Request]:
    return [Request(f"p{i // 4}", i % 4, f"Question {i // 4}?", seed=i + 1) for i in range(count)]


def drawn(*servers: FaultyServer, count: int = 40, **settings: Any) -> list[Completion]:
    sampler = ServerSampler(TINY, **{"urls": [server.url for server in servers], **QUICK, **settings})
    try:
        return list(sampler.sample(requests(count), decoding=DECODING))
    finally:
        sampler.close()


def after(server: FaultyServer, count: int, do: Callable[[], object]) -> Thread:
    """Do something to a server in the middle of its work: it answers so many requests, and lets all others wait."""
    server.fault = lambda number, attempt: "stall" if number > count else ""

    def wait() -> None:
        end = time.monotonic() + 20
        while (server.finished.total() < count or not server.at_once) and time.monotonic() < end:
            time.sleep(0.005)
        server.fault = lambda number, attempt: ""
        do()

    thread = Thread(target=wait)
    thread.start()
    return thread


def require_each_once(completions: list[Completion], count: int = 40) -> None:
    assert Counter(one.request for one in completions) == Counter(requests(count))
    for one in completions:
        assert one.text == written(one.request.prompt, one.request.seed)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with serving() as state:
        yield state


FAULTS = [
    *("drop", "429", "500", "503", "half a body", "truncated JSON", "no JSON", "no choices", "no text", "aborted"),
]


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "429"])
def test_a_request_that_fails_is_asked_again_until_it_is_there_once(server: FaultyServer, fault: str) -> None:
    server.fault = lambda number, attempt: fault if number % 3 == 0 and attempt < 3 else ""
    require_each_once(drawn(server))
    assert set(server.finished.values()) == {1}
    assert max(server.tries.values()) > 1


def test_all_faults_together_leave_each_request_once(server: FaultyServer) -> None:
    names = [*(name for name in FAULTS if name != "429"), "", "", ""]
    server.fault = lambda number, attempt: names[(number * 7) % len(names)] if attempt < 6 else ""
    require_each_once(drawn(server, count=100), count=100)
    assert set(server.finished.values()) == {1}


def test_a_server_that_stalls_is_left_at_the_timeout(server: FaultyServer) -> None:
    server.fault = lambda number, attempt: "stall" if number in (2, 5) else ""
    began = time.monotonic()
    require_each_once(drawn(server, timeout=0.5))
    assert time.monotonic() - began < 5
    assert server.dropped == 2  # the connections were closed, so that the server can stop too


def test_a_server_that_sends_a_byte_now_and_then_is_left_at_the_timeout_too(server: FaultyServer) -> None:
    server.fault = lambda number, attempt: "trickle" if number == 2 else ""
    began = time.monotonic()
    require_each_once(drawn(server, timeout=0.5))
    assert time.monotonic() - began < 5


def test_retry_after_is_obeyed_by_all_requests_at_that_address(server: FaultyServer) -> None:
    server.seconds = 0.02
    server.fault = lambda number, attempt: "429" if number == 9 else ""
    require_each_once(drawn(server, count=80, concurrency=4, backoff=30.0), count=80)
    told = server.began[8] + server.seconds
    assert [at - told for at in server.began if 0.3 < at - told < 0.9] == []
    assert max(server.began) - told < 5


def test_what_goes_on_failing_is_a_failure_with_its_reason_and_not_a_missing_sample(server: FaultyServer) -> None:
    server.fault = lambda number, attempt: "500" if attempt < 9 and number > 20 else ""
    completions: list[Completion] = []
    sampler = ServerSampler(TINY, urls=[server.url], retries=2, **QUICK)
    with pytest.raises(RunFailure) as caught:
        completions.extend(sampler.sample(requests(40), decoding=DECODING))
    sampler.close()
    assert f'{server.url} failed 3 times, the last time with: 500 {{"error": "busy"}}' in str(caught.value)
    assert "the same command goes on" in str(caught.value)
    assert 10 < len(completions) <= 20  # what was there before is not lost


def test_a_refusal_is_not_asked_again_and_shown(server: FaultyServer) -> None:
    server.key = KEY
    with pytest.raises(UserError, match=r"/models refused a request: 401 .*wrong key"):
        drawn(server)
    assert server.keys == {""}
    assert not server.bodies


def test_at_most_so_many_requests_are_under_way_at_each_address() -> None:
    with serving(seconds=0.03) as one, serving(seconds=0.03) as two:
        require_each_once(drawn(one, two, count=60, concurrency=5), count=60)
        assert (one.most_at_once, two.most_at_once) == (5, 5)
        assert one.looked == two.looked == 1


@pytest.mark.full
def test_a_slow_address_gets_less_than_a_quick_one() -> None:
    with serving(seconds=0.2) as slow, serving(seconds=0.02) as quick:
        require_each_once(drawn(slow, quick, count=100, concurrency=3), count=100)
        assert quick.finished.total() > 3 * slow.finished.total() > 0


def test_a_few_requests_are_shared_by_all_addresses() -> None:
    with serving(seconds=0.1) as one, serving(seconds=0.1) as two:
        sampler = ServerSampler(TINY, urls=[one.url, two.url], **{**QUICK, "concurrency": 64})
        require_each_once(list(sampler.sample(requests(40), decoding=DECODING)))  # both were reached once
        for server in (one, two):
            server.finished.clear()
        require_each_once(list(sampler.sample(requests(8), decoding=DECODING)), count=8)
        sampler.close()
        assert (one.finished.total(), two.finished.total()) == (4, 4)


def test_what_fails_at_one_address_is_tried_at_another() -> None:
    with serving(fault=lambda number, attempt: "500") as broken, serving(seconds=0.02) as sound:
        require_each_once(drawn(broken, sound, retries=1))
        assert sound.finished.total() == 40
        assert broken.bodies


def test_an_address_that_dies_in_the_middle_is_made_up_for_by_the_other(caplog: pytest.LogCaptureFixture) -> None:
    with serving(seconds=0.02) as staying:
        dying = FaultyServer(seconds=0.02)
        dying.up()
        killer = after(dying, 20, dying.down)
        with caplog.at_level(logging.WARNING, "star_rft"):
            require_each_once(drawn(staying, dying, count=200, concurrency=4), count=200)
        killer.join()
        assert staying.finished.total() > dying.finished.total()
        assert f"{dying.url} is away" in caplog.text


@pytest.mark.full
def test_an_address_that_comes_back_is_looked_at_and_used_again() -> None:
    server = FaultyServer(seconds=0.02)
    server.up()

    def restart() -> None:
        server.down()
        time.sleep(0.3)
        server.up()

    thread = after(server, 20, restart)
    require_each_once(drawn(server, count=100, concurrency=4, backoff=0.1), count=100)
    thread.join()
    assert server.looked == 2
    server.down()


@pytest.mark.full
def test_an_address_that_comes_back_is_used_beside_one_that_never_went() -> None:
    with serving(seconds=0.02) as staying:
        server = FaultyServer(seconds=0.02)
        server.up()

        def restart() -> None:
            server.down()
            server.finished.clear()
            time.sleep(0.2)
            server.up()

        thread = after(server, 20, restart)
        require_each_once(drawn(server, staying, count=400, concurrency=4, backoff=0.05), count=400)
        thread.join()
        assert server.finished.total() > 10
        server.down()


def test_a_server_that_comes_back_with_another_model_is_not_sampled() -> None:
    server = FaultyServer(seconds=0.02)
    server.up()

    def restart() -> None:
        server.down()
        server.models = ["another-model"]
        server.up()

    thread = after(server, 20, restart)
    with pytest.raises(UserError, match=r"serves another-model, and what is asked for now is .*tiny: serve that one"):
        drawn(server, count=100, concurrency=4, backoff=0.1)
    thread.join()
    server.down()


# A connection that the kernel took for a server that went down is the server's, and nobody is there to close it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_when_all_addresses_are_gone_each_is_named_with_its_last_error() -> None:
    one, two = FaultyServer(seconds=0.02), FaultyServer(seconds=0.02)
    for server in (one, two):
        server.up()
    threads = [after(server, 5 * (i + 1), server.down) for i, server in enumerate((one, two))]
    with pytest.raises(RunFailure) as caught:
        drawn(one, two, count=100, concurrency=4, retries=3)
    for server, thread in zip((one, two), threads, strict=True):
        thread.join()
        assert f"{server.url}: " in str(caught.value)
    assert "the same command goes on" in str(caught.value)


def test_where_nobody_listens_the_error_comes_within_seconds() -> None:
    urls = [f"http://127.0.0.1:{closed_port()}/v1" for _ in range(2)]
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        drawn(urls=urls, backoff=1.0)
    assert time.monotonic() - began < 5
    assert all(f"{url} cannot be reached" in str(caught.value) for url in urls)
    assert "is the server running?" in str(caught.value)


def test_one_address_of_two_is_enough_from_the_beginning(server: FaultyServer) -> None:
    require_each_once(drawn(server, urls=[f"http://127.0.0.1:{closed_port()}/v1", server.url]))


def test_a_server_of_another_model_says_what_it_serves_and_what_is_wanted(server: FaultyServer) -> None:
    server.models = ["first", "second"]
    with pytest.raises(UserError) as caught:
        drawn(server)
    assert f"{server.url} serves first, second, and what is asked for now is {TINY}" in str(caught.value)
    assert not server.bodies


def test_of_several_addresses_those_with_the_model_are_asked(caplog: pytest.LogCaptureFixture) -> None:
    with serving(models=["another"]) as other, serving() as ours, caplog.at_level(logging.WARNING, "star_rft"):
        require_each_once(drawn(other, ours))
        assert not other.bodies
        assert f"{other.url} is not asked: it serves another" in caplog.text


def test_a_model_is_known_by_its_path_without_a_name(server: FaultyServer) -> None:
    server.models = [str(TINY)]
    require_each_once(drawn(server, names=[]))
    assert {body["model"] for body in server.bodies} == {str(TINY)}


def test_a_stream_that_nobody_wants_any_more_cancels_what_is_under_way(server: FaultyServer) -> None:
    server.fault = lambda number, attempt: "stall" if number > 8 else ""
    sampler = ServerSampler(TINY, urls=[server.url], **QUICK)
    stream = sampler.sample(requests(40), decoding=DECODING)
    for _ in range(8):
        next(stream)
    end = time.monotonic() + 5
    while server.at_once < 8 and time.monotonic() < end:
        time.sleep(0.01)
    stream.close()  # type: ignore[attr-defined]  # streams are generators
    while server.at_once and time.monotonic() < end:
        time.sleep(0.01)
    assert (server.at_once, server.dropped, len(server.bodies)) == (0, 8, 16)
    server.fault = lambda number, attempt: ""
    require_each_once(list(sampler.sample(requests(40), decoding=DECODING)))  # and it can be asked again
    sampler.close()


def test_two_streams_share_the_bound(server: FaultyServer) -> None:
    server.seconds = 0.02
    sampler = ServerSampler(TINY, urls=[server.url], **{**QUICK, "concurrency": 3})
    first = sampler.sample(requests(40), decoding=DECODING)
    begun = [next(first)]
    other = list(sampler.sample([replace(one, seed=one.seed + 1000) for one in requests(12)], decoding=DECODING))
    require_each_once([*begun, *first])
    assert len(other) == 12
    assert server.most_at_once == 3
    sampler.close()


def test_a_sampler_that_is_closed_ends_its_streams(server: FaultyServer) -> None:
    server.fault = lambda number, attempt: "stall" if number > 4 else ""
    sampler = ServerSampler(TINY, urls=[server.url], **QUICK)
    stream = sampler.sample(requests(40), decoding=DECODING)
    next(stream)
    sampler.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(stream)


def test_the_key_is_sent_as_a_bearer_and_in_no_error(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_KEY", KEY)
    server.key = KEY
    require_each_once(drawn(server, key_variable="SERVER_KEY"))
    assert server.keys == {f"Bearer {KEY}"}
    server.key = "another"  # a server that repeats what it refuses
    with pytest.raises(UserError, match=r"401 .*wrong key Bearer \(key\)") as caught:
        drawn(server, key_variable="SERVER_KEY")
    assert KEY not in str(caught.value)
    monkeypatch.delenv("SERVER_KEY")
    with pytest.raises(UserError, match="environment variable SERVER_KEY for its key is not set"):
        drawn(server, key_variable="SERVER_KEY")
    monkeypatch.setenv("SERVER_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(UserError, match="SERVER_KEY holds characters that no key has") as caught:
        drawn(server, key_variable="SERVER_KEY")
    assert KEY not in str(caught.value)


def test_text_alone_is_tokenized_and_has_no_logprob(server: FaultyServer) -> None:
    tokenizer = load_tokenizer(TINY)
    for one in drawn(server):
        assert one.logprob is None
        assert not one.ids_are_sampled
        assert one.token_ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(list(one.token_ids[:-1])) == one.text
        assert one.finish_reason == "stop"
    assert {type(body["prompt"]) for body in server.bodies} == {str}
    assert all("top_k" not in body and "logprobs" not in body for body in server.bodies)


def test_where_a_stop_string_may_have_ended_it_no_end_of_sequence_is_made_up(server: FaultyServer) -> None:
    sampler, eos = ServerSampler(TINY, urls=[server.url], **QUICK), load_tokenizer(TINY).eos_token_id
    found = list(sampler.sample(requests(4), decoding=replace(DECODING, stop=("Question:",))))
    sampler.close()
    assert len(found) == 4
    assert not any(eos in one.token_ids for one in found)


def test_a_completion_that_the_server_cut_off_before_the_limit_is_no_sample(server: FaultyServer) -> None:
    server.fault = lambda number, attempt: "cut off"
    with pytest.raises(UserError, match="cut a completion of problem p0 off after 7 tokens, before max_tokens 60"):
        drawn(server, count=1)


def test_a_setting_that_a_server_has_no_word_for_is_refused(server: FaultyServer) -> None:
    sampler = ServerSampler(TINY, urls=[server.url], **QUICK)
    with pytest.raises(UserError, match=r"has no top_k: leave sample\.top_k"):
        list(sampler.sample(requests(1), decoding=replace(DECODING, top_k=5)))
    sampler.close()
    assert not server.bodies
    drawn(server, api="llamacpp")
    assert {body["top_k"] for body in server.bodies} == {0}


def test_seeds_of_64_bits_fit_what_servers_take(server: FaultyServer) -> None:
    limits: list[tuple[Literal["vllm", "openai"], int]] = [("vllm", 2**63), ("openai", 2**31)]
    for api, most in limits:
        server.bodies.clear()
        sampler = ServerSampler(TINY, urls=[server.url], **QUICK, api=api)
        seeds = [2**64 - 1, 2**63, 2**63 - 1, 0, 123456789123456789]
        asked = [Request("p", i, "Question?", seed) for i, seed in enumerate(seeds)]
        assert len(list(sampler.sample(asked, decoding=DECODING))) == 5
        sampler.close()
        assert all(0 <= body["seed"] < most for body in server.bodies)


def test_nothing_is_contacted_before_a_completion_is_wanted(tmp_path: Path) -> None:
    sampler = ServerSampler(TINY, urls=["http://127.0.0.1:9/v1"])
    assert sampler.batch_size_for(100, DECODING) == 0
    sampler.sample(requests(4), decoding=DECODING)
    sampler.close()
    own = ServerSampler(TINY, start="sleep {model} {port}", log=tmp_path / "server.log")
    assert own.batch_size_for(100, DECODING) == 0
    own.close()
    assert not (tmp_path / "server.log").exists()
