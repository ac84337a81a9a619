"""A synthetic ledger: two rounds of samples whose answers vote for and against the reference, made in DuckDB.

Imports star_rft.files, star_rft.ledger: the ledger that it writes.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from star_rft.files import write_table
from star_rft.ledger import PROBLEMS, SAMPLES, VERDICTS, Ledger, described

PART = 500_000  # traces


def write(folder: Path, *, problems: int, each: int) -> None:
    """Two rounds, `each` samples a problem in all; rates of their own, and one reference in 20 is wrong."""
    ledger, con = Ledger(folder, is_writer=True), duckdb.connect()
    con.execute(
        "create macro chance(i, salt) as (hash(i * 7 + salt) % 1000003) / 1000003.0;"
        "create macro pid(p) as printf('%016x', hash(p));"
        "create macro answer(p) as (p % 97)::varchar"
    )
    table = con.sql(
        "select 'train' as split, pid(p) as id, 'How many are there?' as prompt, '\"' || answer(p) || '\"'"
        " as reference,"
        f" 'math' as verifier, null as solution, '{{}}' as meta from range({problems}) t(p)"
    )
    write_table(folder / "problems.parquet", table.to_arrow_table().cast(PROBLEMS))
    for start in range(0, problems * each, PART):
        stop = min(start + PART, problems * each)
        con.execute(
            "create or replace temp table drawn as select *,"
            " case when is_right then (case when chance(p, 2) < 0.05 then '-1' else answer(p) end)"
            "   else (100 + hash(i) % 12)::varchar end as answer"
            f" from (select i, i // {each} as p, chance(i, 0) < chance(i // {each}, 1) as is_right"
            f"   from range({start}, {stop}) t(i))"
        )
        samples = con.sql(
            "select printf('%016x', hash(i + 1000000007)) as sample_id, pid(p) as problem_id, 'train' as split,"
            f" (1 + 2 * (i % {each}) // {each})::int as round, (i % {each})::int as sample_index, 'm' as model,"
            " 'd' as decode_id, 'p' as prompt_sha, i::ubigint as seed, false as hinted, 'It is ' || answer as text,"
            " [1, 2, 3] as token_ids, 3 as tokens, 'stop' as finish_reason, -1.0 as logprob, false as leaks_hint,"
            " true as ids_are_sampled from drawn"
        )
        verdicts = con.sql(
            "select printf('%016x', hash(i + 1000000007)) as sample_id, 'math' as verifier, '2' as version,"
            " if(answer = answer(p), 'correct', 'incorrect') as status, (answer = answer(p))::double as score, answer,"
            " if(answer = answer(p), 'match', 'mismatch') as reason, 0.0 as verify_seconds,"
            " printf('%016x', hash(i)) as text_key, printf('%016x', hash(i // 2)) as equation_key,"
            " printf('%016x', hash(i)) as program_key, (i % 10 = 0)::int as invalid_steps, 2 as key_version, 1 as part"
            " from drawn"
        )
        tables = {
            "samples": samples.to_arrow_table().cast(SAMPLES),
            "verdicts": verdicts.to_arrow_table().cast(VERDICTS),
        }
        parts = {name: f"{name}/u{start:09d}.parquet" for name in tables}
        for name, table in tables.items():
            write_table(folder / "ledger" / parts[name], table)
        ledger.adopt(described(ledger.folder, f"u{start:09d}", parts, rows=stop - start, tokens=0, seconds={}))
