"""A training in processes of its own does what it does in this one, and leaves nobody behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from star_rft.errors import RunFailure, TrainingError
from star_rft.processes import wait_for_ranks
from star_rft.training.distributed.launch import (
    CONFIGS,
    Launch,
    config_file,
    read_examples,
    read_preferences,
    write_items,
)
from star_rft.training.options import FitReport, LoraSpec
from tests.paths import ROOT
from tests.training.conftest import random_examples, random_preferences
from tests.training.fits import fit, fit_launched, fit_preferences

# float32 sums in another order differ in the last of their 24 bits, which Adam's division may make 1e-5 of a weight.
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}
WHERE = {name: Launch(2, file, stall=120.0) for name, file in CONFIGS.items()}
COMMON: dict[str, Any] = {"lr": 1e-2, "batch_size": 8, "micro_batch_size": 2, "device": "cpu"}

# What is trained, without where: the same options go to both.
KINDS: dict[str, tuple[Callable[..., FitReport], list[Any], dict[str, Any]]] = {
    "sft": (fit, random_examples(21, weighted=True), {}),
    "lora": (fit, random_examples(21), {"lora": LoraSpec(r=4, alpha=8)}),
    "packed": (fit, random_examples(21, weighted=True), {"packing": True}),
    "checkpointed": (fit, random_examples(21), {"gradient_checkpointing": True, "save_optimizer": True}),
    "dpo": (fit_preferences, random_preferences(21, completions=3), {"objective": "dpo", "sft_weight": 0.5}),
    "rrhf": (fit_preferences, random_preferences(21, completions=3), {"objective": "rrhf", "sft_weight": 0.5}),
}  # fmt: skip


def assert_trains_alike(base: Path, folder: Path, kind: str, launch: Launch) -> None:
    """Hold loss curve, weights, report and files of a launched training against those of one in this process."""
    fit_here, items, options = KINDS[kind]
    ways: dict[str, Callable[..., FitReport]] = {"here": fit_here, "launched": partial(fit_launched, launch=launch)}
    steps: dict[str, list[Any]] = {"here": [], "launched": []}
    for name, way in ways.items():
        way(
            items, model_path=base, out_dir=folder / name, work_dir=folder / f"{name}-work", epochs=2, save_steps=2,
            on_step=lambda *step, to=steps[name]: to.append(step), **COMMON, **options,
        )  # fmt: skip
    assert [step[:2] for step in steps["launched"]] == [step[:2] for step in steps["here"]]
    losses = {name: torch.tensor([step[2] for step in told]) for name, told in steps.items()}
    torch.testing.assert_close(losses["launched"], losses["here"], rtol=1e-5, atol=0)
    files = {name: {str(path.relative_to(folder / name)) for path in (folder / name).rglob("*")} for name in ways}
    assert files["launched"] == files["here"]
    for path in (folder / "here").rglob("*.safetensors"):
        torch.testing.assert_close(
            load_file(folder / "launched" / path.relative_to(folder / "here")), load_file(path), **CLOSE
        )
    notes = [json.loads((folder / name / "fit.json").read_text()) for name in ways]
    assert notes[0]["fingerprint"] == notes[1]["fingerprint"]
    assert notes[0]["report"]["tokens"] == notes[1]["report"]["tokens"]
    is_sharded = launch.config == CONFIGS["fsdp2"]
    assert [(note["processes"], note["is_sharded"]) for note in notes] == [(1, False), (2, is_sharded)]
    assert sorted(path.name for path in folder.iterdir()) == ["here", "launched"]


@pytest.mark.full
def test_two_processes_with_half_of_the_model_each_train_to_what_one_trains_to(base: Path, tmp_path: Path) -> None:
    assert_trains_alike(base, tmp_path, "sft", WHERE["fsdp2"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "where"),
    [("sft", "ddp"), ("rrhf", "ddp"), *((kind, "fsdp2") for kind in KINDS if kind != "sft")],
)
def test_every_objective_trains_to_the_same_in_two_processes(base: Path, tmp_path: Path, kind: str, where: str) -> None:
    assert_trains_alike(base, tmp_path, kind, WHERE[where])


@pytest.mark.slow
def test_the_optimizer_goes_on_from_shards_to_one_process_and_back(base: Path, tmp_path: Path) -> None:
    here: Callable[..., FitReport] = fit
    launched: Callable[..., FitReport] = partial(fit_launched, launch=WHERE["fsdp2"])
    for name, ways in (("a", (here, launched)), ("b", (launched, here)), ("c", (here, here))):
        last: Path | None = None
        for round_index, way in enumerate(ways):
            out = tmp_path / f"{name}{round_index}"
            way(
                random_examples(16), model_path=last or base, out_dir=out, work_dir=tmp_path / "work", max_steps=3,
                save_optimizer=True, optimizer_from=last, **COMMON,
            )  # fmt: skip
            last = out
    expected = load_file(tmp_path / "c1" / "model.safetensors")
    for name in "ab":
        torch.testing.assert_close(load_file(tmp_path / f"{name}1" / "model.safetensors"), expected, **CLOSE)


LONG: dict[str, Any] = {
    "max_steps": 40, "save_steps": 3, **COMMON, "lora": LoraSpec(r=4, alpha=8, dropout=0.2), "lr": 1e-3,
}  # fmt: skip

KILLS_ITSELF = """
import os, signal, sys
from pathlib import Path
from tests.training.fits import fit_launched
from tests.training.conftest import random_examples
from tests.training.distributed.test_launch import LONG, WHERE

def on_step(step, *rest):
    if step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

base, folder = map(Path, sys.argv[1:])
fit_launched(
    random_examples(30), launch=WHERE["fsdp2"], model_path=base, out_dir=folder / "out", work_dir=folder / "work",
    on_step=on_step, **LONG,
)
"""


def train_long(base: Path, folder: Path, **options: Any) -> FitReport:
    return fit_launched(
        random_examples(30), launch=WHERE["fsdp2"], model_path=base, out_dir=folder / "out",
        work_dir=folder / "work", **{**LONG, **options},
    )  # fmt: skip


def processes() -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Return the launcher below this process, and the ranks below it."""
    found = [
        child
        for child in psutil.Process().children(recursive=True)
        if "star_rft.training.distributed.worker" in child.cmdline()
    ]
    ranks = [child for child in found if "launch" not in child.cmdline()]
    return [child for child in found if child not in ranks], ranks


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train_long(base, folder)
    return folder / "out" / "model.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["rank 0", "rank 1", "launcher", "parent", "nobody"])
def test_whoever_is_killed_nobody_is_left_and_the_same_call_goes_on_to_the_same_bits(
    base: Path, tmp_path: Path, undisturbed: Path, victim: str
) -> None:
    began = time.monotonic()

    def on_step(step: int, *rest: object) -> None:
        if step == 8:
            launcher, ranks = processes()
            assert len(ranks) == 2
            killed = {"rank 0": ranks[0], "rank 1": ranks[-1], "launcher": launcher[0]}.get(victim)
            if killed is None:
                raise KeyboardInterrupt
            killed.kill()

    if victim == "parent":
        here = ROOT
        command = [sys.executable, "-c", KILLS_ITSELF, str(base), str(tmp_path)]
        done = subprocess.run(command, cwd=here, timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL
    else:
        with pytest.raises(KeyboardInterrupt if victim == "nobody" else RunFailure) as raised:
            train_long(base, tmp_path, on_step=on_step)
        assert victim == "nobody" or "killed (SIGKILL)" in str(raised.value)
        assert processes() == ([], [])
    assert wait_for_ranks(tmp_path / "work.launch", seconds=5.0)
    assert time.monotonic() - began < 100
    assert not (tmp_path / "out").exists()
    steps: list[int] = []
    report = train_long(base, tmp_path, on_step=lambda step, *rest: steps.append(step))
    assert steps[0] > 3
    assert (steps[-1], report.steps) == (40, 40)
    torch.testing.assert_close(
        load_file(tmp_path / "out" / "model.safetensors"), load_file(undisturbed), rtol=0, atol=0
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.slow
def test_what_a_process_cannot_train_is_said_in_one_line_as_in_this_process(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^lora\.target_modules: no module of the model is named 'q_prj'; it has"):
        train_long(base, tmp_path, lora=LoraSpec(target_modules=("q_prj",)))
    assert processes() == ([], [])


@pytest.mark.slow
def test_an_error_of_a_library_comes_back_with_the_end_of_the_log(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailure, match=r"^training: process \d failed: ValueError: Indices for islice") as raised:
        train_long(base, tmp_path, micro_batch_size=-1)
    where, *tail = str(raised.value).splitlines()
    assert where.endswith("log.txt:")
    assert any("ValueError: Indices for islice" in line for line in tail)


@pytest.mark.full
def test_a_launcher_that_fails_says_so_with_its_log(base: Path, tmp_path: Path) -> None:
    launch = Launch(2, CONFIGS["ddp"], command=("bash", "-c", "echo no such partition >&2; exit 3"))
    with pytest.raises(RunFailure, match=r"ended with status 3\. The end of .*log\.txt:\nno such partition"):
        fit_launched([], launch=launch, model_path=base, out_dir=tmp_path / "out", work_dir=tmp_path / "work")


@pytest.mark.full
def test_processes_that_are_not_heard_of_are_given_up_and_ended(base: Path, tmp_path: Path) -> None:
    launch = Launch(2, CONFIGS["ddp"], command=("bash", "-c", "sleep 60 & wait"), stall=0.3)
    with pytest.raises(RunFailure, match=r"nothing was heard from its processes for 0 s \(launch\.stall\)"):
        fit_launched([], launch=launch, model_path=base, out_dir=tmp_path / "out", work_dir=tmp_path / "work")
    assert not [child for child in psutil.Process().children(recursive=True) if "sleep" in child.cmdline()]


TIED = """
import sys, time
from pathlib import Path
from star_rft.processes import tie
tie(Path(sys.argv[1]))
print("tied", flush=True)
time.sleep(60)
"""
HOLDING = """
import subprocess, sys, time
from pathlib import Path
from star_rft.processes import holding, wait_for_ranks
wait_for_ranks(Path(sys.argv[1]), seconds=1)
with holding(Path(sys.argv[1])):
    # A shell between the two, as a launcher is: it is not the parent whose end is heard of.
    subprocess.Popen(["bash", "-c", '"$0" -c "$1" "$2" & wait', sys.executable, sys.argv[2], sys.argv[1]])
    time.sleep(60)
"""


def test_what_is_tied_dies_with_the_one_that_started_it_however_that_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path), TIED]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"tied\n"
    assert not wait_for_ranks(tmp_path, seconds=0.0)
    holder.kill()
    holder.wait()
    assert wait_for_ranks(tmp_path, seconds=5.0)
    holder.stdout.close()


def test_items_come_out_of_a_file_as_they_went_in(tmp_path: Path) -> None:
    examples, preferences = random_examples(9, weighted=True), random_preferences(9, completions=3)
    write_items(tmp_path / "examples", examples)
    write_items(tmp_path / "preferences", preferences)
    assert read_examples(tmp_path / "examples") == examples
    assert read_preferences(tmp_path / "preferences") == preferences


def test_a_config_of_accelerate_that_is_not_there_is_named() -> None:
    with pytest.raises(
        TrainingError, match=r"launch\.config: 'fdsp' is no file; give one of accelerate's, or fsdp2, ddp"
    ):
        config_file("fdsp")
    assert config_file("fsdp2").is_file()


@pytest.mark.slow
def test_several_machines_each_start_their_share_of_the_processes(base: Path, tmp_path: Path) -> None:
    """Two launchers find each other as those of two machines do; here both are on this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # Each machine is told the same, and who is first is agreed on; a `--machine_rank` of 0 would look at the port.
    shared = ["--num_machines", "2", "--machine_rank", "1", "--rdzv_backend", "c10d"]
    where = ["--main_process_ip", "127.0.0.1", "--main_process_port", port]
    on_both = ("bash", "-c", '"$@" & "$@" & wait', "srun")
    launch = Launch(2, CONFIGS["fsdp2"], arguments=(*shared, *where), command=on_both, stall=120.0)
    assert_trains_alike(base, tmp_path, "sft", launch)


@pytest.mark.full
def test_launched_processes_find_an_objective_in_a_file_of_the_working_folder(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_hinge.py").write_text(
        "import torch\n\ndef hinge(pairs, *, margin: float):\n"
        "    return torch.relu(margin - (pairs.better - pairs.worse))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    common = {"objective": {"own_hinge:hinge": {"margin": 50.0}}, "max_steps": 1, "model_path": base}
    losses = [
        train(random_preferences(4), out_dir=tmp_path / name, work_dir=tmp_path / f"{name}-work", **common).loss_first
        for name, train in (
            ("here", fit_preferences),
            ("launched", partial(fit_launched, launch=Launch(1, CONFIGS["ddp"], stall=120.0))),
        )
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
