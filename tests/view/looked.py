"""A small run folder with everything that a viewer shows, and a viewer of it that answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import uvicorn

from star_rft.files import write_table
from star_rft.frontier.classes import classify
from star_rft.ledger import DOUBTS, PROBLEMS, Ledger
from star_rft.select.rules import select
from star_rft.view.app import Viewer, application
from star_rft.view.guard import hosts_of
from star_rft.view.index import Index, build
from star_rft.view.serving import listen
from star_rft.view.shelf import Shelf
from tests.ledgers import commit, sample, verdict

RULES: list[Any] = ["correct", {"dedup": "exact"}, {"dedup": "equations"}, {"cap": 2}]


def write_problems(folder: Path, rows: Sequence[tuple[str, str, str, dict[str, Any]]]) -> None:
    """(split, id, prompt, meta) each."""
    table = pa.Table.from_pylist(
        [
            {"split": split, "id": name, "prompt": prompt, "reference": '"2"', "verifier": "v", "solution": "1 + 1 = 2"}
            | {"meta": json.dumps(meta)}
            for split, name, prompt, meta in rows
        ],
        schema=PROBLEMS,
    )
    write_table(folder / "problems.parquet", table)


def finish_round(ledger: Ledger, round: int) -> None:
    """Class the prompts, select and doubt, as the loop does."""
    folder = ledger.run_dir / "rounds" / f"{round:03d}"
    write_table(folder / "frontier.parquet", classify(ledger.connect(), through_round=round))
    chosen = select(ledger.connect(), round=round, rounds="last", rules=RULES, weighting="uniform", seed=0)
    write_table(folder / "selection.parquet", chosen.traces.to_arrow_table())
    doubted = ledger.connect().sql(
        "select in_round, sample_id, s.problem_id, 'false_step' as kind, '1 + 1 = 3' as detail from selection s"
        f" join verdicts using (sample_id) where is_selected and in_round = {round} and false_steps > 0"
    )
    write_table(folder / "doubts.parquet", doubted.to_arrow_table().cast(DOUBTS))


def write_run(folder: Path) -> Ledger:
    """Six prompts, of which one is held out and one never sampled, two rounds, 3 to 5 attempts each."""
    steps = (1, 2, 2, 10, 3)
    problems = [
        ("train", name, f"What is {name}?", {"steps": count}) for name, count in zip("abcdu", steps, strict=True)
    ]
    write_problems(folder, [*problems, ("dev", "h", "How many apples?", {"steps": 1})])
    ledger = Ledger(folder, is_writer=True)
    right, wrong, broken = verdict(), verdict("incorrect", "3"), verdict("unknown", None, "undecided")
    for round in (1, 2):
        pairs = [(sample("a", i, f"Sum {i}: 1 + 1 = 2\n#### 2", round=round), right) for i in range(4)]
        pairs += [(sample("b", i, f"1 + {i} = 3\n#### 3", round=round), wrong) for i in range(3)]
        pairs += [(sample("c", 0, "1 + 1 = 3\n#### 2", round=round), right)]
        pairs += [(sample("c", i, "#### 3", round=round), wrong) for i in (1, 2, 3)]
        pairs += [(sample("c", 0, "A Hint. 1 + 1 = 2\n#### 2", round=round, hinted=True), right)]
        pairs += [(sample("d", 0, "who knows", round=round), broken), (sample("d", 1, "#### 2", round=round), right)]
        commit(ledger, f"r{round}-train", pairs)
        finish_round(ledger, round)
    for round in (0, 1, 2):
        pairs = [
            (sample("h", i, "ÄPFEL #### 2", round=round, split="dev"), right if i < round else wrong) for i in (0, 1)
        ]
        commit(ledger, f"r{round}-dev", pairs)
    return ledger


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
