from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from star_rft.training.options import FitReport
from tests.paths import ROOT
from tests.training.conftest import random_examples, random_preferences
from tests.training.fits import fit, fit_preferences

ON_TWO_RANKS = """
import sys
from pathlib import Path
import torch
from tests.training.distributed.test_ranks import KINDS

torch.set_num_threads(1)
base, out, work = map(Path, sys.argv[2:])
KINDS[sys.argv[1]](
    model_path=base, out_dir=out, work_dir=work, lr=1e-2, epochs=2, batch_size=8, micro_batch_size=2, save_steps=2,
    device="cpu",
)
"""

KINDS: dict[str, Callable[..., FitReport]] = {
    "fit": partial(fit, random_examples(21, weighted=True)),
    "dpo": partial(fit_preferences, random_preferences(21, completions=3), objective="dpo", sft_weight=0.5),
    "rrhf": partial(fit_preferences, random_preferences(21, completions=3), objective="rrhf", sft_weight=0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_train_to_what_one_rank_trains_to(base: Path, tmp_path: Path, kind: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(ON_TWO_RANKS)
    folders = [str(base), str(tmp_path / "two"), str(tmp_path / "work")]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    here = ROOT
    environment = {**os.environ, "PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, str(script), kind, *folders], check=True, timeout=240, env=environment)
    KINDS[kind](
        model_path=base, out_dir=tmp_path / "one", work_dir=tmp_path / "work", lr=1e-2, epochs=2, batch_size=8,
        micro_batch_size=2, device="cpu",
    )  # fmt: skip
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
    reports = [json.loads((tmp_path / name / "fit.json").read_text())["report"] for name in ("one", "two")]
    for key in ("loss_first", "loss_last"):
        assert reports[0][key] == pytest.approx(reports[1][key], rel=1e-4)
