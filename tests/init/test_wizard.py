"""`star-rft init` without anybody to ask: what it writes, and that a mistake writes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from star_rft import config as configs
from star_rft.build.dry_run import preview
from star_rft.data import load
from star_rft.errors import UserError
from star_rft.models import ASSETS
from tests.init.files import adders, capitals, fractions, gsm8k_like, init, said, stories, values_of
from tests.jsonl import write_jsonl
from tests.small_runs import call

COPY = "data.problems.jsonl"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(name: str) -> configs.Config:
    return configs.load(f"{name}.yaml")


@pytest.mark.full
def test_a_config_from_ones_own_data_runs_end_to_end(here: Path) -> None:
    write_jsonl(here / "shop.jsonl", stories(40))
    done = call("init", "shop.jsonl", "--model", "tiny", "--name", "mine", cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("star-rft report runs/mine          one page about it, at any time")
    small = ["rounds=1", "sample.n=3", "eval.n=2", "eval.k=[1,2]", "sample.max_tokens=80", "eval.max_tokens=80"]
    run = call("run", "mine.yaml", "verifier.workers=1", *small, cwd=here)
    assert run.returncode == 0, run.stderr
    metrics = json.loads((here / "runs/mine/rounds/001/metrics.json").read_text())
    assert metrics["correct"] > 0
    assert metrics["unknown"] == 0
    assert metrics["problems"] == 20


@pytest.mark.full
def test_the_same_input_gives_the_same_file_and_the_data_is_not_touched(here: Path) -> None:
    data = write_jsonl(here / "shop.jsonl", stories(60))
    before = data.read_bytes()
    assert init("shop.jsonl").exit_code == 0
    first = (here / "shop.yaml").read_bytes()
    assert init("shop.jsonl", "--force").exit_code == 0
    assert (here / "shop.yaml").read_bytes() == first
    assert data.read_bytes() == before
    assert {path.name for path in here.iterdir()} == {"shop.jsonl", "shop.yaml"}


@pytest.mark.parametrize(
    ("rows", "verifier", "expected"),
    [
        (gsm8k_like, "math", {"preset": "gsm8k", "columns": None}),
        (fractions, "math", {"columns": {"prompt": "aufgabe", "reference": "antwort", "solution": "weg"}}),
        (capitals, "choice", {"source": COPY, "columns": {"prompt": "prompt", "reference": "reference"}}),
        (adders, "code", {"source": COPY}),
    ],
)
def test_each_kind_of_data_gets_a_config_that_a_dry_run_accepts(
    rows: Callable[[int], list[dict[str, Any]]], verifier: str, expected: dict[str, Any], here: Path
) -> None:
    write_jsonl(here / "data.jsonl", rows(50))
    done = init("data.jsonl", "--name", "data")
    assert done.exit_code == 0, done.output
    config = loaded("data")
    assert config.verifier.name == verifier
    assert config.data.train is not None
    assert {key: getattr(config.data.train, key) for key in expected} == expected
    plan = preview(config)
    assert plan.problems["train"] + plan.problems["dev"] == 50
    assert plan.problems["dev"] == 20


def test_the_answers_are_shown_as_they_will_be_checked(here: Path) -> None:
    write_jsonl(here / "data.jsonl", gsm8k_like(30))
    shown = said(init("data.jsonl"))
    assert "is read as" in shown
    assert "answer, what follows ####" in shown
    assert "Read 30 rows." in shown
    first = load("data.jsonl", verifier="math")[0]
    assert f"{first.reference} " in shown.partition("answer that is checked")[2]


@pytest.mark.full
def test_parquet_json_and_folders_are_read_too(here: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = stories(40)
    pq.write_table(pa.Table.from_pylist(rows), here / "p.parquet")
    (here / "j.json").write_text(json.dumps(rows))
    (here / "alone").mkdir()
    write_jsonl(here / "alone" / "things.jsonl", rows)
    for source, name in (("p.parquet", "p"), ("j.json", "j"), ("alone", "things")):
        assert init(source).exit_code == 0
        assert preview(loaded(name)).problems == {"train": 20, "dev": 20}


@pytest.mark.full
def test_splits_that_stand_in_a_folder_are_used(here: Path) -> None:
    rows = stories(60)
    (here / "mine").mkdir()
    parts = {"train": rows[:30], "validation": rows[30:50], "test": rows[50:]}
    for name, part in parts.items():
        write_jsonl(here / "mine" / f"{name}.jsonl", part)
    assert init("mine").exit_code == 0
    assert preview(loaded("mine")).problems == {"train": 30, "dev": 20, "test": 10}
    (here / "mine" / "validation.jsonl").unlink()
    assert init("mine", "--force").exit_code == 0
    assert preview(loaded("mine")).problems == {"train": 15, "dev": 15, "test": 10}


@pytest.mark.full
def test_a_held_out_set_can_be_named_and_its_size_can_be_asked_for(here: Path) -> None:
    rows = stories(60)
    write_jsonl(here / "a.jsonl", rows[:40])
    write_jsonl(here / "b.jsonl", rows[40:])
    assert init("a.jsonl", "--dev", "b.jsonl").exit_code == 0
    assert preview(loaded("a")).problems == {"train": 40, "dev": 20}
    assert init("a.jsonl", "--hold-out", "0.25", "--force").exit_code == 0
    assert preview(loaded("a")).problems == {"train": 30, "dev": 10}


def test_converted_data_with_a_held_out_set_is_two_files(here: Path) -> None:
    write_jsonl(here / "a.jsonl", capitals(30)[:20])
    write_jsonl(here / "b.jsonl", capitals(30)[20:])
    done = init("a.jsonl", "--dev", "b.jsonl", "--out", "sub/mine.yaml")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (here / "sub").iterdir()} == {"mine.yaml", "mine.problems.jsonl", "mine.dev.jsonl"}
    assert preview(configs.load("sub/mine.yaml")).problems == {"train": 20, "dev": 10}


def test_train_problems_that_are_held_out_too_are_left_out(here: Path) -> None:
    rows = stories(40)
    write_jsonl(here / "a.jsonl", rows)
    write_jsonl(here / "b.jsonl", rows[30:])
    done = init("a.jsonl", "--dev", "b.jsonl")
    assert "will be left out: 10" in said(done)
    assert loaded("a").data.contamination == "drop"
    assert preview(loaded("a")).problems == {"train": 30, "dev": 10}


def test_duplicates_and_contradictions_are_counted(here: Path) -> None:
    rows = stories(40)
    write_jsonl(here / "a.jsonl", [*rows, *rows[:5], {**rows[0], "result": -1}])
    shown = said(init("a.jsonl"))
    assert "Read 46 rows, of which 5 say the same as another: 41 problems." in shown
    assert "different answer: 1." in shown


def test_worked_solutions_that_some_rows_lack_are_done_without(here: Path) -> None:
    rows = [
        {"question": f"What is {i} + {i}?", "answer": str(2 * i), "rationale": f"It is {2 * i}."} for i in range(600)
    ]
    write_jsonl(here / "a.jsonl", [*rows, {"question": "What is 1000 + 1?", "answer": "1001", "rationale": ""}])
    done = init("a.jsonl")
    assert done.exit_code == 0, done.output
    assert "Worked solutions are left out" in said(done)
    assert loaded("a").data.train.columns == {"prompt": "question", "reference": "answer"}  # type: ignore[union-attr]


@pytest.mark.full
def test_a_built_in_data_set_needs_no_columns(here: Path) -> None:
    done = init("word_problems")
    assert done.exit_code == 0, done.output
    assert preview(loaded("word_problems")).problems == {"train": 500, "dev": 200, "test": 200}
    assert loaded("word_problems").eval.group_by == "steps"


def test_ones_own_columns_and_verifier_are_taken(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(here))  # as the command line does
    (here / "near.py").write_text(
        "def near(completion: str, reference: str) -> bool:\n    return completion.strip() == reference\n"
    )
    write_jsonl(here / "a.jsonl", [{**row, "other": f"{row['story']} Why?"} for row in stories(40)])
    named = ["--column", "prompt=other", "--column", "reference=result", "--verifier", "near.py:near"]
    done = init("a.jsonl", *named)
    assert done.exit_code == 0, done.output
    config = loaded("a")
    assert config.verifier.name == "near:near"
    assert config.data.dev.columns == {"prompt": "other", "reference": "result"}  # type: ignore[union-attr]
    assert "Chosen by you" in (here / "a.yaml").read_text()


@pytest.mark.full
def test_a_base_model_with_reference_solutions_begins_with_a_warm_start(here: Path) -> None:
    shutil.copytree(ASSETS / "tiny", here / "base")
    write_jsonl(here / "a.jsonl", gsm8k_like(40))
    done = init("a.jsonl", "--model", "base")
    assert done.exit_code == 0, done.output
    assert preview(loaded("a")).training.startswith("a warm start on 20 reference solutions, all weights")
    wrong = {"rationale": "I do not know it.", "answer": "1"}
    write_jsonl(here / "wrong.jsonl", [{"question": row["question"], **wrong} for row in gsm8k_like(40)])
    assert init("wrong.jsonl", "--model", "base").exit_code == 0
    assert loaded("wrong").warm_start is None


def test_the_config_is_short(here: Path) -> None:
    write_jsonl(here / "a.jsonl", stories(40))
    init("a.jsonl")
    text = (here / "a.yaml").read_text()
    assert len(values_of(text)) < 45
    assert len(text.splitlines()) < 100


MISTAKES = {
    "nothing to read": ([], "Data is missing: give DATA (or --data)"),
    "a missing file": (["absent.jsonl"], "absent.jsonl: no such file"),
    "no file and no name": (["absent"], "absent: no such file or folder, no hub name"),
    "an empty file": (["empty.jsonl"], "empty.jsonl: there are no rows in it"),
    "a torn line": (["torn.jsonl"], "torn.jsonl:3: not JSON"),
    "a torn line far below": (["late.jsonl"], "late.jsonl:701: not JSON"),
    "no question": (["numbers.jsonl"], "no column looks like a question"),
    "no answer at all": (["unanswered.jsonl"], "'answer' is empty in every row"),
    "some answers missing": (["some.jsonl"], "some.jsonl:2: the reference is empty; so 2 of 3 rows"),
    "answers that are empty when read": (["hollow.jsonl"], "the reference is empty in all 2 rows"),
    "one problem again and again": (["same.jsonl"], "there is 1 problem"),
    "a table": (["table.csv"], "to_json('table.jsonl'"),
    "another format": (["notes.txt"], "unknown format '.txt'; valid are .jsonl"),
    "objects that nothing judges": (["objects.jsonl"], "give --verifier"),
    "a config that is there": (["good.jsonl", "--out", "there.yaml"], "there.yaml: is there already"),
    "a copy that is there": (["shops.jsonl"], "shops.problems.jsonl: is there already"),
    "a name that is taken": (["good.jsonl", "--name", "there"], "there.yaml: is there already"),
    "a folder as the config": (["good.jsonl", "--out", "."], "is a folder"),
    "a wrong verifier": (["good.jsonl", "--verifier", "maths"], "did you mean 'math'"),
    "a verifier for other answers": (["good.jsonl", "--verifier", "choice"], "cannot read 40 of 40 references"),
    "a wrong model": (["good.jsonl", "--model", "./nowhere"], "model ./nowhere: no such model folder"),
    "a wrong column": (["good.jsonl", "--column", "prompt=frage"], "no column 'frage'; the columns are"),
    "a column without a field": (["good.jsonl", "--column", "frage"], "must look like FIELD=COLUMN"),
    "a name that is none": (["good.jsonl", "--name", "../x"], "name '../x': must be letters"),
    "two data sets": (["good.jsonl", "--data", "some.jsonl"], "the data is named twice"),
    "two held-out sets": (["good.jsonl", "--dev", "good.jsonl", "--hold-out", "3"], "give one of them"),
    "itself held out": (["good.jsonl", "--dev", "good.jsonl"], "all 40 train problems are in the held-out set"),
    "more held out than there is": (["good.jsonl", "--hold-out", "40"], "leaves none on one side"),
    "columns of a built-in set": (["word_problems", "--column", "prompt=q"], "has no columns to name"),
    "prompts that the model cannot hold": (["long.jsonl"], "tiny takes 512 tokens, and the longest prompt alone"),
}  # fmt: skip


@pytest.fixture
def mistaken(here: Path) -> dict[str, bytes]:
    """The files of every mistake; what they hold, by name."""
    good, good_row = stories(40), '{"question": "1 + 1?", "answer": "2"}\n'
    write_jsonl(here / "good.jsonl", good)
    write_jsonl(here / "long.jsonl", [{**row, "story": row["story"] * 30} for row in good])
    write_jsonl(here / "numbers.jsonl", [{"a": 1, "b": [1]}, {"a": 2, "b": [2]}])
    write_jsonl(
        here / "unanswered.jsonl", [{"question": "1 + 1?", "answer": ""}, {"question": "1 + 2?", "answer": None}]
    )
    write_jsonl(here / "some.jsonl", [{"question": f"1 + {i}?", "answer": "2" if i == 1 else ""} for i in (1, 2, 3)])
    write_jsonl(here / "hollow.jsonl", [{"question": f"1 + {i}?", "answer": "I think\n####"} for i in (1, 2)])
    write_jsonl(here / "objects.jsonl", [{"question": f"Which {i}?", "answer": {"x": i}} for i in range(30)])
    write_jsonl(here / "shops.jsonl", capitals(30))
    texts = {
        "shops.problems.jsonl": "mine",
        "empty.jsonl": "",
        "torn.jsonl": good_row * 2 + '{"question": "2 +\n',
        "late.jsonl": "".join(good_row.replace("1 +", f"{i} +") for i in range(700)) + "{",
        "same.jsonl": good_row * 4,
        "table.csv": "question,answer\n1+1?,2\n",
        "notes.txt": "hello",
        "there.yaml": "mine: true\n",
    }
    for name, text in texts.items():
        (here / name).write_text(text)
    return {path.name: path.read_bytes() for path in here.iterdir()}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(name: str, mistaken: dict[str, bytes], here: Path) -> None:
    arguments, says = MISTAKES[name]
    done = init(*arguments)
    # `main` prints a UserError in one line and ends with status 2, as tests/cli/test_app.py shows.
    assert isinstance(done.exception, UserError | ValueError), done.output
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)
    assert {path.name: path.read_bytes() for path in here.iterdir()} == mistaken


def test_a_mistake_ends_with_status_2(mistaken: dict[str, bytes], here: Path) -> None:
    done = call("init", "torn.jsonl", cwd=here)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: torn.jsonl:3")]
    assert "Traceback" not in done.stderr


def test_a_config_that_is_there_is_overwritten_only_by_force(mistaken: dict[str, bytes], here: Path) -> None:
    assert init("good.jsonl", "--name", "there", "--force").exit_code == 0
    assert loaded("there").name == "there"
