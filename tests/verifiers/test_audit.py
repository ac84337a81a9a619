from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jsonl import write_jsonl
from verifiers.__main__ import main
from verifiers.audit import audit

ROWS: list[dict[str, Any]] = [
    {"id": "same", "completion": r"so \boxed{\frac12}", "reference": "0.5"},
    {"id": "variable", "completion": r"so \boxed{4t}", "reference": "4"},
    {"id": "base", "completion": r"\boxed{204_6}", "reference": "204_5"},
    {"id": "thought", "completion": "<think>\\boxed{7}</think> I give up.", "reference": "7"},
    {"id": "wrong", "completion": "#### 3", "reference": "5"},
]


@pytest.fixture
def answers(tmp_path: Path) -> str:
    return str(write_jsonl(tmp_path / "answers.jsonl", ROWS))


def test_the_disagreements_with_math_verify_are_a_table_to_read(
    answers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "math", answers, "--against", "math_verify", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("math and math_verify disagree on ")
    assert "variable" in out
    assert "incorrect (mismatch): 4t" in out
    assert "correct (match)" in out
    assert "reference  204_5" in out
    assert "same" not in out


def test_the_audit_is_also_one_json_document(answers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "math", answers, "--against", "math_verify", "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verifiers"] == ["math", "math_verify"]
    assert found["rows"] == len(ROWS)
    by_id = {row["id"]: row for row in found["disagreements"]}
    assert by_id["variable"]["math"]["status"] == "incorrect"
    assert by_id["variable"]["math_verify"]["status"] == "correct"


def test_any_registered_verifier_may_be_the_other_one() -> None:
    rows = [
        {"id": 1, "completion": r"\boxed{\frac12}", "reference": r"\frac12"},
        {"id": 2, "completion": r"\boxed{\sqrt{4}}", "reference": "2"},
    ]
    found = audit("math", rows, against="numeric", workers=1)
    assert [(row.id, row.first.status, row.second.status) for row in found.disagreements] == [
        (2, "correct", "incorrect")
    ]


def test_a_hang_of_the_other_verifier_is_killed_and_shown() -> None:
    rows = [{"id": 1, "completion": "hang", "reference": "5"}, {"id": 2, "completion": "5", "reference": "5"}]
    found = audit("math", rows, against="tests.verifiers.sample_checks:obey", workers=1, timeout=0.5)
    assert [(row.id, row.second.status, row.second.reason) for row in found.disagreements] == [(1, "unknown", "fault")]


@pytest.mark.parametrize(
    ("line", "against", "message"),
    [("{}", "math_verify", ":6: lacks id"), ("", "maht", "did you mean 'math'")],
)
def test_mistakes_are_one_line_and_exit_status_2(
    line: str, against: str, message: str, answers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(answers, "a") as handle:
        handle.write(line + "\n")
    assert main(["audit", "math", answers, "--against", against]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
