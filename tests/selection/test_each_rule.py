"""What each selection rule keeps, drops and says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_rft.data import write_problems
from star_rft.selection.candidates import RuleError
from star_rft.selection.registry import bound
from star_rft.types import Problem, Sample
from tests.small_ledgers import ledger_of, sample, scored, selection, verdict
from verifiers.types import Verdict

# The RLHF book's worked example of rejection sampling: five prompts with four scored completions each.
BOOK = [
    [0.7, 0.3, 0.5, 0.2],
    [0.4, 0.8, 0.6, 0.5],
    [0.9, 0.3, 0.4, 0.7],
    [0.2, 0.5, 0.8, 0.6],
    [0.5, 0.4, 0.3, 0.6],
]


def why_by_name(folder: Path, pairs: list[tuple[Sample, Verdict]], *rules: Any, **options: Any) -> dict[str, str]:
    """Return why, by "problem sample_index"."""
    names = {s.id: f"{s.problem_id}{s.sample_index}" for s, _ in pairs}
    rows = selection(ledger_of(folder, pairs), *rules, **options).traces.to_arrow_table().to_pylist()
    return {names[row["sample_id"]]: row["why"] for row in rows}


def ranked(folder: Path, pairs: list[tuple[Sample, Verdict]], *rules: Any) -> list[list[str]]:
    """Return the preferences, each a list of "problem sample_index", best first; the reference solution is
    "reference".
    """
    names: dict[Any, str] = {s.id: f"{s.problem_id}{s.sample_index}" for s, _ in pairs} | {None: "reference"}
    found: dict[int, list[str]] = {}
    for row in selection(ledger_of(folder, pairs), *rules).preferences.to_arrow_table().to_pylist():
        found.setdefault(row["preference"], []).append(names[row["sample_id"]])
    return list(found.values())


def book() -> list[tuple[Sample, Verdict]]:
    return [
        (sample(f"p{row}", sample_index, f"{row} {sample_index}"), scored(score))
        for row, scores in enumerate(BOOK)
        for sample_index, score in enumerate(scores)
    ]


def kept(reasons: dict[str, str]) -> set[str]:
    return {name for name, why in reasons.items() if why == "selected"}


def test_the_best_a_prompt_of_the_rlhf_book(tmp_path: Path) -> None:
    reasons = why_by_name(tmp_path, book(), "correct", {"cap": {"limit": 1, "prefer": "best"}})
    assert kept(reasons) == {"p00", "p11", "p20", "p32", "p43"}  # completions 1, 2, 1, 3, 4


def test_the_top_five_of_the_rlhf_book(tmp_path: Path) -> None:
    """Indices 8, 5, 14, 0, 11 of the flattened list."""
    reasons = why_by_name(tmp_path, book(), "correct", {"top": 5})
    assert kept(reasons) == {f"p{index // 4}{index % 4}" for index in (8, 5, 14, 0, 11)}
    assert Counter(reasons.values()) == {"selected": 5, "below_top": 15}


def test_the_first_attempts_are_what_a_smaller_n_would_have_drawn(tmp_path: Path) -> None:
    reasons = why_by_name(tmp_path, book(), {"first_samples": 2}, "correct")
    assert kept(reasons) == {f"p{problem}{sample_index}" for problem in range(5) for sample_index in range(2)}
    assert Counter(reasons.values()) == {"selected": 10, "later_sample": 10}


def test_a_threshold_and_a_percentile_of_the_scores(tmp_path: Path) -> None:
    no_score = (sample("p0", 9, "none"), scored(None))
    reasons = why_by_name(tmp_path / "a", [*book(), no_score], {"threshold": 0.7})
    assert kept(reasons) == {"p00", "p11", "p20", "p23", "p32"}
    assert reasons["p09"] == reasons["p01"] == "below_threshold"
    assert len(kept(why_by_name(tmp_path / "b", book(), {"percentile": 90}))) == 3  # 0.9, 0.8, 0.8
    by_problem = why_by_name(tmp_path / "c", book(), {"percentile": {"at_least": 100, "of": "problem"}})
    assert kept(by_problem) == {"p00", "p11", "p20", "p32", "p43"}


def test_dart_keeps_alike_or_in_proportion_to_the_fail_rate(tmp_path: Path) -> None:
    """Of 10 samples each, `a` has 9 correct, `b` 5 and `c` 1."""
    rates = {"a": 9, "b": 5, "c": 1}
    pairs = [
        (sample(p, i, f"{i}"), verdict("correct" if i < right else "incorrect"))
        for p, right in rates.items()
        for i in range(10)
    ]
    uniform = why_by_name(tmp_path / "u", pairs, "correct", {"balance": {"target": "uniform", "limit": 4}})
    assert Counter(name[0] for name in kept(uniform)) == {"a": 4, "b": 4, "c": 1}
    prop2diff = why_by_name(tmp_path / "d", pairs, "correct", {"balance": {"target": "prop2diff", "limit": 6}})
    assert Counter(name[0] for name in kept(prop2diff)) == {"a": 1, "b": 3, "c": 1}  # 6 x 0.1, 6 x 0.5, one there is
    assert prop2diff["a1"] == "over_cap"


def test_the_furthest_of_equals_stays(tmp_path: Path) -> None:
    texts = ["1 + 1 = 2", "3 - 1 = 2 yes", "3 - 1 = 2 and this is quite another way to put it", "3 - 1 = 2 ok"]
    pairs = [(sample("a", i, text), verdict()) for i, text in enumerate(texts)]
    dedup = {"dedup": {"by": "equations", "prefer": "furthest"}}
    assert kept(why_by_name(tmp_path / "f", pairs, "correct", dedup)) == {"a0", "a2"}
    assert kept(why_by_name(tmp_path / "r", pairs[::-1], "correct", dedup)) == {"a0", "a2"}


def test_programs_are_deduplicated_by_what_they_do(tmp_path: Path) -> None:
    texts = [
        "def f(x):\n    return x + 1",
        "def f(y):\n    # one more\n    return y + 1",
        "def f(x):\n    return 1 + x",
    ]
    pairs = [
        (sample("a", i, text), Verdict("correct", 1.0, None, "match", "code", "1")) for i, text in enumerate(texts)
    ]
    assert why_by_name(tmp_path, pairs, "correct", {"dedup": "program"}) == {
        "a0": "selected",
        "a1": "duplicate",
        "a2": "selected",
    }


def test_statistical_rejection_sampling_prefers_high_scores(tmp_path: Path) -> None:
    pairs = [(sample(f"p{p}", i, f"{i}"), scored(i / 10)) for p in range(60) for i in range(10)]
    mild = why_by_name(tmp_path / "m", pairs, "finished", {"rejection_sampling": {"n": 3, "beta": 0.5}})
    strict = why_by_name(tmp_path / "s", pairs, "finished", {"rejection_sampling": {"n": 3, "beta": 0.01}})
    assert Counter(Counter(name[:-1] for name in kept(mild)).values()) == {3: 60}

    def mean(names: set[str]) -> float:
        return sum(int(name[-1]) for name in names) / len(names)

    assert 4.5 < mean(kept(mild)) < mean(kept(strict)) == 8.0  # beta -> 0 takes the best three
    again = why_by_name(tmp_path / "again", pairs[::-1], "finished", {"rejection_sampling": {"n": 3, "beta": 0.5}})
    assert again == mild


def test_filters_on_how_a_trace_reads(tmp_path: Path) -> None:
    texts = [
        "so 2 + 2 = 4",
        "так 2 + 2 = 4",
        "答案 4",
        "β = 4",
        "```\n4\n```",
        "x" * 90 + "\n\nshort",
        "x" * 60 + "\n" + "x" * 60,
    ]
    pairs = [(sample("a", i, text, tokens=i + 1), verdict()) for i, text in enumerate(texts)]
    rule = {"readable": {"scripts": ["Latin", "Greek"], "paragraph_chars": 100, "code_blocks": False}}
    assert why_by_name(tmp_path / "r", pairs, "correct", rule) == {
        "a0": "selected",
        "a1": "mixed_language",
        "a2": "mixed_language",
        "a3": "selected",
        "a4": "code_block",
        "a5": "selected",
        "a6": "long_paragraph",
    }
    lengths = why_by_name(tmp_path / "t", pairs, "correct", {"tokens": {"at_least": 2, "at_most": 5}})
    assert (lengths["a0"], lengths["a1"], lengths["a5"]) == ("too_short", "selected", "too_long")


def test_a_right_answer_by_a_false_step_can_be_dropped(tmp_path: Path) -> None:
    pairs = [(sample("a", 0, "2 + 2 = 5, so #### 4"), verdict()), (sample("a", 1, "2 + 2 = 4"), verdict())]
    assert why_by_name(tmp_path, pairs, "correct", "valid_steps") == {"a0": "invalid_step", "a1": "selected"}


def test_problems_that_are_all_right_or_all_wrong_tell_nothing(tmp_path: Path) -> None:
    grades = {"a": ["correct", "correct"], "b": ["correct", "incorrect"], "c": ["incorrect", "incorrect"]}
    pairs: list[Any] = [
        (sample(p, i, f"{i}"), verdict(status))  # type: ignore[arg-type]
        for p, statuses in grades.items()
        for i, status in enumerate(statuses)
    ]
    reasons = why_by_name(tmp_path, pairs, "correct", "mixed")
    assert reasons == {"a0": "not_mixed", "a1": "not_mixed", "b0": "selected"} | dict.fromkeys(
        ("b1", "c0", "c1"), "incorrect"
    )


def test_hinted_traces_stay_below_their_share_and_leaks_go(tmp_path: Path) -> None:
    pairs = [(sample("a", i, f"{i}"), verdict()) for i in range(6)]
    pairs += [(sample("b", i, f"{i}", hinted=True, leaks_hint=i == 0), verdict()) for i in range(8)]
    reasons = why_by_name(tmp_path / "share", pairs, "correct", {"hinted": 0.25})
    assert Counter(name[0] for name in kept(reasons)) == {"a": 6, "b": 2}
    assert reasons["b0"] == "leaks_hint"
    assert Counter(reasons.values())["over_hinted_share"] == 5
    assert Counter(name[0] for name in kept(why_by_name(tmp_path / "none", pairs, "correct", {"hinted": 0.0}))) == {
        "a": 6
    }


def test_the_control_is_as_large_and_blind(tmp_path: Path) -> None:
    pairs = [(sample(f"p{i}", 0, f"{i}"), verdict("correct" if i % 2 else "incorrect")) for i in range(100)]
    pairs += [(sample("cut", 0, finish="length"), verdict())]
    blind = why_by_name(tmp_path / "f", pairs, "correct", {"cap": 4}, "control")
    right = {f"p{i}0" for i in range(100) if i % 2}
    assert len(kept(blind)) == 50
    assert "cut0" not in kept(blind)
    assert 10 < len(kept(blind) & right) < 40
    fair = why_by_name(tmp_path / "c", pairs, "correct", {"top": 20}, {"control": "correct"})
    assert len(kept(fair)) == 20
    assert kept(fair) <= right


# Preferences


def graded(problem: str, statuses: str) -> list[tuple[Sample, Verdict]]:
    status = {"+": "correct", "-": "incorrect", "?": "unknown"}
    return [(sample(problem, i, f"way {i}"), verdict(status[c])) for i, c in enumerate(statuses)]  # type: ignore[arg-type]


def test_selected_traces_are_set_against_incorrect_ones(tmp_path: Path) -> None:
    pairs = [*graded("a", "+-+-?"), *graded("b", "++"), *graded("c", "--")]
    found = ranked(tmp_path / "one", pairs, "correct", {"pairs": "correct_incorrect"})
    assert found == [["a0", "a1"]]
    all_four = ranked(tmp_path / "all", pairs, "correct", {"pairs": {"of": "correct_incorrect", "limit": 9}})
    assert sorted(all_four) == [["a0", "a1"], ["a0", "a3"], ["a2", "a1"], ["a2", "a3"]]
    reasons = why_by_name(tmp_path / "why", pairs, "correct", {"pairs": {"of": "correct_incorrect", "limit": 9}})
    assert {name for name, why in reasons.items() if why == "loser"} == {"a1", "a3"}
    assert kept(reasons) == {"a0", "a2", "b0", "b1"}


def test_best_against_worst_needs_a_difference(tmp_path: Path) -> None:
    pairs = [(sample("a", i, f"{i}"), scored(s)) for i, s in enumerate([0.2, 0.9, 0.5])]
    pairs += [(sample("b", i, f"{i}"), scored(0.5)) for i in range(3)]
    assert ranked(tmp_path / "r", pairs, "finished", {"pairs": "best_worst"}) == [["a1", "a0"]]
    assert why_by_name(tmp_path / "w", pairs, "finished", {"pairs": "best_worst"})["a0"] == "loser"


def test_a_list_may_begin_with_the_reference_solution(tmp_path: Path) -> None:
    problems = [Problem("a", "?", "2", "math", solution="1 + 1 = 2"), Problem("b", "?", "2", "math")]
    write_problems(tmp_path / "problems.parquet", {"train": problems})
    pairs = [*graded("a", "--"), *graded("b", "-")]
    found = ranked(tmp_path, pairs, "finished", {"pairs": {"of": "all_and_reference", "limit": 4}})
    assert found == [["reference", "a0", "a1"]]


def test_lists_hold_distinct_traces_best_first(tmp_path: Path) -> None:
    scores = [0.2, 0.9, 0.5, 0.9]
    pairs = [(sample("a", i, "same" if i in (1, 3) else f"{i}"), scored(s)) for i, s in enumerate(scores)]
    assert ranked(tmp_path, pairs, "finished", {"pairs": {"of": "all", "limit": 4}}) == [["a1", "a2", "a0"]]


# What is refused


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["corect"], "unknown rule 'corect' (did you mean 'correct'?)"),
        ([{"cap": {"limits": 4}}], "rule 'cap' has no option 'limits' (did you mean 'limit'?); valid options: limit"),
        ([{"cap": "four"}], "option 'limit' of rule 'cap': 'four' is not valid"),
        (["cap"], "rule 'cap' needs the option 'limit'"),
        (["nothing:here"], "rule 'nothing:here': no module named 'nothing' can be imported"),
        ([{"correct": 1}], "rule 'correct' takes no options"),
        ([{"dedup": "meaning"}], "option 'by' of rule 'dedup': 'meaning' is not valid: input should be 'exact',"),
        ([{"cap": 1, "top": 2}], "is no rule"),
        ([3], "is no rule"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_at_once(rules: list[Any], message: str) -> None:
    with pytest.raises(RuleError, match=r"^select\.rules: ") as caught:
        bound(rules)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "rule",
    [
        {"cap": 0},
        {"top": -1},
        {"percentile": 101},
        {"hinted": 1.0},
        {"rejection_sampling": {"n": 2, "beta": 0}},
        {"pairs": {"of": "all", "limit": 0}},
        {"tokens": {"at_least": -1}},
    ],
)
def test_a_value_out_of_range_is_refused_when_the_config_is_read(rule: Any) -> None:
    with pytest.raises(RuleError, match=r"select\.rules: option '\w+' of rule '\w+': .* is not valid: input should be"):
        bound([rule])


# What holds for all of them

RULES = st.lists(
    st.sampled_from(
        [
            "finished",
            "valid_steps",
            "mixed",
            {"dedup": "exact"},
            {"dedup": "equations"},
            {"dedup": {"by": "equations", "prefer": "furthest"}},
            {"cap": 2},
            {"cap": {"limit": 1, "prefer": "best"}},
            {"top": 3},
            {"threshold": 0.5},
            {"percentile": 50},
            {"balance": {"target": "prop2diff", "limit": 3}},
            {"rejection_sampling": {"n": 2, "beta": 0.5}},
            {"hinted": 0.5},
            {"tokens": {"at_most": 4}},
            {"readable": {"scripts": ["Latin"]}},
            {"pairs": {"of": "correct_incorrect", "limit": 2}},
            {"pairs": {"of": "all", "limit": 3}},
            {"control": "correct"},
        ]
    ),
    max_size=5,
)
TRACES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["1 + 1 = 2", "1+1=2.", "3 - 1 = 2", "2 + 2 = 5", "two", ""]),
        st.sampled_from(["correct", "incorrect", "unknown"]),
        st.sampled_from([0.0, 0.25, 1.0, None]),
        st.booleans(),
        st.sampled_from(["stop", "length"]),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(traces=TRACES, rules=RULES, data=st.data())
def test_selection_is_deterministic_independent_of_order_and_never_takes_what_is_not_correct(
    tmp_path_factory: pytest.TempPathFactory, traces: list[Any], rules: list[Any], data: st.DataObject
) -> None:
    pairs = [
        (sample(p, i, text, tokens=1 + i % 5, hinted=hinted, finish=finish), scored(score, status))
        for i, (p, text, status, score, hinted, finish) in enumerate(traces)
    ]
    shuffled = data.draw(st.permutations(pairs))
    outcomes = []
    for order in (pairs, shuffled):
        found = selection(ledger_of(tmp_path_factory.mktemp("run"), order), "correct", *rules)
        outcomes.append([found.traces.to_arrow_table().to_pylist(), found.preferences.to_arrow_table().to_pylist()])
    assert outcomes[0] == outcomes[1]
    rows, preferences = outcomes[0]
    assert len(rows) == len(pairs)
    by_id = {s.id: (s, v) for s, v in pairs}
    for row in rows:
        trace, judged = by_id[row["sample_id"]]
        assert row["is_selected"] == (row["why"] == "selected") == (row["weight"] > 0)
        if row["is_selected"]:
            assert (judged.status, trace.finish_reason) == ("correct", "stop")
    for row in preferences:
        assert by_id[row["sample_id"]][1].status != "unknown"
