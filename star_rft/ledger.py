"""The trace ledger: append-only Parquet parts, a manifest that says which of them count, DuckDB views over them.

A unit of sampling commits in this order: samples part, verdicts part, one line of the manifest. A crash before
that line leaves files which nothing names; the next `Ledger` removes them. Later verdicts supersede earlier ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from star_rft.files import RunError, append_line, read_lines, write_table
from star_rft.frontier.classes import FRONTIER
from star_rft.select.keys import KEY_VERSION, keys_of
from star_rft.types import Decoding, Sample
from verifiers.types import Verdict

if TYPE_CHECKING:
    import duckdb

SCHEMA = 2

SAMPLES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("problem_id", pa.string()),
        ("split", pa.string()),
        ("round", pa.int32()),
        ("attempt", pa.int32()),
        ("model", pa.string()),
        ("decode_id", pa.string()),
        ("prompt_sha", pa.string()),
        ("seed", pa.uint64()),
        ("hinted", pa.bool_()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("tokens", pa.int32()),
        ("finish_reason", pa.string()),
        ("logprob", pa.float64()),
        ("leaks_hint", pa.bool_()),
    ]
)
VERDICTS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("verifier", pa.string()),
        ("version", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("answer", pa.string()),
        ("reason", pa.string()),
        ("verify_seconds", pa.float64()),
        ("text_key", pa.string()),
        ("equation_key", pa.string()),
        ("program_key", pa.string()),
        ("false_steps", pa.int32()),
        ("key_version", pa.int32()),
        ("part", pa.int32()),
    ]
)
SCORES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("scorer", pa.string()),
        ("scorer_version", pa.string()),
        ("score", pa.float64()),
        ("status", pa.string()),
        ("part", pa.int32()),
    ]
)
PROBLEMS = pa.schema(
    [(name, pa.string()) for name in ("split", "id", "prompt", "reference", "verifier", "solution", "meta")]
)
SELECTION = pa.schema(
    [
        ("in_round", pa.int32()),
        ("sample_id", pa.string()),
        ("problem_id", pa.string()),
        ("is_selected", pa.bool_()),
        ("why", pa.string()),
        ("duplicate_of", pa.string()),
        ("weight", pa.float64()),
    ]
)
RANKINGS = pa.schema(
    [
        ("in_round", pa.int32()),
        ("ranking", pa.int64()),
        ("problem_id", pa.string()),
        ("place", pa.int32()),
        ("sample_id", pa.string()),
        ("score", pa.float64()),
    ]
)
DOUBTS = pa.schema(
    [
        ("in_round", pa.int32()),
        ("sample_id", pa.string()),
        ("problem_id", pa.string()),
        ("kind", pa.string()),
        ("detail", pa.string()),
    ]
)
DECODINGS = pa.schema(
    [
        ("decode_id", pa.string()),
        ("backend", pa.string()),
        ("backend_version", pa.string()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("top_k", pa.int32()),
        ("max_tokens", pa.int32()),
        ("stop", pa.list_(pa.string())),
    ]
)


class Ledger:
    """The ledger of one run folder. Only the process that holds the run's lock may commit."""

    def __init__(self, run_dir: Path, *, is_writer: bool = False) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / "ledger"
        self.manifest = self.folder / "manifest"
        self._lines: list[dict[str, Any]] = read_lines(self.manifest, mends=is_writer)
        if self._lines and self._lines[0].get("schema") != SCHEMA:
            raise RunError(
                f"{self.manifest}: schema {self._lines[0].get('schema')!r} is not {SCHEMA}: another star-rft wrote it"
            )
        if is_writer:
            self._prepare()

    def _prepare(self) -> None:
        for name in ("samples", "verdicts", "scores"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not self._lines:
            self._append({"schema": SCHEMA})
        named = {path for line in self._lines for path in line.get("parts", {}).values()}
        for path in [*self.folder.glob("*/*.parquet"), *self.folder.glob("*/.*.tmp")]:
            if str(path.relative_to(self.folder)) not in named:
                path.unlink()

    def _append(self, line: dict[str, Any]) -> None:
        append_line(self.manifest, line)
        self._lines.append(line)

    def units(self) -> dict[str, dict[str, Any]]:
        """Return the committed units: name -> its line of the manifest (rows, tokens, seconds)."""
        return {line["unit"]: line for line in self._lines if "unit" in line}

    def record_decoding(self, decoding: Decoding) -> None:
        if not any(line.get("decoding", {}).get("decode_id") == decoding.id for line in self._lines):
            self._append({"decoding": {"decode_id": decoding.id, **asdict(decoding)}})

    def commit(self, unit: str, pairs: Sequence[tuple[Sample, Verdict]], *, seconds: dict[str, float]) -> None:
        """Append one unit of samples with their verdicts; after this returns they are never drawn again."""
        samples = pa.Table.from_pylist([_sample_row(sample) for sample, _ in pairs], schema=SAMPLES)
        parts = {"samples": f"samples/{unit}.parquet", "verdicts": f"verdicts/{unit}.parquet"}
        write_table(self.folder / parts["samples"], samples)
        self._write_verdicts(parts["verdicts"], [(s.id, s.text, verdict) for s, verdict in pairs])
        tokens = sum(len(sample.token_ids) for sample, _ in pairs)
        self._append(self._line(unit, parts, rows=len(pairs), tokens=tokens, seconds=seconds))

    def supersede(self, unit: str, verdicts: Iterable[tuple[str, str, Verdict]]) -> None:
        """Append newer verdicts of samples that are there already: (sample id, text, verdict) each."""
        rows = list(verdicts)
        parts = {"verdicts": f"verdicts/{unit}.parquet"}
        self._write_verdicts(parts["verdicts"], rows)
        self._append(self._line(unit, parts, rows=len(rows), tokens=0, seconds={}))

    def score(self, unit: str, scorer: str, version: str, rows: Sequence[tuple[str, float | None, str]]) -> None:
        """Append a scorer's scores: (sample id, score, status) each; newer ones supersede older ones."""
        ordinal = len(self._lines)
        parts = {"scores": f"scores/{unit}.parquet"}
        columns = [pa.array(list(column)) for column in zip(*rows, strict=True)]
        count = len(rows)
        table = pa.table(
            {
                "sample_id": columns[0],
                "scorer": [scorer] * count,
                "scorer_version": [version] * count,
                "score": columns[1],
                "status": columns[2],
                "part": [ordinal] * count,
            }
        )
        write_table(self.folder / parts["scores"], table.cast(SCORES))
        self._append(self._line(unit, parts, rows=count, tokens=0, seconds={}))

    def _write_verdicts(self, part: str, rows: Sequence[tuple[str, str, Verdict]]) -> None:
        ordinal = len(self._lines)
        table = pa.Table.from_pylist([_verdict_row(*row, part=ordinal) for row in rows], schema=VERDICTS)
        write_table(self.folder / part, table)

    def _line(self, unit: str, parts: dict[str, str], **figures: Any) -> dict[str, Any]:
        sums = {name: hashlib.sha256((self.folder / path).read_bytes()).hexdigest() for name, path in parts.items()}
        return {"unit": unit, "parts": parts, "sha256": sums, **figures}

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Open DuckDB with the views problems, samples, verdicts, scores, traces, selection, rankings and more."""
        import duckdb

        con = duckdb.connect()
        con.execute("set enable_progress_bar = false")  # else queries of seconds draw one into standard output
        self._view(con, "problems_file", self._existing("problems.parquet"), PROBLEMS)
        con.execute("create view problems as select id as problem_id, * exclude (id) from problems_file")
        self._view(con, "samples", self._parts("samples"), SAMPLES)
        self._view(con, "all_verdicts", self._parts("verdicts"), VERDICTS)
        self._view(con, "selection", self._existing("rounds/*/selection.parquet"), SELECTION)
        self._view(con, "rankings", self._existing("rounds/*/rankings.parquet"), RANKINGS)
        self._view(con, "frontier", self._existing("rounds/*/frontier.parquet"), FRONTIER)
        self._view(con, "doubts", self._existing("rounds/*/doubts.parquet"), DOUBTS)
        self._view(con, "all_scores", self._parts("scores"), SCORES)
        con.execute(
            "create view scores as select * from all_scores"
            " qualify row_number() over (partition by sample_id order by part desc) = 1"
        )
        con.register("decodings_now", self._decodings())
        con.execute("create view decodings as select * from decodings_now")
        newest = "qualify row_number() over (partition by sample_id order by part desc) = 1"
        superseded = any(set(line.get("parts", ())) == {"verdicts"} for line in self._lines)
        con.execute(f"create view verdicts as select * from all_verdicts {newest if superseded else ''}")
        con.execute(
            "create view traces as select s.*, v.* exclude (sample_id), p.prompt, p.reference, p.solution, p.meta"
            " from samples s join verdicts v using (sample_id)"
            " left join problems p on p.problem_id = s.problem_id"
            " and p.split = case s.split when 'probe' then 'dev' else s.split end"
        )
        con.register("rounds_now", _rounds(self.run_dir))
        con.execute("create view rounds as select * from rounds_now")
        return con

    def _parts(self, table: str) -> list[Path]:
        return [self.folder / line["parts"][table] for line in self._lines if table in line.get("parts", {})]

    def _existing(self, pattern: str) -> list[Path]:
        return sorted(path for path in self.run_dir.glob(pattern) if not path.name.startswith("."))

    @staticmethod
    def _view(con: duckdb.DuckDBPyConnection, name: str, files: list[Path], schema: pa.Schema) -> None:
        """A view over an explicit list of files: a bare glob fails when it is empty or one file is torn."""
        if files:
            quoted = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
            con.execute(f"create view {name} as select * from read_parquet([{quoted}])")
        else:
            con.register(f"no_{name}", schema.empty_table())
            con.execute(f"create view {name} as select * from no_{name}")

    def _decodings(self) -> pa.Table:
        return pa.Table.from_pylist([line["decoding"] for line in self._lines if "decoding" in line], schema=DECODINGS)


def batches(con: duckdb.DuckDBPyConnection, query: str, rows: int = 8192) -> Iterator[list[dict[str, Any]]]:
    """Run a query and yield its rows as dicts, a bounded number at a time."""
    for batch in con.sql(query).to_arrow_reader(rows):
        yield batch.to_pylist()


def _sample_row(sample: Sample) -> dict[str, Any]:
    fields = {name: getattr(sample, name) for name in SAMPLES.names if name not in ("sample_id", "tokens")}
    return {"sample_id": sample.id, "tokens": len(sample.token_ids), **fields}


def _verdict_row(sample_id: str, text: str, verdict: Verdict, *, part: int) -> dict[str, Any]:
    keys = keys_of(text, verdict.verifier)
    return {
        "sample_id": sample_id,
        "verifier": verdict.verifier,
        "version": verdict.version,
        "status": verdict.status,
        "score": verdict.score,
        "answer": verdict.answer,
        "reason": verdict.reason,
        "verify_seconds": verdict.seconds,
        "text_key": keys.text,
        "equation_key": keys.equations,
        "program_key": keys.program,
        "false_steps": keys.false_steps,
        "key_version": KEY_VERSION,
        "part": part,
    }


def _rounds(run_dir: Path) -> pa.Table:
    """One row a finished round, from its metrics.json; the whole document stands in the column `metrics`."""
    rows = []
    for path in sorted(run_dir.glob("rounds/*/metrics.json")):
        metrics = json.loads(path.read_text())
        flat = {name: metrics.get(name) for name in ROUNDS.names if name not in ("pass_at_1", "metrics")}
        rows.append({**flat, "pass_at_1": metrics["pass_at_k"].get("1"), "metrics": json.dumps(metrics)})
    return pa.Table.from_pylist(rows, schema=ROUNDS)


ROUNDS = pa.schema(
    [
        ("round", pa.int32()),
        ("pass_at_1", pa.float64()),
        ("problems", pa.int64()),
        ("samples", pa.int64()),
        ("correct", pa.int64()),
        ("unknown", pa.int64()),
        ("survivors", pa.int64()),
        ("coverage", pa.float64()),
        ("no_survivors", pa.int64()),
        ("tokens", pa.int64()),
        ("metrics", pa.string()),
    ]
)
