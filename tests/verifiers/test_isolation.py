"""The package stands alone: no torch, no star_rft, and an import that costs milliseconds."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.paths import ROOT
from verifiers import clash, registry

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "star_rft", "trl", "datasets"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""


def run(code: str, tmp_path: Path) -> str:
    # A sitecustomize blocks in the worker processes too.
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_works_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    out = run(
        """
        import verifiers
        pair = (r"\\boxed{z \\in [-\\frac{3}{2}, -1] \\cup [1, \\frac{3}{2}]}", r"1\\leq|z|\\leq \\frac{3}{2}")
        print([v.status for v in verifiers.verify_many("math", [pair, ("#### 5", "5")], workers=1)])
        print(verifiers.as_reward("numeric", workers=1)([""], ["#### 5"], solution=["5"]))
        """,
        tmp_path,
    )
    assert out.splitlines() == ["['correct', 'correct']", "[1.0]"]


@pytest.mark.parametrize("name", registry.VERIFIERS.builtin_names())
def test_every_built_in_works_where_torch_cannot_be_imported(name: str, tmp_path: Path) -> None:
    if name == "json_schema":
        pytest.importorskip("jsonschema", reason="needs the extra json-schema")
    out = run(
        f"""
        import verifiers
        example = verifiers.get({name!r}).example
        pairs = [(example.completion, example.reference)] * 3
        verdicts = verifiers.verify_many({name!r}, pairs, workers=1, **example.options)
        print(*{{v.status + " " + v.reason for v in verdicts}})
        """,
        tmp_path,
    )
    assert out.strip() in ("correct match", "unknown no_sandbox")


def test_the_command_works_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"id": 1, "completion": "#### 5", "reference": "5"}\n')
    out = run(
        f"""
        import runpy, sys
        sys.argv = ["verifiers", "math", {str(tmp_path / "answers.jsonl")!r}, "--workers", "1"]
        try:
            runpy.run_module("verifiers", run_name="__main__")
        except SystemExit as end:
            assert end.code == 0
        """,
        tmp_path,
    )
    assert '"status": "correct"' in out


def test_the_import_loads_nothing_heavy(tmp_path: Path) -> None:
    out = run(
        """
        import sys, verifiers
        heavy = {"sympy", "math_verify", "numpy", "subprocess", "multiprocessing", "importlib.metadata", "ctypes"}
        print(sorted(heavy & set(sys.modules)))
        """,
        tmp_path,
    )
    assert out == "[]\n"


def test_the_unrelated_distribution_in_the_same_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "verifiers-0.1.5.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.warns(RuntimeWarning, match="unrelated PyPI distribution 'verifiers'"):
        clash.refuse_mixed_install()
    monkeypatch.setattr(clash, "__file__", str(tmp_path / "verifiers" / "clash.py"))
    with pytest.raises(ImportError, match="pip uninstall verifiers"):
        clash.refuse_mixed_install()
    monkeypatch.setattr(sys, "path", [])
    assert clash.foreign_install() is None
