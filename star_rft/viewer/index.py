"""The viewer's search index, built from the run folder: columns of small numbers, texts in DuckDB.

A filter compares one column of at most a few bytes a trace, which takes milliseconds for a million; only the search for
text reads texts, in lower case, in memory. Texts are shown from the ledger itself: `Index.near` makes its views again
over the few parts that hold the traces of a page.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from star_rft.ledger import Ledger
from star_rft.statistics import Ints
from star_rft.viewer.columns import Coder, Problems, Traces, tally_problems

if TYPE_CHECKING:
    import duckdb

# So many parts are read at once: enough to be fast, and few enough for little memory and a progress that moves.
PARTS_AT_ONCE = 64
MEMORY = "1200MB"
# How many searches are remembered, at most 8 bytes a trace each.
SEARCHES = 4
# Of what a round writes, what the index holds.
OF_ROUNDS = ("selection.parquet", "frontier.parquet", "flagged.parquet")

# Set off from the text before it, so that nobody finds the end of a text and the beginning of an answer at once.
_END = "chr(31)"

_PROBLEMS = """
create table problem as
with named as (
  select problem_id, split, prompt, meta from problems
  qualify row_number() over (partition by problem_id order by list_position(['train', 'dev', 'test'], split)) = 1
), class as (
  select problem_id, "class", pass_mean from frontier where in_round = (select max(in_round) from frontier)
)
select (row_number() over (order by problem_id) - 1)::int as p, problem_id, coalesce(split, 'train') as split, "class",
  pass_mean, json_extract_string(meta, $group) as "group",
  lower(prompt) as hay
from (select distinct problem_id from samples union select problem_id from problems)
left join named using (problem_id) left join class using (problem_id)
"""

# A trace that several rounds could select is `selected` if one did; else the first round tells why it was dropped.
_CHOSEN = """
create temp table chosen as
select sample_id, case when bool_or(is_selected) then 'selected' else arg_min(why, in_round) end as why
from selection group by sample_id;
create temp table flags as
select sample_id, list(distinct kind order by kind) as kinds from flagged group by sample_id;
create table trace (n int, sample_id varchar, hay varchar);
create temp table unit (file varchar, unit int);
"""

_READ = f"""
create or replace temp table reading as
select (row_number() over () + $before - 1)::int as n, p.p, unit.unit, s.sample_id, s.round, s.sample_index, s.split,
  v.status, v.reason, chosen.why, if(s.hinted, 'yes', 'no') as hinted, if(v.invalid_steps > 0, 'yes', 'no') as
  invalid_step, flags.kinds, lower(s.text) || {_END} || coalesce(lower(v.answer), '') as hay
from drawn s join judged v using (sample_id) join problem p using (problem_id)
join unit on unit.file = s.filename
left join chosen using (sample_id) left join flags using (sample_id)
"""


# A few digits of an id are more often meant as a number.
_IS_ID = "(length($1) >= 8 and starts_with(problem_id, lower($1)))"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a run continues: the size of its manifest, and the files of its rounds."""

    manifest: int
    rounds: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """`con` holds the texts to search in and the ledger's views; query it through `cursor`.

    `units` are the files of samples and verdicts, `judged_again` those of newer verdicts, which any sample may have.
    """

    con: duckdb.DuckDBPyConnection
    stamp: Stamp
    traces: Traces
    problems: Problems
    units: tuple[tuple[str, str], ...]
    judged_again: tuple[str, ...]
    _searched: dict[str, tuple[Ints, Ints]] = field(default_factory=dict)
    _searching: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection of the caller's own, for one thread."""
        with self.con.cursor() as cursor:
            yield cursor

    def near(self, cursor: duckdb.DuckDBPyConnection, units: Sequence[int]) -> None:
        """Limit a cursor's samples and verdicts to these units: a page needs few, and reading all would be slow."""
        chosen = [self.units[unit] for unit in sorted(set(units))] or list(self.units[:1])
        if not chosen:
            return  # then the ledger's own views are empty
        verdicts = [file for _, file in chosen] + list(self.judged_again)
        cursor.execute(f"create or replace temp view samples as {_files([file for file, _ in chosen])}")
        cursor.execute(f"create or replace temp view verdicts as {_newest(verdicts, bool(self.judged_again))}")

    def ids_of(self, rows: Sequence[int]) -> dict[int, str]:
        """Return the sample ids of rows of the index."""
        with self.cursor() as cursor:
            found = cursor.execute(
                "select n, sample_id from trace where n in (select unnest($1::int[]))", [[int(row) for row in rows]]
            )
            return dict(found.fetchall())

    def row_of(self, sample_id: str) -> int | None:
        """Return the row of a trace; None for an unknown id."""
        with self.cursor() as cursor:
            found = cursor.execute("select n from trace where sample_id = $1", [sample_id]).fetchone()
        return None if found is None else int(found[0])

    def with_text(self, text: str) -> tuple[Ints, Ints]:
        """Return the rows of traces and the numbers of problems that hold a text literally, in any case.

        The id of a trace, or the first eight characters and more of a problem's, find them too. The last few texts are
        remembered, for paging, filtering and opening what was found.
        """
        with self._searching:
            if text not in self._searched:
                found = self._search(text)
                if len(self._searched) == SEARCHES:
                    self._searched.pop(next(iter(self._searched)))
                self._searched[text] = found
            return self._searched[text]

    def _search(self, text: str) -> tuple[Ints, Ints]:
        with self.cursor() as cursor:
            rows = cursor.execute(
                "select n from trace where contains(hay, lower($1)) or sample_id = $1", [text]
            ).fetchnumpy()["n"]
            problems = cursor.execute(
                f"select p from problem where contains(hay, lower($1)) or {_IS_ID}", [text]
            ).fetchnumpy()["p"]
        return np.asarray(rows, np.int64), np.asarray(problems, np.int64)


def stamp_of(run_dir: Path) -> Stamp:
    """Return the stamp of a run folder as it is now."""
    manifest = run_dir / "ledger" / "manifest"
    rounds = sorted(path for name in OF_ROUNDS for path in run_dir.glob(f"rounds/*/{name}"))
    return Stamp(
        manifest.stat().st_size if manifest.exists() else 0,
        tuple((str(path.relative_to(run_dir)), path.stat().st_mtime_ns) for path in rounds),
    )


def units_of(run_dir: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the files of samples and of their verdicts, a pair a unit, and the files of later verdicts."""
    ledger = Ledger(run_dir)
    units = [(str(samples), str(verdicts)) for samples, verdicts in ledger.files("samples", "verdicts")]
    return units, [str(verdicts) for (verdicts,) in ledger.files("verdicts")]


def build(
    run_dir: Path, *, group_by: str | None, scratch: Path, advance: Callable[[int, int], None] = lambda _units, _: None
) -> Index:
    """Read a run folder, which may be growing, into memory; `advance` is called with the number of units read.

    `group_by` names an entry of the problems' meta to filter by. `scratch` is a folder for what memory does not hold.
    """
    stamp = stamp_of(run_dir)
    units, judged_again = units_of(run_dir)
    con = Ledger(run_dir).connect()
    con.execute("set memory_limit = $1", [MEMORY])
    con.execute("set temp_directory = $1", [str(scratch)])
    _keep_registered(con)
    con.execute(_PROBLEMS, {"group": None if group_by is None else f'$."{group_by}"'})
    con.execute(_CHOSEN)
    if units:
        con.executemany("insert into unit values ($1, $2)", [[file, number] for number, (file, _) in enumerate(units)])
    coder = Coder()
    for start in range(0, len(units), PARTS_AT_ONCE):
        some = units[start : start + PARTS_AT_ONCE]
        coder.add(_read(con, some, judged_again, before=coder.rows))
        advance(len(some), 0)
    con.execute("drop table if exists reading; drop table chosen; drop table flags; drop table unit")
    table = con.sql('select problem_id, split, "class", pass_mean, "group" from problem order by p').to_arrow_table()
    traces = coder.traces(table)
    return Index(con, stamp, traces, tally_problems(table, traces), tuple(units), tuple(judged_again))


def _read(
    con: duckdb.DuckDBPyConnection, units: Sequence[tuple[str, str]], judged_again: Sequence[str], *, before: int
) -> pa.Table:
    """Take some units in: their texts into the table `trace`, the rest as the table that is returned."""
    verdicts = [file for _, file in units] + list(judged_again)
    con.execute(f"create or replace temp view drawn as {_files([file for file, _ in units], named=True)}")
    where = "sample_id in (select sample_id from drawn)" if judged_again else "true"
    con.execute(f"create or replace temp view judged as {_newest(verdicts, bool(judged_again), where)}")
    con.execute(_READ, {"before": before})
    con.execute("insert into trace select n, sample_id, hay from reading")
    return con.sql("select * exclude (sample_id, hay) from reading order by n").to_arrow_table()


def _files(files: Sequence[str], *, named: bool = False) -> str:
    quoted = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    return f"select * from read_parquet([{quoted}]{', filename = true' if named else ''})"


def _newest(files: Sequence[str], is_superseded: bool, where: str = "true") -> str:
    """Return SQL for the newest verdict of each sample."""
    newest = "qualify row_number() over (partition by sample_id order by ordinal desc) = 1" if is_superseded else ""
    return f"select * from ({_files(files)}) where {where} {newest}"


def _keep_registered(con: duckdb.DuckDBPyConnection) -> None:
    """Make tables of what only this connection can see, so that its cursors see the ledger's views as well."""
    names = con.sql("select view_name from duckdb_views() where temporary and not internal").fetchall()
    for (name,) in names:
        con.execute(f'create table main."{name}" as select * from temp."{name}"')
