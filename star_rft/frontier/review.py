"""People's reviews of suspected label errors, and the figures and rows that `star-rft frontier` shows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from star_rft.errors import UserError
from star_rft.files import append_line, read_lines
from star_rft.frontier.classes import CLASSES, ProblemClass

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Finding = Literal["right", "wrong"]
FINDINGS: tuple[Finding, ...] = get_args(Finding)


def reviews(path: Path) -> dict[str, bool]:
    """Return whether the reference of a problem was found right, by problem id; a problem's last line counts."""
    return {line["problem_id"]: line["review"] == "right" for line in read_lines(path)}


def add(path: Path, found: Mapping[str, Finding]) -> None:
    """Append findings, by problem id, to the reviews of a run (`RunFolder.reviews`)."""
    for problem_id, finding in found.items():
        append_line(path, {"problem_id": problem_id, "review": finding})


def read_findings(source: Path, *, known: Collection[str]) -> dict[str, Finding]:
    """Read lines of `{"problem_id": ..., "review": "right" | "wrong"}`, as `star-rft frontier --export` writes them.

    Lines whose `review` is null are skipped: nobody has looked yet.

    Args:
        source: The file.
        known: The ids of the run's train problems.

    Returns:
        The findings by problem id.

    Raises:
        UserError: A line is anything else, or about another problem; the text names the line.
    """
    try:
        lines = source.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read: {error}") from None
    found: dict[str, Finding] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{source}: line {number} is no JSON: {error}") from None
        if not isinstance(line, dict) or "problem_id" not in line or "review" not in line:
            raise UserError(f'{source}: line {number} must hold "problem_id" and "review"')
        if line["problem_id"] not in known:
            raise UserError(f"{source}: line {number}: {line['problem_id']!r} is no train problem of this run")
        if line["review"] is None:
            continue
        if line["review"] not in FINDINGS:
            raise UserError(f"{source}: line {number}: review is {line['review']!r}; valid: {', '.join(FINDINGS)}")
        found[line["problem_id"]] = line["review"]
    return found


# Classes whose problems more samples alone will not solve.
OPEN: tuple[ProblemClass, ...] = ("label_error", "unverifiable", "truncated", "no_survivors", "hard", "unseen")


def by_round(of: str) -> str:
    """Return SQL for the samples and correct samples of each problem and round, without those with a hint.

    `of` is a condition on the table `samples`, in SQL.
    """
    return (
        "select problem_id, split, round, count(*)::int as samples,"
        " count(*) filter (status = 'correct')::int as correct from samples join verdicts using (sample_id)"
        f" where ({of}) and not hinted group by problem_id, split, round"
    )


_ROWS = f"""
with history as (
  select problem_id, list({{round: round, samples: samples, correct: correct}} order by round) as rounds
  from ({by_round("split = 'train'")}) group by problem_id
)
select f.*, coalesce(history.rounds, []) as rounds, p.prompt, p.reference
from classed f left join history using (problem_id)
left join (select problem_id, prompt, reference from problems where split = 'train') p using (problem_id)
where list_contains($classes, f.class)
order by list_position($classes, f.class), f.pass_mean nulls first, problem_id limit $most
"""


def class_counts(con: duckdb.DuckDBPyConnection, classed: pa.Table) -> dict[ProblemClass, int]:
    """Return the number of train problems of each class that has some, in the order of `CLASSES`."""
    con.register("classed", classed)
    found = dict(con.execute('select "class", count(*) from classed group by 1').fetchall())
    return {name: found[name] for name in CLASSES if name in found}


def classes_by_round(con: duckdb.DuckDBPyConnection) -> dict[str, list[int]]:
    """Return the number of problems of each class after each round that has a frontier.parquet, oldest first."""
    rows = con.sql('select in_round, "class", count(*) from frontier group by all order by in_round').fetchall()
    rounds = sorted({round_index for round_index, *_ in rows})
    counted = {(name, round_index): count for round_index, name, count in rows}
    names = sorted({name for _, name, _ in rows})
    return {name: [counted.get((name, round_index), 0) for round_index in rounds] for name in names}


def moved(con: duckdb.DuckDBPyConnection, classed: pa.Table, *, was: ProblemClass) -> tuple[int, dict[str, int]]:
    """Return the first round with a frontier.parquet, and the classes now of its problems of class `was`, counted."""
    con.register("classed", classed)
    rows = con.execute(
        'select first.in_round, now."class", count(*) from frontier first join classed now using (problem_id)'
        ' where first."class" = ? and first.in_round = (select min(in_round) from frontier)'
        " group by all order by 3 desc, 2",
        [was],
    ).fetchall()
    return (rows[0][0] if rows else 0), {name: count for _, name, count in rows}


def problems(
    con: duckdb.DuckDBPyConnection, classed: pa.Table, *, classes: Sequence[str], most: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield rows of FRONTIER of these classes, class by class, lowest pass rate first.

    Each row has `rounds` (samples and correct ones by round), `prompt` and `reference` in addition. At most `most`
    rows.
    """
    con.register("classed", classed)
    settings = {"classes": list(classes), "most": 2**62 if most is None else most}
    for batch in con.sql(_ROWS, params=settings).to_arrow_reader(8192):
        yield from batch.to_pylist()


def problem_in_full(con: duckdb.DuckDBPyConnection, classed: pa.Table, problem: str) -> dict[str, Any]:
    """Return a row of `problems` with its samples in `traces`.

    Args:
        con: A connection of `Ledger.connect`.
        classed: The table FRONTIER.
        problem: The id of the problem, or the beginning of it.

    Raises:
        UserError: No train problem has such an id, or several have.
    """
    con.register("classed", classed)
    ids = con.execute(
        "select problem_id from classed where starts_with(problem_id, ?) order by 1 limit 5", [problem]
    ).fetchall()
    if len(ids) != 1:
        some = ", ".join(found for (found,) in ids)
        raise UserError(f"{problem!r} begins the id of no train problem" if not ids else f"{problem!r} could be {some}")
    ((problem_id,),) = ids
    (row,) = (row for row in problems(con, classed, classes=CLASSES) if row["problem_id"] == problem_id)
    traces = con.sql(
        "select round, sample_index, hinted, status, reason, answer, tokens, invalid_steps, text, coalesce(s.why,"
        " '') as why"
        " from traces t left join (select sample_id, why from selection qualify row_number() over"
        " (partition by sample_id order by in_round) = 1) s using (sample_id)"
        " where t.split = 'train' and t.problem_id = ? order by round, hinted, sample_index",
        params=[problem_id],
    )
    return row | {"traces": traces.to_arrow_table().to_pylist()}


def remedies(*, plan: str, most: int, models: int, has_hints: bool, has_quarantine: bool) -> dict[ProblemClass, str]:
    """Return what the settings of a run do next with the problems of each class, in words."""
    adaptive = plan == "adaptive"
    further = [f"up to {most} samples a round"]
    further += ["the answer as a hint"] if has_hints else []
    further += ["another model"] if adaptive and models > 1 else []
    until_enough = "samples until it has enough" if plan != "fixed" else f"{most} samples a round"
    return {
        "label_error": "left out of training until reviewed (star-rft review)" if has_quarantine else "nothing",
        "unseen": "its first samples, when a round draws it",
        "unverifiable": "nothing: mend the verifier or the reference",
        "solved": "one sample a round, to see it if it is lost" if adaptive else until_enough,
        "truncated": f"{further[0]}; raise sample.max_tokens",
        "no_survivors": ", then ".join(further),
        "hard": further[0],
        "learnable": until_enough,
    }
