"""What can be asked for: which rounds, which options, and where it may be written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from star_rft.errors import UserError
from star_rft.exports.files import new_folder
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import chosen_rounds
from tests.exports.calling import export, lines
from tests.small_runs import call


def gated(run: Path, **gates: int | None) -> RunFolder:
    """Change what the gate decided, by round: the round whose model was gone on from."""
    for name, model_round in gates.items():
        path = run / f"rounds/{name.removeprefix('r')}/metrics.json"
        metrics = json.loads(path.read_text())
        metrics["gate"] = None if model_round is None else metrics["gate"] | {"model_round": model_round}
        path.write_text(json.dumps(metrics))
    return RunFolder(run)


def test_the_round_of_the_model_to_use_is_the_default(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint"))
    assert chosen_rounds(RunFolder(run)) == [2]
    assert chosen_rounds(gated(run, r002=1)) == [1]
    assert chosen_rounds(RunFolder(run), every=True) == [1, 2]
    assert chosen_rounds(RunFolder(run), number=2) == [2]
    assert chosen_rounds(gated(run, r002=None)) == [2]
    with pytest.raises(UserError, match=r"every round was rolled back.*--round takes 1, 2"):
        chosen_rounds(gated(shutil.copytree(finished, tmp_path / "other"), r002=0))


def test_a_round_that_selected_and_has_not_trained_goes_out_too(plain: Path) -> None:
    assert chosen_rounds(RunFolder(plain)) == [1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--format", "csv"],
            "--format 'csv': there is no such format; valid are sft, dpo, jsonl, parquet, hub-folder",
        ),
        (["--format", "sft", "--round", "0"], "round 0 is the model that the loop began with"),
        (["--format", "sft", "--round", "7"], "round 7 has no selection, .* --round takes 1"),
        (["--format", "sft", "--round", "1", "--all-rounds"], "exclude each other"),
        (
            ["--format", "sft", "--for", "unsloth"],
            "--for 'unsloth' is not valid; valid are trl, axolotl, llama-factory",
        ),
        (["--format", "sft", "--include", "all"], "--include is not for --format sft; it goes with jsonl, parquet"),
        (["--format", "jsonl", "--for", "trl"], "--for is not for --format jsonl; it goes with sft, dpo"),
        (["--format", "jsonl", "--include", "wrong"], "--include 'wrong' is not valid"),
        (["--format", "jsonl", "--split", "dev"], "round 1 has no traces of dev"),
        (
            ["--format", "jsonl", "--split", "dev", "--include", "selected"],
            "nothing of dev is selected",
        ),
        (["--format", "sft", "--out", "train.jsonl"], "is the name of a file, and an export is a folder"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], says: str, plain: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        export(plain, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_pairs_a_problem_are_not_for_a_run_with_preferences(comparing: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this run compared traces itself"):
        export(comparing, tmp_path / "out", "--format", "dpo", "--pairs", "2")


def test_examples_of_a_run_that_only_compares_are_refused(tmp_path: Path) -> None:
    from tests.exports.made_run import COMPARING, make_run

    run = make_run(tmp_path / "run", **COMPARING, train=None, warm_start=None)
    with pytest.raises(UserError, match="trains on preferences only"):
        export(run, tmp_path / "out", "--format", "sft")


def test_from_the_command_line_a_mistake_has_status_2_and_success_one_json_document(
    plain: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(plain, tmp_path / "run")
    done = call("export", "run", "--format", "sft", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    rows = lines(run / "export/sft-001/sft.jsonl")
    assert (made["out"], made["rounds"], made["files"]) == ("run/export/sft-001", [1], {"sft.jsonl": len(rows)})
    assert (made["problems"], made["too_long"]) == (len({row["problem_id"] for row in rows}), 1)
    done = call("export", "run", "--format", "sft", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        == "error: run/export/sft-001: is there already; --force replaces it, --out names another folder"
    )


def test_a_query_of_seconds_draws_no_bar_into_what_is_printed(plain: Path) -> None:
    (found,) = Ledger(plain).connect().sql("select current_setting('enable_progress_bar')").fetchall()
    assert found == (False,)


# Where it is written


def test_an_export_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a/out", force=False) as folder:
        _break(folder)
    assert list((tmp_path / "a").iterdir()) == []


def _break(folder: Path) -> None:
    (folder / "sft.jsonl").write_text("half")
    raise RuntimeError


def test_with_force_an_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_folder(out, force=False) as folder:
        (folder / "sft.jsonl").write_text("old")
        (folder / "dataset_info.json").write_text("old")
    with new_folder(out, force=True) as folder:
        assert (out / "sft.jsonl").read_text() == "old"
        (folder / "sft.jsonl").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("sft.jsonl", "new")]
    with pytest.raises(RuntimeError), new_folder(out, force=True) as folder:
        _break(folder)
    assert (out / "sft.jsonl").read_text() == "new"


def test_a_folder_that_holds_something_else_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    for force in (False, True):
        with pytest.raises(UserError), new_folder(out, force=force):
            pass
    assert (out / "thesis.tex").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is no folder"), new_folder(tmp_path / "file", force=True):
        pass


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", force=False) as folder:
        (folder / "x").write_text("")
    assert (tmp_path / "out/x").exists()


def test_rows_are_gathered_into_bounded_batches() -> None:
    from star_rft.exports.files import ROWS, in_batches

    schema = pa.schema([("n", pa.int64())])
    sizes = [batch.num_rows for batch in in_batches(({"n": i} for i in range(2 * ROWS + 1)), schema)]
    assert sizes == [ROWS, ROWS, 1]
