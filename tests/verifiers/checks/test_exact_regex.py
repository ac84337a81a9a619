from __future__ import annotations

import pytest

import verifiers


def judge(name: str, completion: str, reference: object, **options: object) -> tuple[str, str]:
    verdict = verifiers.verify(name, completion, reference, **options)
    return verdict.status, verdict.reason


@pytest.mark.parametrize(
    "completion", ["Paris", " paris.\n", "It is big. <answer>Paris</answer>", "The answer is Paris."]
)
def test_exact_compares_the_answer_up_to_case_and_space(completion: str) -> None:
    assert judge("exact", completion, "Paris") == ("correct", "match")
    assert judge("exact", completion, "Rome") == ("incorrect", "mismatch")


def test_exact_minds_case_and_the_whole_text_when_asked() -> None:
    assert judge("exact", "paris", "Paris", ignore_case=False) == ("incorrect", "mismatch")
    assert judge("exact", "The answer is Paris.", "Paris", whole=True) == ("incorrect", "mismatch")


def test_exact_needs_text_on_both_sides() -> None:
    assert judge("exact", "  ", "Paris") == ("incorrect", "no_answer")
    assert judge("exact", "Paris", None) == ("unknown", "bad_reference")


def test_regex_searches_or_matches_in_full() -> None:
    assert judge("regex", "the code is AB-12 today", r"[A-Z]+-\d+") == ("correct", "match")
    assert judge("regex", "the code is AB-12 today", r"[A-Z]+-\d+", full=True) == ("incorrect", "mismatch")
    assert judge("regex", "ab", "AB", ignore_case=True) == ("correct", "match")


def test_regex_ignores_the_thought() -> None:
    assert judge("regex", "<think>AB-12</think>none", r"[A-Z]+-\d+") == ("incorrect", "mismatch")


def test_a_pattern_that_does_not_compile_is_a_bad_reference() -> None:
    assert judge("regex", "a", "(") == ("unknown", "bad_reference")


def test_a_pattern_that_backtracks_for_ever_is_killed() -> None:
    (verdict,) = verifiers.verify_many("regex", [("a" * 60 + "!", r"(a+)+$")], workers=1, timeout=0.3)
    assert (verdict.status, verdict.reason) == ("unknown", "fault")


def test_exact_needs_a_reference_that_some_answer_can_equal() -> None:
    assert judge("exact", "Paris", "") == ("unknown", "bad_reference")
    assert judge("exact", "Paris", "It is big. ####") == ("unknown", "bad_reference")


def test_exact_reads_accents_in_either_spelling() -> None:
    assert judge("exact", "cafe\u0301", "caf\u00e9") == ("correct", "match")


def test_exact_refuses_a_hedge_and_reads_only_what_follows_the_thought() -> None:
    assert judge("exact", "The answer is maybe Paris.", "Paris") == ("incorrect", "ambiguous")
    assert judge("exact", "<think>Paris</think>Rome", "Paris") == ("incorrect", "mismatch")


def test_regex_needs_the_whole_text_only_when_asked() -> None:
    assert judge("regex", " AB-12\n", r"[A-Z]+-\d+", full=True) == ("correct", "match")
    assert judge("regex", "", r".*", full=True) == ("incorrect", "no_answer")


@pytest.mark.parametrize("pattern", ["(" * 20_000 + ")" * 20_000, "a{99999999999}", "*", "(?P<a>x)(?P<a>y)"])
def test_a_pattern_that_is_none_is_reported_and_never_raised(pattern: str) -> None:
    assert judge("regex", "a", pattern) == ("unknown", "bad_reference")
