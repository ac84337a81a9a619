from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import verifiers
from verifiers import registry
from verifiers.__main__ import main

CHECKS = "tests.verifiers.sample_checks"
CORRECT, INCORRECT, UNKNOWN = f"{CHECKS}:says_correct", f"{CHECKS}:says_incorrect", f"{CHECKS}:says_unknown"
OBEY, LENGTH = f"{CHECKS}:obey", f"{CHECKS}:length"


@pytest.fixture(autouse=True)
def _no_local_verifier_afterwards() -> Iterator[None]:
    yield
    registry.VERIFIERS.items.pop("local", None)


def status(name: str, *of: Any) -> str:
    return verifiers.verify(name, "", "", of=list(of)).status


@pytest.mark.parametrize(
    ("first", "second", "all_of", "any_of", "fallback", "disagree"),
    [
        (CORRECT, CORRECT, "correct", "correct", "correct", "correct"),
        (CORRECT, INCORRECT, "incorrect", "correct", "correct", "unknown"),
        (CORRECT, UNKNOWN, "unknown", "correct", "correct", "unknown"),
        (INCORRECT, CORRECT, "incorrect", "correct", "incorrect", "unknown"),
        (INCORRECT, INCORRECT, "incorrect", "incorrect", "incorrect", "incorrect"),
        (INCORRECT, UNKNOWN, "incorrect", "unknown", "incorrect", "unknown"),
        (UNKNOWN, CORRECT, "unknown", "correct", "correct", "unknown"),
        (UNKNOWN, INCORRECT, "incorrect", "unknown", "incorrect", "unknown"),
        (UNKNOWN, UNKNOWN, "unknown", "unknown", "unknown", "unknown"),
    ],
)
def test_the_logic_has_three_values(
    first: str, second: str, all_of: str, any_of: str, fallback: str, disagree: str
) -> None:
    names = ("all", "any", "fallback", "disagree")
    assert [status(name, first, second) for name in names] == [all_of, any_of, fallback, disagree]


def test_a_right_answer_by_wrong_steps_is_incorrect() -> None:
    text = "He has 2 + 2 = 5 pears and finds one less.\n#### 4"
    verdict = verifiers.verify("all", text, "4", of=["math", "steps"])
    assert (verdict.status, verdict.reason, verdict.answer) == ("incorrect", "mismatch", "2 + 2 = 5")
    assert verifiers.verify("all", text.replace("5", "4"), "4", of=["math", "steps"]).answer == "4"


def test_those_after_the_decisive_one_do_not_run() -> None:
    began = time.monotonic()
    slow = {"name": OBEY, "options": {"seconds": 5.0}}
    assert status("all", INCORRECT, slow) == "incorrect"
    assert status("any", CORRECT, slow) == "correct"
    assert status("fallback", CORRECT, slow) == "correct"
    assert time.monotonic() - began < 2


def test_a_disagreement_says_who_said_what() -> None:
    verdict = verifiers.verify("disagree", "It is 5 dogs.\n#### 5", "5", of=["math", "exact", "steps"][:2])
    assert verdict.status == "correct"
    verdict = verifiers.verify("disagree", "#### 1/2", "0.5", of=["math", "exact"])
    assert (verdict.status, verdict.reason) == ("unknown", "undecided")
    assert verdict.answer == "math: correct, match, 1/2; exact: incorrect, mismatch, 1/2"


def test_a_part_has_options_and_a_reference_of_its_own() -> None:
    of = [
        {"name": "numeric", "options": {"abs_tol": 0.1}, "reference": "answer"},
        {"name": "regex", "reference": "pattern"},
    ]
    reference = {"answer": "3.14", "pattern": "pi"}
    assert verifiers.verify("all", "pi is #### 3.1", reference, of=of).is_correct
    assert verifiers.verify("all", "it is #### 3.1", reference, of=of).status == "incorrect"
    assert verifiers.verify("all", "pi is #### 3.1", "3.14", of=of).reason == "bad_reference"


def test_a_part_that_breaks_is_unknown_and_says_why() -> None:
    verdict = verifiers.verify("all", "raise", "", of=[OBEY])
    assert (verdict.status, verdict.reason) == ("unknown", "fault")
    assert verdict.answer == f"{OBEY}: RuntimeError: this check is broken"


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (["maht"], "did you mean 'math'"),
        (["math", {"name": "numeric", "options": {"rel_tool": 1}}], "did you mean 'rel_tol'"),
        ([{"name": "math", "option": {}}], "no key 'option'; valid: name, options, reference"),
        ([{"options": {}}], "must be a name or"),
        ([{"name": "math", "options": 3}], "must be a mapping"),
        ("math", "must be a list"),
        ([], "must be a list"),
        ([{"name": "any", "options": {"of": ["maht"]}}], "did you mean 'math'"),
    ],
)
def test_a_mistake_inside_fails_at_once(of: Any, message: str) -> None:
    with pytest.raises(verifiers.VerifierError, match=message):
        verifiers.Pool("all", of=of)


def test_disagree_takes_two() -> None:
    with pytest.raises(verifiers.UnknownOption, match="must name 2 verifiers, not 3"):
        verifiers.Pool("disagree", of=["math", "exact", "numeric"])
    with pytest.raises(verifiers.UnknownOption, match="needs the option 'of'"):
        verifiers.Pool("disagree")


def test_limits_add_up_and_versions_show() -> None:
    check = verifiers.get("all").bound({"of": ["math", "exact", LENGTH]})
    parts = [verifiers.get(name) for name in ("math", "exact", LENGTH)]
    assert check.timeout == sum(part.timeout for part in parts)
    assert check.version.startswith("1(math ")
    assert check.version.endswith(f", {LENGTH} 7)")


def test_bad_references_are_known_before_anything_runs() -> None:
    strict = verifiers.get("all").bound({"of": ["math", "choice"]}).reference_problem
    lenient = verifiers.get("fallback").bound({"of": ["math", "choice"]}).reference_problem
    assert strict
    assert lenient
    assert "choice: a reference must be" in (strict("5") or "")
    assert lenient("5") is None
    assert lenient(["no", "reference"]) is not None


def test_workers_know_every_part() -> None:
    of = [OBEY, {"name": "any", "options": {"of": ["length", "exact"]}}]
    verifiers.get(LENGTH)  # registers "length", which the worker must learn
    with verifiers.Pool("all", workers=1, of=of) as pool:
        verdicts = list(pool.verify_iter([("5", 5), ("6", 5)]))
        assert pool.timeout == pytest.approx(5.0 + 9.0 + 5.0)
    assert [v.status for v in verdicts] == ["unknown", "incorrect"]
    assert verdicts[0].reason == "bad_reference"


def test_a_part_that_hangs_is_killed() -> None:
    pairs = [("a", "a"), ("hang", "a"), ("a", "a")]
    verdicts = verifiers.verify_many("all", pairs, workers=1, timeout=0.5, of=["exact", OBEY])
    assert [v.reason for v in verdicts] == ["match", "mismatch", "match"]
    verdicts = verifiers.verify_many("all", pairs, workers=1, timeout=0.5, of=[OBEY, "exact"])
    assert [v.reason for v in verdicts] == ["match", "fault", "match"]


def test_a_part_from_a_script_asks_for_an_importable_path() -> None:
    @verifiers.register("local")
    def local(completion: str, reference: str) -> bool:
        return True

    assert status("all", "local") == "correct"
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401
    except ImportError:
        with pytest.raises(verifiers.VerifierError, match="'local' is defined in a notebook"):
            verifiers.Pool("all", workers=1, of=["local"])
    else:
        assert verifiers.verify_many("all", [("", "")], workers=1, of=["local"])[0].is_correct


def test_the_command_line_takes_a_composition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 1, "completion": "2 + 2 = 5 and #### 4", "reference": "4"}\n')
    assert main(["all", str(path), "--workers", "1", "--set", 'of=["math", "steps"]']) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["status"], verdict["answer"]) == ("incorrect", "2 + 2 = 5")
    assert main(["all", str(path), "--set", 'of=["math", "stepps"]']) == 2
    assert "did you mean 'steps'" in capsys.readouterr().err


def test_a_config_takes_a_composition(tmp_path: Path) -> None:
    problem_sets, configs = pytest.importorskip("star_rft.build.problems"), pytest.importorskip("star_rft.config")
    raw = {
        "name": "composed",
        "data": {"train": "words", "test": "words"},
        "verifier": {"name": "all", "options": {"of": ["math", {"name": "steps", "options": {"at_least": 1}}]}},
    }
    problem_sets.verifier_of(configs.load(raw))
    raw["verifier"]["options"]["of"][1]["name"] = "stepps"  # type: ignore[index]
    with pytest.raises(verifiers.VerifierError, match="did you mean 'steps'"):
        problem_sets.verifier_of(configs.load(raw))
