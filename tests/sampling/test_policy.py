"""Who samples a prompt and how: decodings and system prompts in turn, several models, hints."""

from __future__ import annotations

from pathlib import Path

import pytest

import star_rft
from star_rft.config import ConfigError, load
from star_rft.ledger import Ledger
from star_rft.sampling.policy import Source
from star_rft.types import Decoding, Problem
from tests.small_runs import MINIATURE

MANY = {"temperature": [0.7, 1.0, 1.3], "top_p": [1.0, 0.9], "n": 6, "max_tokens": 96, "unit": 64, "batch_size": 16}


def test_attempts_take_decodings_and_prompts_in_turn() -> None:
    cool, warm = Decoding(0.7, 10), Decoding(1.2, 10)
    renders = tuple(lambda problem, name=name: f"{name}: {problem.prompt}" for name in "abc")
    source = Source(None, range(4, 10), (cool, warm), renders)  # type: ignore[arg-type]  # asks for no lengths
    assert [source.decoding_of(sample_index) for sample_index in range(4, 10)] == [cool, warm] * 3
    problem = Problem("p", "1 + 1?", "2", "math")
    assert [source.render(problem, sample_index)[0] for sample_index in source.sample_indices] == list("abcabc")


@pytest.mark.full
def test_a_round_pools_models_decodings_and_hints_in_one_ledger(tmp_path: Path) -> None:
    """The second model is a copy with other weights, so that its samples are told apart."""
    changes = {
        "rounds": 1,
        "run_dir": str(tmp_path / "run"),
        "sample": MANY | {"models": ["policy", "tiny"], "system": ["", "Think."]},
        "data": {
            "train": {"source": "word_problems", "options": {"n": 8, "seed": 5, "steps": [6, 7]}},
            "dev": {"source": "word_problems", "options": {"n": 4, "seed": 6, "steps": [1, 2]}},
        },
        "rationalize": {"n": 3},
        "select": {"rules": ["correct", {"dedup": "equations"}, {"hinted": 0.5}]},
        "train": {"max_steps": 1, "batch_size": 4},
    }
    reports = list(star_rft.run(MINIATURE | changes))
    con = Ledger(tmp_path / "run").connect()
    count, models, decodings, prompts = con.execute(
        "select count(*), count(distinct model), count(distinct decode_id), count(distinct prompt_sha) from samples"
        " where split = 'train' and not hinted"
    ).fetchall()[0]
    assert (count, models, decodings, prompts) == (2 * 6 * 8, 1, 6, 2 * 8)
    assert con.execute(
        "select count(distinct sample_index) from samples where split = 'train' and not hinted"
    ).fetchone() == (12,)
    missed = con.execute(
        "select problem_id from traces where split = 'train' and not hinted"
        " group by 1 having not bool_or(status = 'correct')"
    ).fetchall()
    asked = con.execute("select problem_id, count(*) from samples where hinted group by 1").fetchall()
    assert sorted(asked) == sorted((pid, 3) for (pid,) in missed)
    assert reports[1].samples == 96
    assert reports[1].hinted == 3 * len(missed)
    assert reports[1].unsolved == len(missed)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"temperature": [0.0, 1.0], "n": 4}, "draws the same completion again"),
        ({"temperature": [1.0, -1.0]}, "greater than or equal to 0"),
        ({"models": []}, "at least 1 item"),
    ],
)
def test_lists_that_cannot_be_sampled_are_refused(sample: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(MINIATURE | {"sample": sample})


def test_a_hint_for_problems_without_an_answer_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    rows = [{"text": "Add.", "test_list": ["assert add(1, 2) == 3"], "code": "def add(a, b):\n    return a + b"}]
    changes: dict[str, object] = {"run_dir": str(tmp_path / "run"), "verifier": {"name": "code"}, "rationalize": {}}
    changes["data"] = {"train": "", "dev": ""}
    with pytest.raises(star_rft.UserError, match="has no answer to hint at"):
        next(iter(star_rft.run(MINIATURE | changes, data={"train": rows, "dev": [{**rows[0], "text": "Sum."}]})))
