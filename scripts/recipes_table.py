"""Writes the tables of docs/recipes.md from the configs and the selection rules themselves.

python scripts/recipes_table.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from star_rft import config as configs
from star_rft.recipes import Row, row
from star_rft.selection.registry import RULES, signature

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "recipes.md"


def main() -> int:
    PAGE.write_text(rewritten(PAGE.read_text()))
    return 0


def rewritten(page: str) -> str:
    for name, table in (("recipes", recipes_table()), ("rules", rules_table())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        page = re.sub(f"{begin}.*?{end}", lambda _, b=begin, t=table, e=end: f"{b}\n{t}\n{e}", page, flags=re.DOTALL)
    return page


def recipes_table() -> str:
    loaded = [configs.load(path) for path in sorted((ROOT / "configs").glob("*.yaml"))]
    rows = [row(config.model_dump(mode="json", by_alias=True)) for config in loaded if config.about is not None]
    lines = ["| recipe | paper | samples | keeps | trains | rounds | has been run |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*lines, *map(_line, rows)])


def _line(found: Row) -> str:
    name = f"[`{found.name}`](../configs/{found.name}.yaml)"
    cells = (name, found.paper, found.sampling, found.selection, found.training, found.rounds, found.run)
    return f"| {' | '.join(cells)} |"


def rules_table() -> str:
    lines = ["| rule | options | what it does |", "|---|---|---|"]
    for name in RULES.names():
        lines.append(f"| `{name}` | {signature(name) or '-'} | {RULES.get(name).summary} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
