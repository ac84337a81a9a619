from __future__ import annotations

import importlib.util
import json
import time
from typing import Any

import pytest

import verifiers

pytest.importorskip("jsonschema", reason="needs the extra json-schema")

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ADA = '{"name": "Ada", "age": 36}'


def judge(completion: str, reference: Any = PERSON, **options: Any) -> tuple[str, str]:
    verdict = verifiers.verify("json_schema", completion, reference, **options)
    return verdict.status, verdict.reason


@pytest.mark.parametrize(
    "completion",
    [
        ADA,
        f"```json\n{ADA}\n```",
        f"```\n{ADA}\n```",
        f"First `{{}}`, then ```json\n{{}}\n``` and in the end:\n```json\n{ADA}\n```\nDone.",
        f"```python\nprint(1)\n```\n```json\n{ADA}\n```",
        f"Sure! Here is the object: {ADA}. Anything else?",
        f"A set {{x}} and a list [1, 2], then {ADA}",
        f'<think>{{"name": 3}}</think>{ADA}',
    ],
)
def test_the_last_json_of_a_completion_counts(completion: str) -> None:
    assert judge(completion) == ("correct", "match")


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ('{"name": "Ada"}', "mismatch"),
        ('{"name": "Ada", "age": "36"}', "mismatch"),
        ('{"name": "Ada", "age": -1}', "mismatch"),
        ('{"name": "Ada", "age": true}', "mismatch"),
        (f"{ADA} and also {{}}", "mismatch"),
        (f"```json\n{ADA[:-1]}\n```", "no_answer"),
        (f"```json\n{{'name': 'Ada', 'age': 36}}\n```\n{ADA}", "no_answer"),
        ('{"name": "Ada", "age": NaN}', "no_answer"),
        ('{"name": "Ada", "age": 1e999}', "no_answer"),
        ("I cannot do that.", "no_answer"),
        ("", "no_answer"),
        (f"<think>{ADA}", "no_answer"),
    ],
)
def test_what_the_schema_forbids_or_is_no_json_is_incorrect(completion: str, reason: str) -> None:
    assert judge(completion) == ("incorrect", reason)


def test_the_verdict_says_where_and_why() -> None:
    verdict = verifiers.verify("json_schema", '{"name": "Ada", "age": "36"}', PERSON)
    assert verdict.answer == "$.age: '36' is not of type 'integer'"
    assert json.loads(verifiers.verify("json_schema", f"Here: {ADA}", PERSON).answer or "") == json.loads(ADA)


def test_strict_wants_nothing_but_json() -> None:
    assert judge(f" {ADA}\n", strict=True) == ("correct", "match")
    assert judge(f"Here: {ADA}", strict=True) == ("incorrect", "no_answer")


def test_an_exact_value_may_be_asked_for_besides() -> None:
    reference = {"schema": PERSON, "value": {"age": 36, "name": "Ada"}}
    assert judge(ADA, reference) == ("correct", "match")
    assert judge('{"name": "Ada", "age": 37}', reference) == ("incorrect", "mismatch")
    assert judge("1", {"schema": {}, "value": True}) == ("incorrect", "mismatch")
    assert judge("[1.0]", {"schema": {}, "value": [1]}) == ("correct", "match")
    assert judge("null", {"schema": {}, "value": None}) == ("correct", "match")


def test_a_reference_may_be_json_text() -> None:
    assert judge(ADA, json.dumps(PERSON)) == ("correct", "match")


def test_formats_are_checked() -> None:
    assert judge('"2024-02-30"', {"type": "string", "format": "date"}) == ("incorrect", "mismatch")


@pytest.mark.parametrize(
    "reference",
    [
        None,
        3,
        ["no"],
        "not json",
        "[1]",
        {"type": "strin"},
        {"minimum": "3"},
        {"$schema": "https://example.org/mine"},
        {"schema": {"type": 3}, "value": 1},
        {"enum": {1, 2}},
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
    ],
)
def test_a_reference_that_is_no_schema_is_unknown(reference: Any) -> None:
    assert judge("{}", reference) == ("unknown", "bad_reference")


def test_nothing_is_fetched_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a schema was fetched")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    for target in ("http://127.0.0.1:9/schema.json", "file:///etc/passwd", "https://json-schema.org/elsewhere"):
        verdict = verifiers.verify("json_schema", "{}", {"$ref": target})
        assert (verdict.status, verdict.reason) == ("unknown", "bad_reference")
        assert target in (verdict.answer or "")


@pytest.mark.parametrize(
    "completion",
    [
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        "{" * 500 + " " * 100_000,
        "[" + "1," * 600_000 + "1]",
        "9" * 50_000,
        '"' + "\\" * 100_000,
        "```json\n" * 20_000,
        '["' * 40_000,
        "```" * 50_000,
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_bombs_are_refused_quickly(completion: str, strict: bool) -> None:
    began = time.process_time()
    assert judge(completion, {"type": "object"}, strict=strict)[0] == "incorrect"
    assert time.process_time() - began < 2.0


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jsonschema" else find(name))
    assert verifiers.get("json_schema").summary
    with pytest.raises(verifiers.VerifierError, match=r"pip install 'star-rft\[json-schema\]'"):
        verifiers.Pool("json_schema")
    with pytest.raises(verifiers.VerifierError, match="pip install"):
        verifiers.verify("all", ADA, PERSON, of=["json_schema"])


def test_it_works_in_worker_processes() -> None:
    verdicts = verifiers.verify_many("json_schema", [(ADA, PERSON), ("{}", PERSON)] * 5, workers=1)
    assert [v.status for v in verdicts] == ["correct", "incorrect"] * 5


def test_no_bracket_costs_more_than_its_share() -> None:
    text = "{[(" * 60_000 + ADA
    verdict = verifiers.verify("json_schema", text, PERSON)
    assert (verdict.status, verdict.reason) == ("incorrect", "no_answer")
