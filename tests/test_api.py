"""The public surface: its names, what `Run` does when it is iterated over, read or dropped, and data in memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import star_rft
import verifiers
from star_rft.errors import RunError, UserError
from tests.small_runs import MINIATURE, call

NAMES = [
    "Comparison",
    "Completion",
    "CompletionPairs",
    "Config",
    "Decoding",
    "EngineContext",
    "HeldOutScores",
    "Interval",
    "ModelSpec",
    "Problem",
    "Progress",
    "Request",
    "RoundReport",
    "Run",
    "RunError",
    "RunFailure",
    "Sample",
    "Sampler",
    "Scorer",
    "ScorerContext",
    "Trace",
    "UserError",
    "Verdict",
    "Verifier",
    "bootstrap",
    "compare",
    "crossed",
    "engine",
    "evaluate",
    "export",
    "fork",
    "load_config",
    "load_problems",
    "objective",
    "open_run",
    "paired",
    "pass_at_k",
    "rule",
    "run",
    "run_seeds",
    "sample",
    "scorer",
    "verifier",
]
OF_VERIFIERS = [
    "REASONS",
    "STATUSES",
    "Check",
    "Pool",
    "Reason",
    "Status",
    "Tally",
    "UnknownOption",
    "UnknownVerifier",
    "Verdict",
    "Verifier",
    "VerifierError",
    "WorkerLoadError",
    "as_reward",
    "averify_iter",
    "extract",
    "find_equations",
    "find_program",
    "get",
    "names",
    "register",
    "score_file",
    "verify",
    "verify_iter",
    "verify_many",
]
ROWS = [{"question": f"What is {a} + 1?", "answer": str(a + 1)} for a in range(8)]


def test_these_are_the_public_names() -> None:
    assert sorted(star_rft.__all__) == sorted(NAMES)
    assert sorted(verifiers.__all__) == sorted(OF_VERIFIERS)
    assert all(getattr(star_rft, name) is not None for name in NAMES)
    assert all(getattr(verifiers, name) is not None for name in OF_VERIFIERS)


def test_a_name_that_is_not_there_says_what_is() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'; it gives Comparison"):
        star_rft.trian  # noqa: B018


def test_importing_it_and_listing_its_names_loads_nothing_heavy() -> None:
    code = "import sys, star_rft; dir(star_rft); assert not {'torch', 'duckdb', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Any]:
    return MINIATURE | {"run_dir": str(tmp_path / "run")}


def test_a_run_yields_its_rounds_and_reads_what_it_left(small: dict[str, Any]) -> None:
    run = star_rft.run(small)
    assert repr(run) == f"<Run {small['run_dir']}: not begun>"
    assert [report.round for report in run] == list(range(small["rounds"] + 1))
    opened = star_rft.open_run(small["run_dir"])
    assert opened.reports == run.reports == list(opened) == opened.result().reports
    assert repr(opened).startswith(f"<Run {small['run_dir']}: finished, pass@1 ")
    assert "\n" not in repr(opened)
    traces = list(opened.traces("train", round_index=1))
    ((counted,),) = opened.sql("select count(*) from traces where split = 'train' and round = $r", r=1).fetchall()
    assert len(traces) == counted == len(opened.to_pandas("traces").query("split == 'train' and round == 1"))
    assert {trace.problem.id for trace in traces} <= {problem.id for problem in opened.problems["train"]}
    assert opened.config.sample.n == small["sample"]["n"]


def test_a_run_that_was_opened_is_not_run_by_asking_for_its_result(small: dict[str, Any]) -> None:
    next(iter(star_rft.run(small)))
    opened = star_rft.open_run(small["run_dir"])
    assert [report.round for report in opened] == [0]
    with pytest.raises(RunError, match=r"is not finished \(round 1 of .*\), and was opened to read"):
        opened.result()


def test_a_run_that_is_dropped_unused_warns_and_one_that_was_used_or_opened_does_not(small: dict[str, Any]) -> None:
    def drop() -> None:
        star_rft.run(small)
        gc.collect()

    with pytest.warns(RuntimeWarning, match=r"nothing was run in .*: iterate over what star_rft\.run returns"):
        drop()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = star_rft.run(small)
        next(iter(run))
        del run
        star_rft.open_run(small["run_dir"])
        gc.collect()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder: it has no config"):
        star_rft.open_run(tmp_path)


def test_a_mistake_is_raised_by_run_itself_and_not_when_it_is_iterated_over(small: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"sample\.m"):
        star_rft.run(small, {"sample.m": 3})


def test_other_data_in_memory_is_another_run(small: dict[str, Any]) -> None:
    """A run that goes on with other rows than it began with would mix two data sets without a word."""
    dev, none = [{"question": "What is 50 + 1?", "answer": "51"}], {"rounds": 0}
    star_rft.run(small, none, data={"train": ROWS, "dev": dev}).result()
    again = star_rft.run(small, none, data={"train": iter(ROWS), "dev": iter(dev)})
    assert len(again.result().problems["train"]) == len(ROWS)
    with pytest.raises(RunError, match=r"begun with other settings.*data\.train\.source"):
        star_rft.run(
            small, none, data={"train": [*ROWS[1:], {"question": "What is 9 + 1?", "answer": "10"}], "dev": dev}
        ).result()


def test_problems_in_memory_keep_their_ids_and_meta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    problems = star_rft.load_problems("word_problems", options={"n": 3}, split="dev")
    traces = star_rft.sample("tiny", problems, n=2, overrides={"eval.max_tokens": 8})
    assert len(traces) == 6
    assert {(t.problem.id, t.problem.meta["steps"]) for t in traces} == {(p.id, p.meta["steps"]) for p in problems}


def test_unlike_data_in_memory_is_evaluated_in_unlike_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"eval.max_tokens": 8}
    first, other = (star_rft.evaluate("tiny", rows, k=[1], overrides=few) for rows in (ROWS[:2], ROWS[:3]))
    assert (first.problems, other.problems) == (2, 3)


def test_problems_come_from_a_file_rows_or_a_config(tmp_path: Path) -> None:
    found = star_rft.load_problems(ROWS)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"question": "{row["question"]}", "answer": "{row["answer"]}"}}\n' for row in ROWS))
    assert star_rft.load_problems(file) == found
    config = star_rft.load_config(MINIATURE | {"data": {"train": str(file), "dev": str(file)}, "run_dir": "x"})
    assert [problem.id for problem in star_rft.load_problems(config)] == [problem.id for problem in found]
    assert star_rft.load_problems(found)[0].id == found[0].id


def test_what_the_replaced_source_took_of_its_file_is_not_taken_of_rows(small: dict[str, Any]) -> None:
    """A recipe takes 5% of its file for dev; rows that are given are given whole, unless the caller says otherwise."""
    source = {"source": "some.jsonl", "share": [0.95, 1.0], "limit": 1, "max_solution_chars": 1, "shuffle_seed": 3}
    config = small | {"rounds": 0, "data": {"train": source, "dev": source}}
    dev = [{"question": f"What is {a} + {a}?", "answer": str(2 * a)} for a in range(50, 56)]
    run = star_rft.run(config, data={"train": ROWS, "dev": dev}).result()
    assert {split: len(found) for split, found in run.problems.items()} == {"train": 8, "dev": 6, "test": 0}
    other = {"run_dir": small["run_dir"] + "-few", "data.dev.limit": 2}
    assert len(star_rft.run(config, other, data={"train": ROWS, "dev": dev}).result().problems["dev"]) == 2


def test_a_config_without_data_takes_rows(tmp_path: Path) -> None:
    def train_source() -> str:
        run = star_rft.run({"name": "x", "run_dir": str(tmp_path / "x")}, data={"train": ROWS, "dev": ROWS})
        assert run.config.data.train is not None
        return str(run.config.data.train.source)

    with pytest.warns(RuntimeWarning):
        assert train_source().startswith("in memory (8 rows, ")


def test_problems_are_judged_by_their_own_verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": "Which? (A) tea (B) milk", "answer": "B"}]
    problems = star_rft.load_problems(rows, verifier="choice")
    few = {"eval.max_tokens": 8}
    assert {t.verdict.verifier for t in star_rft.sample("tiny", problems, n=2, overrides=few)} == {"choice"}
    assert {t.verdict.verifier for t in star_rft.sample("tiny", rows, n=2, overrides=few)} == {"math"}
    with pytest.raises(UserError, match="problems are of the verifier 'choice', and the config says 'math'"):
        star_rft.run(MINIATURE | {"run_dir": str(tmp_path / "run")}, data={"train": problems})
    mixed = [*problems, *star_rft.load_problems(ROWS)]
    with pytest.raises(UserError, match="several verifiers: choice, math"):
        star_rft.evaluate("tiny", mixed)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("x.jsonl", r"data\['train'\] holds rows; name a file in the config: 'x.jsonl'"),
        (["a"], "must hold mappings or problems, not str; of a data frame df.to_dict"),
        ([{"question": "1?", "answer": object()}], "a row holds a value of type object"),
    ],
)
def test_what_are_no_rows_is_refused(small: dict[str, Any], data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        star_rft.run(small, data={"train": data})


def test_the_digest_of_rows_does_not_depend_on_the_process() -> None:
    code = "from star_rft.build.rows import _digest_of; print(_digest_of([{'q': {'b', 'a', 'c'}, 1: 2.5}]))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": str(seed)}
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    "overrides", [{"verifier.name": "maths"}, {"select.rules": ["corect"]}, {"scorer": {"name": "majorty"}}]
)
def test_a_name_that_is_not_there_is_refused_before_anything_is_begun(small: dict[str, Any], overrides: Any) -> None:
    with pytest.raises(UserError, match="did you mean"):
        star_rft.run(small, overrides)
    next(iter(star_rft.run(small, {"rounds": 0})))
    with pytest.raises(UserError, match="did you mean"):
        star_rft.fork(small["run_dir"], "forked", overrides)
    assert not (Path(small["run_dir"]).parent / "forked").exists()


def test_an_option_that_export_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="export has no option 'round'; valid: tool, include, split, tokens, pairs"):
        star_rft.export(tmp_path, "sft", round=1)


def test_options_of_a_configs_problems_are_applied() -> None:
    config = star_rft.load_config("quickstart")
    assert len(star_rft.load_problems(config, limit=3)) == 3


def test_seeds_give_their_runs_and_one_comparison_with_the_start(small: dict[str, Any]) -> None:
    runs, comparison = star_rft.run_seeds(small, [4, 1], {"rounds": 1})
    assert [(run.config.seed, run.folder.name) for run in runs] == [(4, "run-seed4"), (1, "run-seed1")]
    assert [len(run.reports) for run in runs] == [2, 2]
    assert [(model.seeds, model.rounds) for model in comparison.models] == [((4,), (0,)), ((4, 1), (1, 1))]
    query = "select sample_id, seed, text from samples where round = 1 and split = 'train' order by sample_id"
    first, other = (run.sql(query).fetchall() for run in runs)
    assert first == other
    assert len(first) > 0


@pytest.mark.parametrize(
    ("seeds", "changes", "message"),
    [
        ([1], {}, r"seeds \[1\] must be two or more different whole numbers from 0 on"),
        ([1, 1], {}, r"seeds \[1, 1\] must be"),
        ([0, -1], {}, r"seeds \[0, -1\] must be"),
        ([0, 1.5], {}, r"seeds \[0, 1.5\] must be"),
        ([True, 2], {}, r"seeds \[True, 2\] must be"),
        (["0", "1"], {}, r"seeds \['0', '1'\] must be"),
        ([0, 1], {"rounds": 0}, "with rounds: 0 nothing is trained"),
    ],
)
def test_seeds_that_are_no_seeds_are_refused(small: dict[str, Any], seeds: Any, changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        star_rft.run_seeds(small, seeds, changes)
    assert not Path(small["run_dir"] + "-seed0").exists()


def test_a_fork_lies_in_the_folder_of_its_source_by_python_as_by_the_command_line(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(iter(star_rft.run(small, {"rounds": 0})))
    monkeypatch.chdir(tmp_path / "run")
    changes = {"sample.n": 2, "rounds": 1}
    with pytest.warns(RuntimeWarning, match="nothing was run"):
        places = [star_rft.fork(source, name, changes).folder for source, name in ((tmp_path / "run", "a"), (".", "b"))]
    assert places == [tmp_path / "a", tmp_path / "b"]
    call("fork", ".", "c", "sample.n=2", "rounds=1", cwd=tmp_path / "run")
    assert (tmp_path / "c/config.yaml").exists()
    assert (tmp_path / "b/config.yaml").exists()
