"""star-rft in a notebook, on a machine without ipywidgets."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import verifiers
from star_rft.cli.progress import TerminalProgress
from tests.small_ledgers import ledger_of, sample, verdict
from tests.small_runs import MINIATURE, environment

# A small run: twelve completions, two steps of training at most.
SMALL: dict[str, Any] = MINIATURE | {
    "name": "notebook",
    "run_dir": "run",
    "rounds": 1,
    "data": {
        "train": {"source": "word_problems", "options": {"n": 6, "seed": 1, "steps": [1, 1]}},
        "dev": {"source": "word_problems", "options": {"n": 4, "seed": 2, "steps": [1, 1]}},
    },
    "verifier": {"name": "after_mark", "workers": 2},
    "sample": {"n": 2, "max_tokens": 48, "unit": 8, "batch_size": 16},
    "train": {"lr": 1e-3, "batch_size": 8, "epochs": 1},
    "eval": {"n": 2, "k": [1, 2], "max_tokens": 48},
}

WITHOUT_WIDGETS = """
import sys
sys.modules["ipywidgets"] = None  # as if it were not installed
"""

REGISTER = """
import os
import verifiers

MARK, NOTEBOOK = "####", os.getpid()

def answer_of(completion):
    return completion.split(MARK)[-1].strip()

@verifiers.register("after_mark")
def after_mark(completion: str, reference: str) -> bool:
    assert os.getpid() != NOTEBOOK, "not in a worker"
    return answer_of(completion) == reference
"""

RUN = f"""
import star_rft
reports = list(star_rft.run({SMALL!r}))
[report.round for report in reports]
"""

READ = """
from pathlib import Path
from star_rft.ledger import Ledger
con = Ledger(Path("run")).connect()
judged = "select verifier, status = 'unknown', count(*) from traces where split = 'train' group by all"
(con.sql(judged).fetchall(), con.sql("select max(round) from rounds").fetchall())
"""

# What DuckDB takes for Jupyter: no file, and IPython with a kernel.
LIKE_JUPYTER = """
import sys, types
sys.modules["ipywidgets"] = None
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
"""

READ_A_LEDGER = """
import duckdb
try:
    duckdb.connect().execute("set enable_progress_bar = false")
except duckdb.InvalidInputException as error:
    assert "ipywidgets" in str(error)
else:
    sys.exit("DuckDB takes this for no notebook, or needs no ipywidgets: this test tests nothing")
from pathlib import Path
from star_rft.frontier.classes import classify
from star_rft.ledger import Ledger
con = Ledger(Path("run")).connect()
print(con.sql("select current_setting('enable_progress_bar'), count(*) from traces").fetchall())
print(classify(con, through_round=1).num_rows)
"""


def test_a_ledger_is_read_where_duckdb_would_draw_its_bars_with_ipywidgets(tmp_path: Path) -> None:
    ledger_of(tmp_path / "run", [(sample("one", i), verdict()) for i in range(4)])
    command = [sys.executable, "-c", LIKE_JUPYTER + READ_A_LEDGER]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[(False, 4)]\n1\n", "")


def test_a_verifier_that_cannot_be_sent_to_workers_is_refused_with_what_to_do() -> None:
    lock = threading.Lock()

    @verifiers.register("locked")
    def locked(completion: str, reference: str) -> bool:
        with lock:
            return completion == reference

    with pytest.raises(
        verifiers.VerifierError, match=r"'locked' .*: cannot pickle '_thread.lock' .*'pkg.module:function'"
    ):
        verifiers.Pool("locked", workers=1)
    with verifiers.Pool("locked", workers=0) as pool:
        assert [verdict.status for verdict in pool.verify_iter([("a", "a"), ("a", "b")])] == ["correct", "incorrect"]


def test_progress_in_a_notebook_is_lines_without_widgets() -> None:
    terminal, notebook = (
        Console(force_terminal=True, force_jupyter=is_jupyter, file=io.StringIO()) for is_jupyter in (False, True)
    )
    for is_live in (None, True):
        assert TerminalProgress(terminal, is_live=is_live).is_live
        assert not TerminalProgress(notebook, is_live=is_live).is_live


@pytest.mark.full
def test_a_run_with_a_verifier_of_a_cell_needs_no_ipywidgets_and_prints_nothing(tmp_path: Path) -> None:
    """Its workers get the verifier with what it uses of the notebook, and another cell reads the ledger."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install nbclient ipykernel")
    from nbformat.v4 import new_code_cell, new_notebook

    cells = [WITHOUT_WIDGETS, REGISTER, RUN, READ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment())
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert [output.output_type for output in outputs] == ["execute_result"] * 2, outputs
    expected = ["[0, 1]", "([('after_mark', False, 12)], [(1,)])"]  # 6 prompts by 2 samples
    assert [output.data["text/plain"] for output in outputs] == expected
