from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from star_rft.engines.hf.sampler import HFSampler
from star_rft.errors import UserError
from star_rft.scorers.judge import Judge, policy
from star_rft.types import Completion, Decoding, Request
from tests.scorers.conftest import TINY
from tests.scorers.traces import trace

DECODING = Decoding(temperature=0.0, max_tokens=8)


def answering(answer: Callable[[str], str | None], asked: list[str] | None = None) -> Judge:
    def complete(questions: Sequence[str]) -> Iterator[str | None]:
        if asked is not None:
            asked.extend(questions)
        return (answer(question) for question in questions)

    return Judge(complete, version="test", template="{question}|{answer}")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Good.\nScore: 4", 4.0),
        ("Score: 1 at first, but on reflection Score: 3.", 3.0),
        ("score:2.5", 2.5),
        ("Score: **5**/5", 5.0),
        ("**Score:** 3", 3.0),
        ("Score: 0", 0.0),
        ("Score: 45", None),
        ("Score: -1", None),
        ("Score: 3. No: Score: 7", None),
        ("I cannot tell.", None),
        ("Score: three", None),
        ("", None),
        (None, None),
    ],
)
def test_the_last_score_that_is_named_counts_if_it_is_in_range(text: str | None, score: float | None) -> None:
    assert list(answering(lambda _: text).score([trace("2 + 2?", "4")])) == [score]


def test_each_trace_gets_the_score_of_its_own_question() -> None:
    traces = [trace("2 + 2?", str(i), sample_index=i) for i in range(5)]
    judge = answering(lambda question: f"Score: {question.partition('|')[2]}")
    assert list(judge.score(traces)) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_equal_questions_are_asked_once() -> None:
    asked: list[str] = []
    traces = [trace("2 + 2?", text, sample_index=i) for i, text in enumerate(["4", "5", "4"])]
    scores = list(answering(lambda q: "Score: 5" if q.endswith("4") else "Score: 1", asked).score(traces))
    assert scores == [5.0, 1.0, 5.0]
    assert asked == ["2 + 2?|4", "2 + 2?|5"]


def test_braces_in_a_trace_mean_nothing() -> None:
    asked: list[str] = []
    list(answering(lambda _: None, asked).score([trace("{answer}", "{question} {0}")]))
    assert asked == ["{answer}|{question} {0}"]


def test_the_default_template_shows_question_and_answer_and_asks_in_the_form_that_is_parsed() -> None:
    judge = Judge(lambda questions: iter([None] * len(questions)), version="test")
    question = judge.question(trace("What is 2 + 2?", "It is 4."))
    assert question.index("What is 2 + 2?") < question.index("It is 4.") < question.index("Score: <0 to 5>")
    assert judge.parse(question) is None  # repeating the question is no judgement


def test_a_judge_that_answers_too_little_is_an_error_not_a_shift_of_scores() -> None:
    judge = Judge(lambda questions: iter(["Score: 1"]), version="test")
    with pytest.raises(ValueError, match="shorter"):
        list(judge.score([trace("2 + 2?", "4"), trace("2 + 2?", "5")]))


def test_settings_that_cannot_work_are_named() -> None:
    def nobody(questions: Sequence[str]) -> Iterator[str | None]:
        return iter(())

    with pytest.raises(UserError, match=r"template lacks \{question\}"):
        Judge(nobody, version="test", template="{answer}")
    with pytest.raises(UserError, match="no regular expression"):
        Judge(nobody, version="test", pattern="(")
    with pytest.raises(UserError, match="has no group"):
        Judge(nobody, version="test", pattern="Score")
    with pytest.raises(UserError, match="between 5 and 0"):
        Judge(nobody, version="test", lowest=5, highest=0)


def test_the_version_depends_on_who_is_asked_and_what() -> None:
    def nobody(questions: Sequence[str]) -> Iterator[str | None]:
        return iter(())

    judges = [Judge(nobody, version="a"), Judge(nobody, version="b"), Judge(nobody, version="a", highest=10)]
    assert len({judge.version for judge in judges}) == 3


class Bracketed:
    def text(self, question: str) -> str:
        return f"[{question}]"


class Backwards:
    """A sampler that finishes in reverse order, and runs into the limit for one prompt."""

    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        for request in reversed(requests):
            is_cut = request.prompt == "[long]"
            yield Completion(request, f"of {request.prompt}", (1,), "length" if is_cut else "stop", 0.0)

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        return 1

    def close(self) -> None:
        return None


def test_a_policy_answers_in_the_order_of_the_questions_and_not_where_it_was_cut_off() -> None:
    complete = policy(Backwards(), Bracketed(), decoding=DECODING)
    assert list(complete(["a", "long", "b"])) == ["of [a]", None, "of [b]"]


def test_a_model_judges_through_the_sampler_the_same_every_time() -> None:
    sampled = Decoding(temperature=1.0, max_tokens=8)
    complete = policy(HFSampler(TINY), Bracketed(), decoding=sampled, seed=3)
    questions = [f"What is {i}?" for i in range(4)]
    first = list(complete(questions))
    assert len(first) == 4
    assert list(complete(questions)) == first
