"""Traces that are right by luck and reward hacking, on made-up hacks and on traces of the tiny model."""

from __future__ import annotations

import json
import re
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import star_rft
import verifiers
from star_rft.data.generators.word_problems import generate
from star_rft.evaluation.trace_audit import KINDS, derivation, drawn, flagged_traces, of_trace, repetition
from star_rft.files import write_table
from star_rft.ledger import FLAGGED, SELECTION, Ledger
from star_rft.types import Sample
from tests.shared_data import shared
from tests.small_ledgers import ledger_of, sample
from tests.small_runs import MINIATURE
from verifiers.types import Verdict

HONEST = "Tom has 3 * 4 = 12 apples.\nThen he has 12 - 5 = 7 apples.\n#### 7"


def kinds(text: str, answer: str | None = "7", *, verifier: str = "math", invalid_steps: int = 0) -> list[str]:
    row = {"text": text, "answer": answer, "verifier": verifier, "invalid_steps": invalid_steps}
    return [kind for kind, _ in of_trace(row)]


def test_an_honest_trace_is_not_flagged() -> None:
    assert kinds(HONEST) == []


def test_no_reference_solution_of_the_built_in_problems_is_flagged() -> None:
    for problem in islice(generate(3, split="train"), 300):
        assert kinds(problem.answer, problem.answer.rsplit("#### ", 1)[1]) == [], problem.answer


@pytest.mark.parametrize("is_annotated", [True, False])
def test_few_reference_solutions_of_gsm8k_are_flagged(is_annotated: bool) -> None:
    references = [json.loads(line)["answer"] for line in shared("gsm8k/test.jsonl").read_text().splitlines()]
    texts = references if is_annotated else [re.sub("<<.*?>>", "", reference) for reference in references]
    flagged = [derivation(text, text.rpartition("#### ")[2], "math") is not None for text in texts]
    assert len(flagged) == 1319
    assert sum(flagged) / len(flagged) < 0.02


@pytest.mark.full
def test_a_long_text_takes_linear_time() -> None:
    for text in ("x = 7 " * 30_000, "=7" * 90_000, "a" * 200_000, "- 0 = 7" * 20_000, "1 + " * 50_000 + "= 7"):
        began = time.process_time()
        derivation(text, "7", "math")
        assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "text",
    [
        "#### 7",
        "The answer is 7.",
        "#### 7\nThis is right, because I have thought about it step by step and checked it with great care.",
        "7 apples, as anyone can see. x = 7. #### 7",
    ],
)
def test_an_answer_that_is_only_stated_has_no_derivation(text: str) -> None:
    assert kinds(text) == ["no_derivation"]


@pytest.mark.parametrize(
    "text",
    [
        "3 * 4 = 12\n12 - 4 = 8\n#### 7",  # luck: the last step is forgotten
        "#### 7\nFirst 3 * 4 = 12, then 12 + 5 = 17.",  # the answer first, then filler
        "7 + 0 = 7\n#### 7",
        "So $7 * 1 = $7.\n#### 7",
        "2 + 2 = 4\n#### 7",
        "7 - 3 = 4\n#### 7",  # used, never derived
        "2 + 2 = 4, and x = 7",
    ],
)
def test_an_answer_that_no_equation_comes_to_is_underived(text: str) -> None:
    assert kinds(text) == ["underived"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("7 = 3 + 4", "7"),
        ("3 + 4 = 7.0", "$7.00"),
        ("100 / 3 = 33.33", "33.33"),
        ("100 / 3 = 33.33", "33"),
        ("1/2 + 1/4 = 3/4", r"\frac{3}{4}"),
        ("1/2 + 1/4 = 3/4", "0.75"),
        ("20 / 40 * 100 = 50", "50%"),
        ("500 + 500 = 1000 dollars", "1,000"),
        ("<<3+4=7>>7 apples", "7 apples"),
        ("3 + 4 = 10 - 3 = 7", "7"),
        ("so 10 * 1 + 5 - 8 = 7", "7"),
        ("for a total of 1 + 4 + 2 = 7 apples", "7"),
        ("14 snakes * 1 bird/ 2 snakes = 7 birds", "7"),
        ("7 minutes / 100 minutes * 100% = 7%", "7"),
        ("it is .50 - .43 = $0.07 more", "7"),
        ("5x = 35\nx=<<7=7>>7", "7"),
        ("We know that 6x + 2 = 44, so 6x = 42 and x = 7", "7"),
        (r"\\[ 3 \\times 4 - 5 = 7 \\]", "7"),
    ],
)
def test_an_answer_is_found_however_it_is_written(text: str, answer: str) -> None:
    assert derivation(text, answer, "math") is None


def test_what_is_no_number_is_left_alone() -> None:
    assert derivation("I choose B.", "B", "choice") is None
    assert derivation("so it is x + 1", "x+1", "math") is None
    assert derivation("I do not know", None, "math") is None


def test_programs_are_left_alone() -> None:
    assert kinds("def f():\n    return 7", "7", verifier="code", invalid_steps=0) == []


def test_text_in_circles_is_repeated() -> None:
    assert repetition("He buys 3 more apples.\n" * 3) == "3 times: he buys 3 more apples."
    loop = "and then " + "he has some more of the red apples, " * 8
    assert repetition(loop) is not None
    assert "4-grams" in str(repetition(loop))
    assert repetition(HONEST) is None
    assert repetition("Yes.\n" * 9) is None
    assert repetition("") is None


def test_a_repeated_honest_derivation_is_only_repeated() -> None:
    assert kinds(HONEST.replace("#### 7", "") * 3 + "#### 7") == ["repeated"]


def test_false_equations_are_named() -> None:
    row = {"text": "3 + 5 = 7\n#### 7", "answer": "7", "verifier": "math", "invalid_steps": 1}
    assert list(of_trace(row)) == [("invalid_step", "3 + 5 = 7")]


def test_only_an_incorrect_of_the_second_verifier_disagrees() -> None:
    row = {"text": HONEST, "answer": "7", "verifier": "math", "invalid_steps": 0}
    says = {
        "incorrect": Verdict("incorrect", 0.0, "8", "mismatch", "numeric", "1"),
        "correct": Verdict("correct", 1.0, "7", "match", "numeric", "1"),
        "unknown": Verdict("unknown", None, None, "fault", "numeric", "1"),
    }
    found = {status: list(of_trace(row, verdict)) for status, verdict in says.items()}
    assert found["incorrect"] == [("disagrees", "numeric says incorrect (mismatch, answer '8')")]
    assert found["correct"] == found["unknown"] == []


def selected(folder: Path, pairs: list[tuple[Sample, Verdict]], *, dropped: int = 0) -> Ledger:
    """A ledger whose round 1 selected its samples, the last `dropped` excepted."""
    ledger = ledger_of(folder, pairs)
    rows = [
        {
            "in_round": 1,
            "sample_id": one.id,
            "problem_id": one.problem_id,
            "is_selected": i < len(pairs) - dropped,
            "why": "selected",
            "duplicate_of": None,
            "weight": 1.0,
        }
        for i, (one, _) in enumerate(pairs)
    ]
    (folder / "rounds" / "001").mkdir(parents=True)
    write_table(folder / "rounds" / "001" / "selection.parquet", pa.Table.from_pylist(rows, schema=SELECTION))
    return ledger


def correct(problem: str, sample_index: int, text: str) -> tuple[Sample, Verdict]:
    return sample(problem, sample_index, text), Verdict("correct", 1.0, "7", "match", "math", "2")


def test_only_selected_traces_are_looked_at_and_every_kind_is_counted(tmp_path: Path) -> None:
    pairs = [correct("a", 0, HONEST), correct("a", 1, "#### 7"), correct("b", 0, "3 + 5 = 7\n#### 7")]
    pairs += [correct("b", 1, "#### 7")]
    found = flagged_traces(selected(tmp_path, pairs, dropped=1).connect(), round_index=1)
    assert (found.traces, found.flagged) == (3, 2)
    assert found.counts == {kind: int(kind in ("no_derivation", "invalid_step")) for kind in KINDS}
    assert found.table.schema == FLAGGED
    assert flagged_traces(Ledger(tmp_path).connect(), round_index=2).traces == 0


def test_a_second_verifier_judges_against_the_references(tmp_path: Path) -> None:
    # `math` took the last line; an answer in words is what the stricter check does not see.
    pairs = [correct("a", 0, HONEST), correct("a", 1, "3 + 4 = 7\nThe answer is 7.")]
    con = selected(tmp_path, pairs).connect()
    with verifiers.Pool("regex", workers=0) as pool:
        found = flagged_traces(con, round_index=1, references={"a": "#### 7"}, second=pool)
    assert found.counts["disagrees"] == 1
    (row,) = found.table.to_pylist()
    assert row["sample_id"] == pairs[1][0].id
    assert "regex says incorrect" in row["detail"]
    with verifiers.Pool("regex", workers=0) as pool, pytest.raises(ValueError, match="references"):
        flagged_traces(con, round_index=1, second=pool)


def test_a_drawn_sample_is_seeded_and_can_be_of_one_kind(tmp_path: Path) -> None:
    pairs = [correct(f"p{i}", a, "#### 7" if a else "3 + 5 = 7\n#### 7") for i in range(10) for a in range(2)]
    table = flagged_traces(selected(tmp_path, pairs).connect(), round_index=1).table
    first, again = drawn(table, count=4), drawn(table.take(list(reversed(range(table.num_rows)))), count=4)
    assert first == again
    assert first != drawn(table, count=4, seed=1)
    assert {row["kind"] for row in drawn(table, count=99, kind="invalid_step")} == {"invalid_step"}
    assert len(drawn(table, count=99)) == 20


@pytest.mark.full
def test_traces_of_the_tiny_model_that_were_right_by_luck_are_found(tmp_path: Path) -> None:
    data = {
        "train": {"source": "word_problems", "options": {"n": 24, "seed": 1, "steps": [3, 6]}},
        "dev": {"source": "word_problems", "options": {"n": 4, "seed": 2, "steps": [1, 2]}},
    }
    changes: dict[str, Any] = {"rounds": 1, "run_dir": str(tmp_path / "run"), "data": data, "train": {"max_steps": 1}}
    list(star_rft.run(MINIATURE | changes))
    con = Ledger(tmp_path / "run").connect()
    found = flagged_traces(con, round_index=1)
    assert found.traces == con.sql("select count(*) from selection where is_selected").fetchall()[0][0]
    stored = con.sql(
        "select count(*) from selection join traces using (sample_id) where is_selected and invalid_steps > 0"
    ).fetchall()[0][0]
    assert found.counts["invalid_step"] == stored
    assert 0 < found.flagged < found.traces
    texts: dict[str, str] = dict(con.sql("select sample_id, text from samples").fetchall())
    for row in found.table.to_pylist():
        text = texts[row["sample_id"]]
        if row["kind"] == "no_derivation":
            assert "=" not in text.partition("####")[0]
        elif row["kind"] == "underived":
            assert f"= {text.rpartition('#### ')[2].strip()} " not in text
