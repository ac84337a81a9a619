"""docs/ledger.md names every file of a run folder and every column of a view, and nothing that is not there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "ledger.md").read_text()


def columns_of(view: str) -> list[str]:
    """Return what the first column of a section's table names."""
    (section,) = re.findall(rf"^### {view}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_column_of_a_view_is_explained(finished: Path) -> None:
    con = Ledger(finished).connect()
    for view in ("samples", "verdicts", "problems", "decodings", "scores", "frontier", "selection", "preferences"):
        assert columns_of(view) == con.sql(f"from {view}").columns, view
    for view in ("flagged", "rounds"):
        assert columns_of(view) == con.sql(f"from {view}").columns, view
    traces = {*columns_of("samples"), *columns_of("verdicts"), "prompt", "reference", "solution", "meta"}
    assert traces == set(con.sql("from traces").columns)


def test_every_view_is_listed(finished: Path) -> None:
    con = Ledger(finished).connect()
    views = {name for (name,) in con.sql("select view_name from duckdb_views() where not internal").fetchall()}
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", PAGE, re.MULTILINE)
    assert views - set(listed) - {name for name in views if name.startswith("no_") or name.endswith("_now")} == set()
    assert set(listed) <= views


def test_every_file_of_a_run_folder_is_listed() -> None:
    folder = RunFolder(Path("run"))
    paths = [getattr(folder, name) for name, kind in vars(RunFolder).items() if isinstance(kind, property)]
    paths += [
        function(folder, 1)
        for name, function in vars(RunFolder).items()
        if inspect.isfunction(function) and list(inspect.signature(function).parameters) in (["self", "number"],)
    ]
    paths += [folder.plan(1), folder.plan(1, 1)]
    names = {path.name for path in paths if isinstance(path, Path)} - {"run", "001"}
    assert len(names) > 20
    assert sorted(name for name in names if name not in PAGE) == []
