"""Problems and traces as they are shown, from a ledger: what was drawn, judged, selected or dropped, and why."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from star_rft.data import write_problems
from star_rft.files import write_table
from star_rft.frontier.classes import CLASSES
from star_rft.ledger import FLAGGED, SELECTION, Ledger
from star_rft.report import labels
from star_rft.report.markup import environment
from star_rft.report.traces import ShownProblem, ShownTrace, problems_of, traces_of
from star_rft.types import Decoding
from tests.paths import ROOT
from tests.small_ledgers import commit, finish_round, ledger_of, problem, sample, scored, verdict
from verifiers.types import REASONS


def traces_at(ledger: Ledger, problem: str, **settings: Any) -> list[ShownTrace]:
    return traces_of(ledger.connect(), [problem], **settings)[problem]


def why(trace: ShownTrace) -> list[str]:
    return [line.text + line.other + line.rest for line in trace.why_lines()]


def test_traces_come_by_round_and_index_for_many_problems_at_once(tmp_path: Path) -> None:
    pairs = [
        (sample(name, i, round_index=round_index), verdict()) for name in "ab" for round_index in (2, 1) for i in (1, 0)
    ]
    found = traces_of(ledger_of(tmp_path, pairs).connect(), ["b", "nothing", "a"])
    assert list(found) == ["b", "nothing", "a"]
    assert [(a.problem_id, a.round, a.sample_index) for a in found["b"]] == [
        ("b", r, i) for r in (1, 2) for i in (0, 1)
    ]
    assert found["nothing"] == []


def test_why_a_trace_was_kept_or_dropped_is_said_in_words(tmp_path: Path) -> None:
    texts = ["1 + 1 = 2", "1 + 1  =  2", "So 1 + 1 = 2.", "2 + 2 = 4", "3 + 3 = 6"]
    pairs = [(sample("a", i, text), verdict()) for i, text in enumerate(texts)]
    pairs += [(sample("a", 5), verdict("incorrect")), (sample("a", 6, finish="length"), verdict())]
    ledger = ledger_of(tmp_path, pairs)
    assert why(traces_at(ledger, "a")[0]) == ["not selected from yet: the round is not finished"]
    finish_round(ledger, 1)
    found = traces_at(ledger, "a")
    assert [why(trace) for trace in found] == [
        ["selected: trained on in round 1"],
        ["dropped in round 1: duplicate of round 1, sample 0 (the same text)"],
        ["dropped in round 1: duplicate of round 1, sample 0 (the same list of equations)"],
        ["selected: trained on in round 1"],
        ["dropped in round 1: over the cap: 2 of this problem were selected"],
        ["dropped in round 1: its verdict is incorrect"],
        ["dropped in round 1: it did not end by itself"],
    ]
    assert [trace.trained_in for trace in found[:2]] == [[1], []]
    assert found[1].why_lines()[0].other_id == found[0].sample_id


def test_a_trace_that_several_rounds_looked_at_says_so_once_a_reason(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict()), (sample("a", 1), verdict())])
    finish_round(ledger, 1)
    commit(ledger, "u1", [(sample("a", 0, "2 + 2 = 4", round_index=2), verdict())])
    finish_round(ledger, 2, rounds="all")
    first, second, third = traces_at(ledger, "a")
    assert why(first) == ["selected: trained on in rounds 1, 2"]
    assert why(second) == ["dropped in rounds 1, 2: duplicate of round 1, sample 0 (the same text)"]
    assert why(third) == ["selected: trained on in round 2"]


def test_a_weight_other_than_one_is_said(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict())])
    row = {"in_round": 1, "sample_id": sample("a", 0).id, "problem_id": "a", "is_selected": True, "why": "selected"}
    table = pa.Table.from_pylist([row | {"duplicate_of": None, "weight": 0.25}], schema=SELECTION)
    write_table(tmp_path / "rounds" / "001" / "selection.parquet", table)
    assert why(traces_at(ledger, "a")[0]) == ["selected: trained on in round 1, with weight 0.25"]


def test_held_out_traces_are_shown_too(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.parquet", {"dev": [problem("d")]})
    ledger = ledger_of(tmp_path, [(sample("d", 0, split="dev", round_index=0), verdict())])
    con = ledger.connect()
    (trace,) = traces_of(con, ["d"])["d"]
    assert (trace.split, why(trace)) == ("dev", ["held out: it measures the model, and is never trained on"])
    held_out = problems_of(con, ["d"])["d"]
    assert (held_out.split, held_out.class_name, held_out.evidence) == ("dev", "", None)


def test_the_newest_verdict_and_the_scorers_score_are_shown(tmp_path: Path) -> None:
    drawn = sample("a", 0)
    ledger = ledger_of(tmp_path, [(drawn, verdict("incorrect", "3")), (sample("a", 1), scored(0.5))])
    ledger.supersede("again", [(drawn.id, drawn.text, verdict("correct", "2"))])
    ledger.score("scores", "judge", "1", [(drawn.id, 0.75, "correct")])
    first, second = traces_at(ledger, "a")
    assert (first.status, first.answer, first.score, first.scorer) == ("correct", "2", 0.75, "judge")
    assert (second.score, second.scorer) == (0.5, None)


def test_how_a_trace_was_drawn_is_said_in_words(tmp_path: Path) -> None:
    greedy, hot = Decoding(0.0, 160), Decoding(0.7, 2048, top_p=0.95, top_k=40, stop=("\n",))
    pairs = [(sample("a", i, decode_id=decoding.id), verdict()) for i, decoding in enumerate((greedy, hot))]
    ledger = ledger_of(tmp_path, [*pairs, (sample("a", 2, decode_id="unknown"), verdict())])
    ledger.record_decoding(greedy)
    ledger.record_decoding(hot)
    assert [trace.decoding for trace in traces_at(ledger, "a")] == [
        "greedy, at most 160 tokens",
        "temperature 0.7, top-p 0.95, top-k 40, at most 2,048 tokens",
        "",
    ]


def test_whose_trace_it_is_can_be_told_where_the_policys_indices_are_known(tmp_path: Path) -> None:
    pairs = [(sample("a", 0), verdict()), (sample("a", 4), verdict()), (sample("a", 4, hinted=True), verdict())]
    ledger = ledger_of(tmp_path, pairs)
    assert [trace.is_foreign for trace in traces_at(ledger, "a", own=range(4))] == [False, True, False]
    assert [trace.is_foreign for trace in traces_at(ledger, "a")] == [None] * 3
    assert traces_at(ledger, "a")[2].name == "round 1, sample 4 with a hint"


def test_a_flag_is_said_once_however_many_rounds_had_it(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict())])
    row = {"sample_id": sample("a", 0).id, "problem_id": "a", "kind": "invalid_step", "detail": "1 + 1 = 3"}
    for round_index in (1, 2):
        path = tmp_path / "rounds" / f"{round_index:03d}" / "flagged.parquet"
        write_table(path, pa.Table.from_pylist([row | {"in_round": round_index}], schema=FLAGGED))
    (trace,) = traces_at(ledger, "a")
    assert [(flag.words, flag.detail) for flag in trace.flags_once] == [("an equation does not hold", "1 + 1 = 3")]
    assert len(trace.flags) == 2


def test_a_problem_has_its_history_and_its_newest_class(tmp_path: Path) -> None:
    asked = [problem("a", meta={"steps": 3}), problem("b", reference={"tests": ["assert f()"]})]
    write_problems(tmp_path / "problems.parquet", {"train": asked})
    ledger = ledger_of(tmp_path, [(sample("a", i), verdict("incorrect")) for i in range(4)])
    finish_round(ledger, 1)
    second = [(sample("a", i, round_index=2), verdict()) for i in range(16)]
    commit(ledger, "u1", [*second, (sample("a", 0, round_index=2, hinted=True), verdict())])
    finish_round(ledger, 2)
    found = problems_of(ledger.connect(), ["b", "a", "nothing"])
    assert list(found) == ["b", "a"]
    a, b = found["a"], found["b"]
    assert (a.text, a.reference, a.solution, a.meta, a.split) == (
        "Question a?",
        "2",
        "1 + 1 = 2",
        {"steps": 3},
        "train",
    )
    assert [(count.round, count.samples, count.correct) for count in a.history] == [(1, 4, 0), (2, 16, 16)]
    assert (a.class_name, b.class_name) == ("solved", "unseen")
    assert a.evidence is not None
    assert a.evidence["samples"] == 20
    assert b.reference == '{\n "tests": [\n  "assert f()"\n ]\n}'


def test_a_problem_whose_text_is_gone_still_has_its_samples(tmp_path: Path) -> None:
    found = problems_of(ledger_of(tmp_path, [(sample("a", 0), verdict())]).connect(), ["a"])["a"]
    assert (found.text, found.reference, found.split) == ("", "", "train")


def test_every_reason_class_and_flag_has_words() -> None:
    from star_rft.evaluation.trace_audit import KINDS

    assert set(labels.VERDICTS) == set(REASONS)
    assert set(labels.CLASSES) == set(CLASSES)
    assert set(labels.FLAGGED) == set(KINDS)


def test_every_reason_of_a_rule_has_words() -> None:
    """A rule gives its reason to `drop`, `keep_first` or a changed row, as an SQL text or a plain one."""
    reasons = set[str]()
    for path in (ROOT / "star_rft" / "selection").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            given: list[ast.expr | None] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = [*node.args[1:2]] if node.func.attr == "drop" else []
                given += [keyword.value for keyword in node.keywords if keyword.arg == "why"]
            elif isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                given = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "why"]
            texts = [node.value for node in given if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            reasons |= {text.strip("'") for text in texts if re.fullmatch(r"'?[a-z_]+'?", text)}
    reasons -= {"status", "why"}  # columns: the verdict's own status
    assert len(reasons) > 12
    assert reasons <= set(labels.DROPS), reasons - set(labels.DROPS)


# The pieces of HTML


def card(trace: ShownTrace, macro: str = "trace_card") -> str:
    return str(getattr(environment().get_template("traces.html").module, macro)(trace))


def head(problem: ShownProblem) -> str:
    return str(environment().get_template("traces.html").module.problem_head(problem))  # type: ignore[attr-defined]


def test_a_card_marks_the_answer_and_what_is_false(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0, "3 * 4 = 11\n#### 11"), verdict("incorrect", "11"))])
    html = card(traces_at(ledger, "a")[0])
    assert '<mark class="false" title="3 * 4 is 12, not 11">3 * 4 = 11</mark>\n#### ' in html
    assert '<mark class="answer" title="the final answer that was judged">11</mark>' in html
    assert "<li>3 * 4 is 12, not 11</li>" in html
    assert "its answer is not the reference&#39;s" in html
    assert f'id="t-{sample("a", 0).id}"' in html


HOSTILE = "<script>alert(1)</script>\"><img src=x onerror=alert(1)>'"


def test_whatever_a_card_and_a_problem_show_is_escaped(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.parquet", {"train": [problem("a", reference=HOSTILE, meta={HOSTILE: HOSTILE})]})
    ledger = ledger_of(tmp_path, [(sample("a", 0, f"{HOSTILE}\n#### {HOSTILE}"), verdict("incorrect", HOSTILE))])
    row = {"in_round": 1, "sample_id": sample("a", 0).id, "problem_id": "a", "kind": HOSTILE, "detail": HOSTILE}
    write_table(tmp_path / "rounds" / "001" / "flagged.parquet", pa.Table.from_pylist([row], schema=FLAGGED))
    con = ledger.connect()
    html = card(traces_of(con, ["a"])["a"][0]) + head(problems_of(con, ["a"])["a"])
    assert html.count("&lt;script&gt;") >= 6
    for part in ("<script", "<img", '"><img'):
        assert part not in html


@pytest.mark.parametrize("why", ["duplicate", "selected", "over_cap", "something_new"])
def test_a_why_without_its_other_trace_is_still_shown(why: str, tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict())])
    row = {"in_round": 1, "sample_id": sample("a", 0).id, "problem_id": "a", "is_selected": why == "selected"}
    table = pa.Table.from_pylist([row | {"why": why, "duplicate_of": "gone", "weight": 1.0}], schema=SELECTION)
    write_table(tmp_path / "rounds" / "001" / "selection.parquet", table)
    html = card(traces_at(ledger, "a")[0], "why")
    assert ("something new" in html) == (why == "something_new")
    assert ('<a href="#t-gone">gone</a>' in html) == (why == "duplicate")
