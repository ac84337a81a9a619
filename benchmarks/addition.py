"""STaR's addition as a table: held-out accuracy by number of digits and round, a group of columns a run.

    python benchmarks/addition.py runs/star_addition runs/star_addition_no_hints

Per cent of the held-out sums by number of digits, and of all; then how many of the round's train sums were solved alone
and, in a run with hints, with the hint. In Markdown, as docs/addition.md holds it.
"""

from __future__ import annotations

import argparse
from itertools import zip_longest
from pathlib import Path

import star_rft


def columns(run: star_rft.Run) -> list[list[str]]:
    """Return a run's columns, each with its head first and then a cell a round."""
    reports = run.reports
    held_out = [report.held_out for report in reports if report.held_out is not None]
    digits = sorted(held_out[0].by_group)
    query = "select round, count(*) from traces where split = 'train' and hinted and status = 'correct' group by round"
    hinted = dict(run.sql(query).fetchall())
    found = [[group, *(f"{100 * scores.by_group[group]:.0f}" for scores in held_out)] for group in digits]
    found.append(["all", *(f"{100 * scores.pass_at_k['1']:.1f}" for scores in held_out)])
    found.append(["alone", *("" if report.round == 0 else f"{report.correct}" for report in reports)])
    if hinted:
        found.append(["with the hint", *(str(hinted.get(report.round, "")) for report in reports)])
    return found


def table(runs: list[star_rft.Run]) -> str:
    groups = [columns(run) for run in runs]
    for run, group in zip(runs, groups, strict=True):
        group[0][0] = f"{run.folder.name}: {group[0][0]}"
    every = [column for group in groups for column in group]
    rounds = max(len(column) for column in every) - 1
    lines = zip_longest(["round", *map(str, range(rounds))], *every, fillvalue="")
    head, *rows = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * (len(every) + 1), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="runs of star_addition")
    print(table([star_rft.open_run(run) for run in parser.parse_args().runs]))


if __name__ == "__main__":
    main()
