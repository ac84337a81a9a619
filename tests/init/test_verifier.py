"""Which verifier is proposed for which references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import verifiers
from star_rft.errors import UserError
from star_rft.init.verifier import answer_of, check, propose

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("references", "name", "kind"),
    [
        (["4", "-3", "1,200", "$3.50", "12%", "3/4", "7 apples"], "math", "number"),
        (["2 + 2 = 4\n#### 4", "#### 5"], "math", "number"),
        ([r"\frac{1}{2}", "3", r"x^2 + 1", "(1, 2)", "[0, 1)", "x = 5"], "math", "latex"),
        ([r"So we have \boxed{\sqrt{2}}"], "math", "latex"),
        (["A", "b", "(C)", "D."], "choice", "letter"),
        (["yes", "no"], "exact", "text"),
        (["Paris", "New York"], "exact", "text"),
        (["2020-01-31", "1999-12-24"], "exact", "text"),
        (["12:30", "09:15"], "exact", "text"),
        ([{"tests": "assert f(1)", "entry_point": "f"}], "code", "program"),
        ([{"cases": [{"stdin": "1", "stdout": "2"}]}], "code", "program"),
        (['{"tests": "assert f(1)"}'], "code", "program"),
        ([{"answer": "B", "options": {"A": "x", "B": "y"}}], "choice", "letter"),
        ([SCHEMA], "json_schema", "json"),
        ([{"x": 1}], None, "other"),
        ([["a", "b"]], None, "other"),
    ],
)
def test_the_references_decide(references: list[Any], name: str | None, kind: str) -> None:
    found = propose(references)
    assert (found.name, found.kind) == (name, kind)
    assert found.why
    if name is not None:
        assert check(name, references)[1] == 0


def test_a_few_words_among_numbers_are_mathematics_still_and_many_are_not() -> None:
    assert propose(["1"] * 19 + ["none"]).name == "math"
    assert propose(["1"] * 8 + ["none"] * 2).name == "exact"


def test_long_texts_are_said_to_be_hardly_ever_equal() -> None:
    found = propose(["The cat sat on the mat because it was warm there and nobody had told it not to."] * 3)
    assert found.name == "exact"
    assert "hardly any answer" in found.why


def test_a_verifier_that_cannot_read_the_references_is_refused_with_an_example() -> None:
    with pytest.raises(
        UserError, match=r"verifier 'choice' cannot read 2 of 2 references: a reference must be a letter"
    ):
        check("choice", ["12", "13"])
    assert check("choice", ["A"] * 19 + ["12"])[1] == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("maths", "did you mean 'math'.*valid: .*all, any, choice"),
        ("all", "needs the option 'of'"),
        ("absent.py:function", "no module named 'absent'"),
        ("tests.init.files:absent", "has no 'absent'"),
    ],
)
def test_a_verifier_that_is_none_is_refused(name: str, says: str) -> None:
    with pytest.raises(verifiers.VerifierError, match=says):
        check(name, ["1"])


def test_ones_own_verifier_is_named_by_its_module_or_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_checks").mkdir()
    (tmp_path / "own_checks" / "same.py").write_text("def same(completion, reference): return completion == reference")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert check("own_checks.same:same", ["1"])[0].name == "own_checks.same:same"
    assert check("own_checks/same.py:same", ["1"])[0].name == "own_checks.same:same"


def test_a_module_that_breaks_on_import_is_one_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_check.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="cannot be imported: ZeroDivisionError"):
        check("broken_check:check", ["1"])


def test_the_answer_shown_is_the_one_that_is_checked() -> None:
    assert answer_of("2 + 2 = 4\n#### 4") == "4"
    assert answer_of({"tests": "assert f(1)"}) == "assert f(1)"
    assert answer_of({"cases": [{"stdin": "1", "stdout": "2"}]}) == "'1' gives '2'"
