from __future__ import annotations

import time
from pathlib import Path

import pytest

import verifiers
from tests.tiers import fast_only
from tests.verifiers.hostile import hostile_completions
from verifiers.extraction.answer import extract

SECONDS = 2.5
NAMES = list(hostile_completions("canary"))


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "canary"


def accepted(pairs: dict[str, tuple[str, str]]) -> list[str]:
    """Verify `pairs`, fail if one takes more than SECONDS, and return the names of those that are judged correct.

    A verdict's seconds are of the wall clock, and the machine has other work: what took too long is tried again twice.
    """
    with verifiers.Pool("math", workers=2) as pool:
        list(pool.verify_iter([("#### 5", "5")]))
        verdicts = dict(zip(pairs, pool.verify_iter(pairs.values()), strict=True))
        slow = {name: verdict.seconds for name, verdict in verdicts.items() if verdict.seconds > SECONDS}
        for _ in range(2):
            again = dict(zip(slow, pool.verify_iter([pairs[name] for name in slow]), strict=True))
            slow = {name: verdict.seconds for name, verdict in again.items() if verdict.seconds > SECONDS}
    assert slow == {}
    return [name for name, verdict in verdicts.items() if verdict.is_correct]


def test_there_are_more_than_a_hundred_of_them() -> None:
    assert len(NAMES) >= 112


@pytest.mark.parametrize("reference", fast_only(["5", r"\frac{x^2+1}{3}", r"\sum_{k=1}^{n} 2^{k}"], "5"))
def test_none_takes_long_kills_the_caller_or_is_correct(reference: str, canary: Path) -> None:
    completions = hostile_completions(str(canary))
    pairs = {name: (text, reference) for name, text in completions.items()}
    assert accepted(pairs) == []
    assert not canary.exists()


@pytest.mark.full
def test_none_takes_long_as_a_reference(canary: Path) -> None:
    completions = hostile_completions(str(canary))
    assert accepted({name: ("#### 5", text) for name, text in completions.items()}) == []
    assert not canary.exists()


@pytest.mark.full
def test_none_takes_long_against_itself(canary: Path) -> None:
    # The same text on both sides reaches the tiers that a plain reference would refuse before.
    completions = hostile_completions(str(canary))
    accepted(
        {name: (text, text.replace("6", "8") if "6" in text else text + " + 1") for name, text in completions.items()}
    )
    assert not canary.exists()


def test_a_plain_reference_never_needs_the_killable_worker(canary: Path) -> None:
    began = time.process_time()
    for text in hostile_completions(str(canary)).values():
        assert verifiers.verify("math", text, "5").status == "incorrect"
    assert time.process_time() - began < 60
    assert not canary.exists()


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("a megabyte")])
def test_ten_times_the_text_takes_about_ten_times_as_long(name: str) -> None:
    text = hostile_completions("canary")[name]
    extract(text[:1000], fallback="sentence")
    # More than 200,000 characters are cut off. The best of three: the machine has other work.
    short, long = (min(extraction_seconds(text[:size]) for _ in range(3)) for size in (20_000, 200_000))
    assert long < 30 * short + 0.05


def extraction_seconds(text: str) -> float:
    began = time.process_time()
    for fallback in ("sentence", "last_number"):
        extract(text, fallback=fallback)
    return time.process_time() - began
