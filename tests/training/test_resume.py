from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from star_rft.files import whole_folder
from star_rft.training.options import FitReport, LoraSpec
from star_rft.training.trainer import last_whole, mark_whole
from tests.training.conftest import random_examples
from tests.training.fits import fit

# Dropout, so that the random generator's state must come back too.
SETTINGS: dict[str, Any] = {
    "lr": 1e-2, "max_steps": 7, "batch_size": 8, "micro_batch_size": 3, "save_steps": 2, "device": "cpu",
    "lora": LoraSpec(r=4, alpha=8, dropout=0.2),
}  # fmt: skip

KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
import torch
import transformers
from tests.training.fits import fit
from tests.training.conftest import random_examples
from tests.training.test_resume import SETTINGS

torch.set_num_threads(1)
save = transformers.Trainer._save_rng_state

def kill_at_step_4(trainer, folder):
    if trainer.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    save(trainer, folder)

transformers.Trainer._save_rng_state = kill_at_step_4
base, work, out = map(Path, sys.argv[1:])
fit(random_examples(30), model_path=base, work_dir=work, out_dir=out, **SETTINGS)
"""


def train(base: Path, work: Path, out: Path, **changes: Any) -> FitReport:
    return fit(random_examples(30), model_path=base, work_dir=work, out_dir=out, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(base, folder / "work", folder / "out")
    return load_file(folder / "out" / "model.safetensors")


def assert_equal_bits(out: Path, expected: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(load_file(out / "model.safetensors"), expected, rtol=0, atol=0)


@pytest.mark.full
def test_a_training_killed_while_it_saves_goes_on_from_the_last_whole_checkpoint_to_the_same_bits(
    base: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(base), str(work), str(out)]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    assert (work / "checkpoint-4" / "optimizer.pt").exists()  # torn: the newest is not the one to trust
    steps: list[int] = []
    train(base, work, out, on_step=lambda step, *rest: steps.append(step))
    assert steps == [3, 4, 5, 6, 7]
    assert_equal_bits(out, undisturbed)


@pytest.mark.full
def test_a_training_stopped_while_it_writes_the_result_trains_no_step_again(
    base: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from star_rft.training import fit

    def half(model: object, tokenizer: object, folder: Path, **kwargs: object) -> None:
        (folder / "model.safetensors").write_bytes(b"half of it")
        raise KeyboardInterrupt

    work, out = tmp_path / "work", tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(fit, "save_model", half)
        with pytest.raises(KeyboardInterrupt):
            train(base, work, out)
    assert not out.exists()
    steps: list[int] = []
    report = train(base, work, out, on_step=lambda step, *rest: steps.append(step))
    assert not steps
    assert report.steps == 7
    assert_equal_bits(out, undisturbed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_checkpoints_of_another_training_are_not_continued(
    base: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"

    def stop_at_5(step: int, *rest: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(base, work, out, lr=5e-2, on_step=stop_at_5)
    assert (work / "checkpoint-4").exists()
    steps: list[int] = []
    train(base, work, out, on_step=lambda step, *rest: steps.append(step))
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert_equal_bits(out, undisturbed)


def test_only_the_newest_marked_checkpoint_survives(tmp_path: Path) -> None:
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        mark_whole(tmp_path / f"checkpoint-{step}", {"fingerprint": "a", "step": step})
    (tmp_path / "checkpoint-6").mkdir()
    found = last_whole(tmp_path, fingerprint="a")
    assert found is not None
    assert found[0].name == "checkpoint-4"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def write(name: str, *, then: BaseException | None = None) -> None:
        with whole_folder(tmp_path / "out") as folder:
            (folder / name).touch()
            if then is not None:
                raise then

    with pytest.raises(KeyboardInterrupt):
        write("a", then=KeyboardInterrupt())
    assert not (tmp_path / "out").exists()
    write("b")  # what the crash left behind is gone
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]
