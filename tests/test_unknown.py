"""A verifier that does not work must not look like a model that does not."""

from __future__ import annotations

import json
from pathlib import Path

from tests.small_runs import call, write_config

BROKEN = """
def always(completion: str, reference: str) -> bool:
    raise RuntimeError("this verifier is broken")
"""


def test_a_run_with_many_unknown_verdicts_says_so_loudly(tmp_path: Path) -> None:
    (tmp_path / "broken_check.py").write_text(BROKEN)
    config = write_config(tmp_path, rounds=0, verifier={"name": "broken_check:always", "workers": 1})
    done = call("run", str(config), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING: 50 of 50 verdicts (100.0%) are unknown (fault 50)" in " ".join(done.stderr.split())
    (report,) = json.loads(done.stdout)
    assert report["held_out"]["unknown"] == 40  # ten more were greedy
    assert report["held_out"]["pass_at_1_upper"] == 1.0

    again = call("verify", str(tmp_path / "run"), cwd=tmp_path)
    assert "are unknown (fault" in " ".join(again.stderr.split())
