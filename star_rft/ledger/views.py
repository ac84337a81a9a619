"""DuckDB views over the tables of a run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from star_rft.database import in_memory
from star_rft.ledger.manifest import Manifest
from star_rft.ledger.schemas import (
    DECODINGS,
    FLAGGED,
    FRONTIER,
    PREFERENCES,
    PROBLEMS,
    ROUNDS,
    SAMPLES,
    SCORES,
    SELECTION,
    VERDICTS,
)

if TYPE_CHECKING:
    import duckdb

MEMORY = "2GB"
# Keeps the newest of several rows of one sample.
NEWEST = "qualify row_number() over (partition by sample_id order by ordinal desc) = 1"
OF_ROUNDS = {"selection": SELECTION, "preferences": PREFERENCES, "frontier": FRONTIER, "flagged": FLAGGED}


def connect(run_dir: Path, manifest: Manifest) -> duckdb.DuckDBPyConnection:
    """Open DuckDB with one view a table. They show what counts now: later commits are not in them."""
    con = in_memory()
    # Queries that need more than this use the disk. DuckDB's default is most of the machine's memory, which the models
    # of the sampler and the trainer need.
    con.execute("set memory_limit = $1", [MEMORY])
    con.execute("set temp_directory = $1", [str(Path(gettempdir()) / f"star-rft-{uuid4().hex}")])
    _view(con, "problems_file", _existing(run_dir, "problems.parquet"), PROBLEMS)
    con.execute("create view problems as select id as problem_id, * exclude (id) from problems_file")
    _view(con, "samples", manifest.parts("samples"), SAMPLES)
    _view(con, "all_verdicts", manifest.parts("verdicts"), VERDICTS)
    _view(con, "all_scores", manifest.parts("scores"), SCORES)
    for name, schema in OF_ROUNDS.items():
        _view(con, name, _existing(run_dir, f"rounds/*/{name}.parquet"), schema)
    con.execute(f"create view scores as select * from all_scores {NEWEST}")
    con.register("decodings_now", pa.Table.from_pylist(manifest.decodings(), schema=DECODINGS))
    con.execute("create view decodings as select * from decodings_now")
    # Finding the newest verdict sorts all verdicts, so it is left out where no sample has a second one.
    is_superseded = any(set(group["parts"]) == {"verdicts"} for group in manifest.groups.values())
    con.execute(f"create view verdicts as select * from all_verdicts {NEWEST if is_superseded else ''}")
    # Probe samples (of the temperature search) answer problems of dev.
    con.execute(
        "create view traces as select s.*, v.* exclude (sample_id), p.prompt, p.reference, p.solution, p.meta"
        " from samples s join verdicts v using (sample_id)"
        " left join problems p on p.problem_id = s.problem_id"
        " and p.split = case s.split when 'probe' then 'dev' else s.split end"
    )
    con.register("rounds_now", _rounds(run_dir))
    con.execute("create view rounds as select * from rounds_now")
    return con


def batches(con: duckdb.DuckDBPyConnection, query: str, rows: int = 8192) -> Iterator[list[dict[str, Any]]]:
    """Run a query and yield lists of at most `rows` rows, as dicts: one list is in memory at a time."""
    for batch in con.sql(query).to_arrow_reader(rows):
        yield batch.to_pylist()


def _existing(run_dir: Path, pattern: str) -> list[Path]:
    return sorted(path for path in run_dir.glob(pattern) if not path.name.startswith("."))


def _view(con: duckdb.DuckDBPyConnection, name: str, files: list[Path], schema: pa.Schema) -> None:
    """Create a view over a list of files, or over an empty table: `read_parquet` of no file is an error."""
    if files:
        quoted = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        con.execute(f"create view {name} as select * from read_parquet([{quoted}])")
    else:
        con.register(f"no_{name}", schema.empty_table())
        con.execute(f"create view {name} as select * from no_{name}")


def _rounds(run_dir: Path) -> pa.Table:
    """Return one row a finished round, from its metrics.json; the column `metrics` holds the whole document."""
    rows = []
    for path in sorted(run_dir.glob("rounds/*/metrics.json")):
        metrics = json.loads(path.read_text())
        flat = {name: metrics.get(name) for name in ROUNDS.names if name not in ("pass_at_1", "metrics")}
        rows.append({**flat, "pass_at_1": metrics["pass_at_k"].get("1"), "metrics": json.dumps(metrics)})
    return pa.Table.from_pylist(rows, schema=ROUNDS)
