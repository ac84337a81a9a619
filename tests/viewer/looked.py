"""A small run folder with everything that a viewer shows, and a viewer of it that answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import uvicorn

from star_rft.data import write_problems
from star_rft.files import write_table
from star_rft.ledger import FLAGGED, SELECTION, Ledger
from star_rft.runs.folder import RunFolder
from star_rft.types import Problem
from star_rft.viewer.access import hosts_of
from star_rft.viewer.app import Viewer, application
from star_rft.viewer.index import Index, build
from star_rft.viewer.reload import Shelf
from star_rft.viewer.server import listen
from tests.small_ledgers import commit, finish_round, ledger_of, problem, sample, verdict

HOSTILE = "<script>alert(1)</script>\"><img src=x onerror=alert(1)>'{{7*7}}javascript:alert(1)"
ASKED = quote(HOSTILE, safe="")
HOSTILE_PATHS = [
    "/",
    "/?by=trace",
    f"/?q={ASKED}",
    f"/?by=trace&q={ASKED}",
    f"/?status={ASKED}&group={ASKED}&why={ASKED}&flag={ASKED}&sort={ASKED}&by={ASKED}&page={ASKED}&{ASKED}={ASKED}",
    "/problem/p",
    f"/problem/p?q={ASKED}&why={ASKED}",
    f"/problem/{ASKED}",
    f"/trace/{ASKED}",
    f"/{ASKED}",
]


def finish_and_flag(ledger: Ledger, round_index: int) -> None:
    """Class the problems, select and flag, as the loop does."""
    finish_round(ledger, round_index)
    flagged = ledger.connect().sql(
        "select in_round, sample_id, s.problem_id, 'invalid_step' as kind, '1 + 1 = 3' as detail from selection s"
        f" join verdicts using (sample_id) where is_selected and in_round = {round_index} and invalid_steps > 0"
    )
    write_table(RunFolder(ledger.run_dir).flagged(round_index), flagged.to_arrow_table().cast(FLAGGED))


def write_run(folder: Path) -> Ledger:
    """Six problems, of which one is held out and one never sampled, two rounds, 3 to 5 traces each."""
    steps = (1, 2, 2, 10, 3)
    asked = [
        problem(name, f"What is {name}?", meta={"steps": count}) for name, count in zip("abcdu", steps, strict=True)
    ]
    held_out = [problem("h", "How many apples?", meta={"steps": 1})]
    write_problems(folder / "problems.parquet", {"train": asked, "dev": held_out})
    ledger = Ledger(folder, is_writer=True)
    right, wrong, broken = verdict(), verdict("incorrect", "3"), verdict("unknown", None, "undecided")
    for round_index in (1, 2):
        pairs = [(sample("a", i, f"Sum {i}: 1 + 1 = 2\n#### 2", round_index=round_index), right) for i in range(4)]
        pairs += [(sample("b", i, f"1 + {i} = 3\n#### 3", round_index=round_index), wrong) for i in range(3)]
        pairs += [(sample("c", 0, "1 + 1 = 3\n#### 2", round_index=round_index), right)]
        pairs += [(sample("c", i, "#### 3", round_index=round_index), wrong) for i in (1, 2, 3)]
        pairs += [(sample("c", 0, "A Hint. 1 + 1 = 2\n#### 2", round_index=round_index, hinted=True), right)]
        pairs += [
            (sample("d", 0, "who knows", round_index=round_index), broken),
            (sample("d", 1, "#### 2", round_index=round_index), right),
        ]
        commit(ledger, f"r{round_index}-train", pairs)
        finish_and_flag(ledger, round_index)
    for round_index in (0, 1, 2):
        pairs = [
            (sample("h", i, "ÄPFEL #### 2", round_index=round_index, split="dev"), right if i < round_index else wrong)
            for i in (0, 1)
        ]
        commit(ledger, f"r{round_index}-dev", pairs)
    return ledger


def write_hostile_run(folder: Path) -> None:
    """Whatever a run can hold is hostile: problem, reference, solution, meta, completion, answer, names, reasons."""
    asked = Problem("p", HOSTILE, HOSTILE, HOSTILE, HOSTILE, {"steps": HOSTILE, HOSTILE: HOSTILE})
    write_problems(folder / "problems.parquet", {"train": [asked]})
    found = replace(verdict("incorrect", HOSTILE), verifier=HOSTILE, version=HOSTILE)
    one = replace(sample("p", 0, f"{HOSTILE}\n1 + 1 = 3\n#### {HOSTILE}"), model=HOSTILE)
    ledger_of(folder, [(one, found)])
    about = {"in_round": 1, "sample_id": one.id, "problem_id": "p"}
    row = about | {"is_selected": False, "why": HOSTILE, "duplicate_of": HOSTILE, "weight": 0.0}
    write_table(folder / "rounds/001/selection.parquet", pa.Table.from_pylist([row], schema=SELECTION))
    flag = about | {"kind": HOSTILE, "detail": HOSTILE}
    write_table(folder / "rounds/001/flagged.parquet", pa.Table.from_pylist([flag], schema=FLAGGED))


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """The size and the time of every file below a folder."""
    return {
        str(path.relative_to(folder)): (s.st_size, s.st_mtime_ns) for path in folder.rglob("*") if (s := path.stat())
    }


def index_of(folder: Path, scratch: Path, *, group_by: str | None = "steps") -> Index:
    return build(folder, group_by=group_by, scratch=scratch)


@contextmanager
def viewed(
    folder: Path, scratch: Path, *, name: str = "looked", own: range | None = None
) -> Iterator[tuple[str, Shelf]]:
    """Serve a run folder from a thread; yields the address, and what is looked at."""

    def make() -> Index:
        return index_of(folder, scratch)

    shelf = Shelf(folder, make, make())
    with listen(0) as taken:
        port = taken.getsockname()[1]
        app = application(Viewer(shelf, name, "steps", own), hosts=hosts_of(port))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}", shelf
        finally:
            server.should_exit = True
            thread.join()
