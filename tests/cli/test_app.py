"""What the command line says when things go right, and that what goes wrong is one clear line."""

from __future__ import annotations

import json
import re
import resource
import subprocess
from pathlib import Path

import pytest

from star_rft import config as configs
from tests.jsonl import write_jsonl
from tests.small_ledgers import ledger_of, sample, verdict
from tests.small_runs import call, command, write_config

COMMANDS = ["init", "run", "sample", "verify", "select", "train", "eval", "bench", "best-of-n", "export"]
COMMANDS += ["report", "sql", "frontier", "review", "flagged", "controls", "view", "verifiers", "recipes", "doctor"]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder with a ledger of a few samples and no finished round."""
    write_config(tmp_path, run_dir="fresh").rename(tmp_path / "given.yaml")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text((tmp_path / "given.yaml").read_text())
    pairs = [(sample("solved", i), verdict()) for i in range(4)]
    pairs += [(sample("hard", i), verdict("incorrect")) for i in range(4)]
    ledger_of(run, pairs)
    return run


def test_help_takes_under_half_a_second_of_work() -> None:
    """Processor time, not wall time: tests share the machine."""
    subprocess.run(command("--help"), capture_output=True, check=True)  # writes the byte code
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command("--help"), capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, tmp_path: Path) -> None:
    done = call(name, "--help", cwd=tmp_path)
    assert "Example: star-rft" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "absent.yaml"], "absent.yaml: cannot be read"),
        (["run", "given.yaml", "sample.m=3"], "given.yaml: sample.m: no such key"),
        (["run", "given.yaml", "data.train=absent.jsonl"], "data.train: absent.jsonl"),
        (["run", "given.yaml", "verifier.name=maths"], "maths"),
        (["run", "given.yaml", "--dry-run", "verifier.options.tolerance=1"], "tolerance"),
        (["run", "given.yaml", "model.name=./absent"], "absent"),
        (["run", "given.yaml", "select.reference_solutions=1", "data.train=bare.jsonl"], "needs reference solutions"),
        (["run", "given.yaml", "data.train=torn.jsonl"], "torn.jsonl:2"),
        (["run", "given.yaml", "data.train={source: bare.jsonl, columns: {prompt: q, reference: r}}"], "'q'"),
        (["report", "."], "is not a run folder"),
        (["sql", ".", "select 1"], "is not a run folder"),
        (["sql", "run", "select nothing from nowhere"], "sql: "),
        (["frontier", "absent"], "is not a run folder"),
        (["verify", "absent"], "is not a run folder"),
        (["bench", "tiny", "--data", "word_problems", "--k", "one"], "--k 'one'"),
        (["best-of-n", "tiny", "--data", "word_problems", "--by", "rewards"], "--by 'rewards' is neither"),
        (["best-of-n", "tiny", "--data", "word_problems", "--by", "reward_model"], "needs --scorer-model"),
        (
            ["best-of-n", "tiny", "--data", "word_problems", "--by", "reward_model", "--scorer-model", "tiny"],
            "has 2 outputs where a reward model has one",
        ),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_2(run_folder: Path, arguments: list[str], says: str) -> None:
    folder = run_folder.parent
    (folder / "bare.jsonl").write_text('{"question": "2 + 2?", "answer": "4"}\n')
    (folder / "torn.jsonl").write_text('{"question": "2 + 2?", "answer": "4"}\n{"question": \n')
    done = call(*arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    done = call("run", str(write_config(tmp_path)), "--dry-run", "--json", cwd=tmp_path)
    plan = json.loads(done.stdout)
    assert plan["problems"] == {"train": 16, "dev": 10}
    assert (plan["samples_a_round"], plan["held_out_samples"], plan["evaluations"]) == (64, 50, 3)
    assert plan["tokens_at_most"] == 2 * 64 * 96 + 3 * 50 * 96
    assert not (tmp_path / "run").exists()


def test_sql_prints_rows_as_a_table_and_as_json(run_folder: Path) -> None:
    query = "select problem_id, count(*) as n from traces group by 1 order by 1"
    done = call("sql", str(run_folder), query, "--json", cwd=run_folder)
    assert json.loads(done.stdout) == [{"problem_id": "hard", "n": 4}, {"problem_id": "solved", "n": 4}]
    assert "hard" in call("sql", str(run_folder), query, cwd=run_folder).stdout


def test_the_frontier_shows_classes_and_what_they_get_next(run_folder: Path) -> None:
    rows = json.loads(call("frontier", str(run_folder), "--json", cwd=run_folder).stdout)
    assert [(row["problem_id"], row["class"]) for row in rows] == [("hard", "no_survivors")]
    assert (rows[0]["samples"], rows[0]["correct"]) == (4, 0)
    assert rows[0]["pass_rate_at_most"] == pytest.approx(1 - 0.05 ** (1 / 4))
    every = json.loads(call("frontier", str(run_folder), "--all", "--json", cwd=run_folder).stdout)
    assert [row["problem_id"] for row in every] == ["solved", "hard"]
    table = call("frontier", str(run_folder), cwd=run_folder).stdout
    assert re.search(r"no_survivors +1 +up to \d+ samples a round", table)
    assert "0/4" in table
    only = json.loads(call("frontier", str(run_folder), "--class", "solved", "--json", cwd=run_folder).stdout)
    assert [row["problem_id"] for row in only] == ["solved"]
    wrong = call("frontier", str(run_folder), "--class", "easy", cwd=run_folder)
    assert wrong.returncode == 2
    assert "valid: label_error, unseen" in wrong.stderr


def test_one_problem_is_shown_in_full_with_its_samples(run_folder: Path) -> None:
    shown = call("frontier", str(run_folder), "ha", cwd=run_folder).stdout
    assert shown.startswith("hard: no_survivors")
    assert shown.count("[round 1, sample ") == 4
    row = json.loads(call("frontier", str(run_folder), "hard", "--json", cwd=run_folder).stdout)
    assert [trace["status"] for trace in row["traces"]] == ["incorrect"] * 4
    absent = call("frontier", str(run_folder), "nothing", cwd=run_folder)
    assert absent.returncode == 2
    assert "begins the id of no train problem" in absent.stderr


def test_what_is_exported_can_be_reviewed(run_folder: Path, tmp_path: Path) -> None:
    export, folder = tmp_path / "hard.jsonl", str(run_folder)
    assert call("frontier", folder, "--export", str(export), cwd=tmp_path).returncode == 0
    (line,) = map(json.loads, export.read_text().splitlines())
    assert (line["problem_id"], line["review"]) == ("hard", None)
    assert "0 right, 0 wrong" in call("review", folder, str(export), cwd=tmp_path).stdout
    export.write_text(json.dumps(line | {"review": "wrong"}))
    assert "0 right, 1 wrong" in call("review", folder, str(export), cwd=tmp_path).stdout
    rows = json.loads(call("frontier", folder, "--json", cwd=tmp_path).stdout)
    assert [(row["problem_id"], row["class"]) for row in rows] == [("hard", "label_error")]
    export.write_text(json.dumps(line | {"review": "right"}))
    call("review", folder, str(export), cwd=tmp_path)
    rows = json.loads(call("frontier", folder, "--json", cwd=tmp_path).stdout)
    assert [row["class"] for row in rows] == ["no_survivors"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("no json", "line 1 is no JSON"),
        ("[1]", 'must hold "problem_id" and "review"'),
        ('{"problem_id": "x", "review": "right"}', "'x' is no train problem"),
        ('{"problem_id": "hard", "review": "maybe"}', "valid: right, wrong"),
    ],
)
def test_a_review_that_cannot_be_read_names_its_line(line: str, says: str, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(line)
    done = call("review", str(run_folder), str(tmp_path / "r.jsonl"), cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr


def test_verify_scores_a_file_in_its_order(tmp_path: Path) -> None:
    lines = [{"id": i, "completion": f"#### {i}", "reference": "1"} for i in range(3)]
    write_jsonl(tmp_path / "answers.jsonl", lines)
    done = call("verify", "math", "answers.jsonl", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(v["id"], v["status"]) for v in verdicts] == [(0, "incorrect"), (1, "correct"), (2, "incorrect")]


def test_bench_measures_a_model_without_training_and_prints_one_document(tmp_path: Path) -> None:
    arguments = ["bench", "tiny", "--data", "word_problems", "--k", "1,2", "--limit", "6"]
    arguments += ["--set", "data.test.options={steps: [1, 2]}", "--json"]  # its default tokens fit the tiny model
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["problems"], document["n"], set(document["pass_at_k"])) == (6, 2, {"1", "2"})
    assert document["pass_at_1_interval"]["low"] <= document["pass_at_k"]["1"]


def test_recipes_shows_a_file_and_names_the_valid_ones(tmp_path: Path) -> None:
    shown = call("recipes", "show", "rft", cwd=tmp_path).stdout
    assert shown.startswith("# RFT: ")
    assert "published:" in shown
    wrong = call("recipes", "show", "rtf", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "there is no recipe 'rtf'; valid: b_star" in wrong.stderr


def test_recipes_lists_every_shipped_config_and_each_one_loads(tmp_path: Path) -> None:
    rows = json.loads(call("recipes", "--json", cwd=tmp_path).stdout)
    assert "quickstart" in {row["name"] for row in rows}
    for row in rows:
        assert row["about"]
        assert configs.load(row["file"]).name == row["name"]


def test_doctor_names_what_works_on_this_machine(tmp_path: Path) -> None:
    done = call("doctor", "--json", cwd=tmp_path)
    findings = {row["what"]: row for row in json.loads(done.stdout)}
    assert {"Python", "torch", "device", "disk", "package names"} <= set(findings)
    assert findings["Python"]["is_ok"]
