"""Temperature search (B-STaR's balance, 2412.17256): many correct, distinct traces and few others.

Each round the policy answers a few held-out problems at each temperature; the pair with the best balance score is what
the round samples and selects with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.files import read_json, write_json

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class TemperatureSearch:
    """The grid that is searched. `target` is n*, the number of distinct correct traces that is enough for a problem."""

    temperatures: tuple[float, ...]
    thresholds: tuple[float | None, ...]
    problems: int
    n: int
    target: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A temperature, a threshold and their balance score.

    The score is the mean over problems of min(n'/n*, 1) n'/n, where n traces reach the threshold and n' of them are
    distinct and correct.
    """

    temperature: float
    threshold: float | None
    score: float


def scores(
    con: duckdb.DuckDBPyConnection,
    *,
    round_index: int,
    temperature_of: dict[str, float],
    thresholds: Sequence[float | None],
    target: int,
) -> list[Trial]:
    """Score every pair on the round's samples of the split `probe`; `temperature_of` is by decode_id."""
    tried = []
    for decode_id, temperature in temperature_of.items():
        for threshold in thresholds:
            kept = "true" if threshold is None else f"coalesce(x.score, t.score) >= {float(threshold)}"
            ((score,),) = con.execute(
                "select avg(case when n = 0 then 0.0 else least(distinct_correct / ?, 1.0) * distinct_correct / n end)"
                " from (select problem_id,"
                f" count(*) filter ({kept}) as n,"
                f" count(distinct t.equation_key) filter (({kept}) and t.status = 'correct') as distinct_correct"
                " from traces t left join scores x using (sample_id)"
                " where t.split = 'probe' and t.round = ? and t.decode_id = ? group by problem_id)",
                [target, round_index, decode_id],
            ).fetchall()
            tried.append(Trial(temperature, threshold, float(score or 0.0)))
    return tried


def best(tried: Sequence[Trial]) -> Trial:
    """Return the pair of the highest score; of equals the coolest, then the strictest."""
    return min(tried, key=lambda t: (-t.score, t.temperature, -(t.threshold or 0.0)))


def write(path: Path, tried: Sequence[Trial]) -> None:
    """Write all trials and the best one, which `chosen` reads."""
    write_json(path, {"chosen": asdict(best(tried)), "tried": [asdict(t) for t in tried]})


def chosen(path: Path) -> dict[str, Any] | None:
    """Return what an earlier call chose for the round: temperature, threshold, score."""
    return read_json(path)["chosen"] if path.exists() else None
