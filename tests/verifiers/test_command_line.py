from __future__ import annotations

import importlib.metadata
import io
import json
from pathlib import Path
from typing import Any

import pytest

import verifiers
from verifiers import registry
from verifiers.__main__ import main


def write_rows(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def row(row_id: Any, completion: str, reference: Any = "5") -> dict[str, Any]:
    return {"id": row_id, "completion": completion, "reference": reference}


def test_a_file_is_scored_line_by_line_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(f"r{i}", f"#### {i % 7}") for i in range(300)]
    assert main(["numeric", write_rows(tmp_path / "in.jsonl", rows), "--workers", "2"]) == 0
    out, err = capsys.readouterr()
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert [v["id"] for v in verdicts] == [r["id"] for r in rows]
    assert [v["status"] == "correct" for v in verdicts] == [i % 7 == 5 for i in range(300)]
    assert set(verdicts[0]) == {"id", "status", "score", "answer", "reason", "seconds"}
    assert "300 verdicts: 43 correct, 257 incorrect, 0 unknown" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{bad", "not JSON"),
        ('{"id": 1, "completion": "5"}', "lacks reference; it has id, completion"),
        ('["a"]', "must be an object"),
        ('{"id": 1, "completion": 5, "reference": "5"}', "completion must be text, not int"),
    ],
)
def test_a_bad_line_is_named_and_the_lines_before_it_are_kept(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "in.jsonl", [row(1, "#### 5"), "", row(2, "#### 6"), line, row(3, "#### 7")])
    assert main(["numeric", path, "--workers", "1"]) == 2
    out, err = capsys.readouterr()
    assert [json.loads(text)["id"] for text in out.splitlines()] == [1, 2]
    assert f"error: {path}:4: " in err
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maht", "FILE"], "did you mean 'math'"),
        (["math", "FILE", "--set", "falback=none"], "did you mean 'fallback'"),
        (["math", "FILE", "--set", "fallback"], "option=value"),
        (["math", "FILE", "--timeout", "0"], "timeout must be above 0"),
        (["math", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "in.jsonl", [row(1, "#### 5")])
    assert main([path if part == "FILE" else part for part in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_options_are_read_as_json_or_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_rows(tmp_path / "in.jsonl", [row(1, "Then 2+2=4 and 5 in all")])
    arguments = ["numeric", path, "--workers", "0", "--set", "fallback=last_number", "--set", "abs_tol=0.5"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "correct"


def test_the_list_shows_options_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "numeric  (version " in out
    assert "    options:   rel_tol=0.0, abs_tol=0.0" in out
    for name in verifiers.names():
        assert f"\n{name}  (version" in f"\n{out}"
    assert 'with:      of=["math", "steps"]' in out
    assert out.count("example:") == out.count("reference:") >= len(registry.VERIFIERS.builtin_names())


def test_a_verifier_of_another_package_that_cannot_be_loaded_is_a_line_and_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {
        name: importlib.metadata.EntryPoint(name, value, registry.ENTRY_POINT_GROUP)
        for name, value in (("broken", "no_such_package:check"), ("empty", "sys:nothing"))
    }
    monkeypatch.setattr(registry.VERIFIERS, "entry_points", lambda: points)
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "broken\n    ERROR: verifier 'broken': the entry point no_such_package:check cannot be loaded" in out
    assert "ModuleNotFoundError: No module named 'no_such_package'" in out
    assert "empty\n    ERROR: verifier 'empty': the entry point sys:nothing cannot be loaded" in out
    assert "numeric  (version" in out
    assert main(["broken", "nowhere.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("error: verifier 'broken'")


def test_too_many_unknown_verdicts_are_said_loudly(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.jsonl", [row(i, "#### 5", "?" if i < 10 else "5") for i in range(100)])
    log = io.StringIO()
    tally = verifiers.score_file("numeric", path, out=io.StringIO(), log=log, workers=1)
    assert tally.unknown_share == 0.1
    assert "WARNING: 10 of 100 verdicts (10.0%) are unknown (bad_reference 10)" in log.getvalue()


def test_a_few_unknown_verdicts_are_not_shouted_about(caplog: pytest.LogCaptureFixture) -> None:
    tally = verifiers.Tally()
    list(tally.watch(verifiers.verify_many("numeric", [("#### 5", "5")] * 99 + [("#### 5", "?")], workers=0)))
    assert tally.warning() is None
    assert tally.warning(limit=0.0) is not None
    tally.warn(limit=0.0)
    assert "1 of 100" in caplog.text


def test_half_a_character_breaks_neither_the_output_nor_a_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = "\\ud83d"
    line = f'{{"id": "{half}", "completion": "The answer is <answer>x{half}</answer>", "reference": "y"}}'
    assert main(["exact", write_rows(tmp_path / "in.jsonl", [line]), "--workers", "0"]) == 0
    out, _ = capsys.readouterr()
    verdict = json.loads(out)
    assert (verdict["id"], verdict["status"], verdict["answer"]) == ("\ud83d", "incorrect", "x?")
