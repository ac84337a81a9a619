"""Say whether this working tree computes what another commit computes, for work that only moves and renames.

    python scripts/golden.py BASE             # a commit; runs on it and on the working tree, and compares
    python scripts/golden.py BASE --keep DIR  # leave both run folders there; the run of BASE is not run again

Both run the same small run on this machine, in processes of their own: two rounds with a warm start, hints, a pooled
model, a scorer, a temperature search, reference solutions, an adaptive budget and preference pairs. What must be equal:
samples, verdicts with their keys, scores, problems, every table of every round, every metrics.json (`seconds` aside)
and the bytes of every weight file. Nothing is stored: sums of floating-point numbers differ between processors.

What a piece of work renames on purpose stands in the maps below until its last commit empties them; a name that is
missing on one side and is in no map is a difference. Ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parent.parent
# Old name: the new one, while a piece of work renames. Dotted paths of keys of a config and of metrics.json, columns of
# tables, files of the run folder, and texts in a table's cell or in a value of metrics.json.
CONFIG: Mapping[str, str] = {}
METRICS: Mapping[str, str] = {}
COLUMNS: Mapping[str, str] = {}
FILES: Mapping[str, str] = {}
VALUES: Mapping[str, str] = {}
# They say when and how long, or count what was written when.
NOT_COMPARED = frozenset({"seconds", "verify_seconds", "part", "ordinal"})

PROMPT = {"template": "Question: {question}\nAnswer:", "completion_prefix": " "}
FIT = {"batch_size": 8, "max_steps": 3}


def problems(n: int, seed: int) -> dict[str, Any]:
    return {"source": "word_problems", "options": {"n": n, "seed": seed, "steps": [1, 2]}}


SMALL: dict[str, Any] = {
    "name": "golden",
    "run_dir": "run",
    "rounds": 2,
    "model": {"name": "tiny"},
    "data": {"train": problems(20, 1), "dev": problems(8, 2)},
    "prompt": PROMPT,
    "verifier": {"name": "math", "workers": 1},
    "sample": {
        "n": 4,
        "temperature": [0.7, 1.2],
        "models": ["policy", "tiny"],
        "max_tokens": 64,
        "unit": 16,
        "batch_size": 16,
    },
    "budget": {"plan": "adaptive", "probe": 2, "target": 3},
    "temperature_search": {"temperatures": [0.7, 1.1], "problems": 4, "n": 2, "target": 2},
    "rationalize": {"n": 2},
    "scorer": {"name": "majority"},
    "select": {
        "rules": ["correct", {"dedup": "equations"}, {"pairs": {"of": "all", "limit": 4}}, {"cap": 2}],
        "rounds": "all",
        "reference_solutions": 0.25,
    },
    "warm_start": {"lr": 1e-4, **FIT},
    "train": {"lr": 1e-4, **FIT},
    "preference": {"objective": "dpo", "lr": 1e-5, **FIT},
    "eval": {"n": 2, "k": [1, 2], "max_tokens": 64, "group_by": "steps", "kl_traces": 4},
}


def main() -> int:
    arguments = _arguments()
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="golden-")))
        before = _run_of(arguments.base, folder)
        shutil.rmtree(folder / "after", ignore_errors=True)
        after = _finished(ROOT, folder / "after", renamed(SMALL, CONFIG))
        found = list(differences(before, after))
    for line in found:
        print(line)
    print(f"{len(found)} differences from {arguments.base}" if found else f"equal to {arguments.base}")
    return bool(found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="the commit to compare with")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a folder for the checkout and both runs")
    return parser.parse_args()


def _run_of(commit: str, folder: Path) -> Path:
    """Run a commit in a folder that may hold its finished run already, and return the run folder."""
    revision = ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"]
    sha = subprocess.run(revision, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    home, done = folder / f"before-{sha[:12]}", folder / f"before-{sha[:12]}.done"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        _check_out(sha, home / "tree")
        _finished(home / "tree", home, SMALL)
        done.touch()
    return home / "run"


def _check_out(commit: str, folder: Path) -> None:
    """Put the files of a commit into a folder, without a work tree that git would know of."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "--format=tar", commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)


def _finished(tree: Path, home: Path, config: Mapping[str, Any]) -> Path:
    """Run a config with the packages of a tree, and return the run folder."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "golden.yaml").write_text(yaml.safe_dump(dict(config)))
    env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    code = "import star_rft, verifiers; print(star_rft.__file__, verifiers.__file__, sep='\\n')"
    where = subprocess.run([sys.executable, "-c", code], cwd=home, env=env, capture_output=True, text=True, check=True)
    if foreign := [path for path in where.stdout.splitlines() if not Path(path).is_relative_to(tree)]:
        sys.exit(f"{sys.executable} imports {', '.join(foreign)} instead of the packages of {tree}")
    command = [sys.executable, "-m", "star_rft", "run", "golden.yaml", "--quiet"]
    if subprocess.run(command, cwd=home, env=env, check=False).returncode:
        sys.exit(f"the run with the packages of {tree} failed: cd {home}; {' '.join(command[1:])}")
    return home / "run"


# Comparing


def differences(before: Path, after: Path) -> Iterator[str]:
    """Yield a line for each thing that is not equal in two run folders, the first with the old names."""
    old, new = content(before, FILES, METRICS, COLUMNS, VALUES), content(after, {}, {}, {}, {})
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield f"{name}: is gone"
        elif name not in old:
            yield f"{name}: is new"
        else:
            yield from (f"{name}: {line}" for line in _unequal(old[name], new[name]))


def content(
    run: Path,
    files: Mapping[str, str],
    metrics: Mapping[str, str],
    columns: Mapping[str, str],
    values: Mapping[str, str],
) -> dict[str, Any]:
    """Return everything that is compared by the place of its file, with names and values mapped."""
    found: dict[str, Any] = {}
    for table in ("samples", "verdicts", "scores"):
        parts = [pq.read_table(path) for path in sorted((run / "ledger" / table).glob("*.parquet"))]
        if parts:
            found[f"ledger/{table}"] = _rows(pa.concat_tables(parts), columns, values)
    for path in [run / "problems.parquet", *sorted(run.glob("rounds/*/*.parquet"))]:
        found[_place(path, run, files)] = _rows(pq.read_table(path), columns, values)
    for path in sorted(run.glob("rounds/*/metrics.json")):
        found[_place(path, run, files)] = _values(renamed(json.loads(path.read_text()), metrics), values)
    for path in sorted(run.rglob("*.safetensors")):
        found[_place(path, run, files)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _place(path: Path, run: Path, files: Mapping[str, str]) -> str:
    place = path.relative_to(run)
    return "/".join(files.get(part, part) for part in place.parts)


def _rows(table: pa.Table, columns: Mapping[str, str], values: Mapping[str, str]) -> list[str]:
    """Return the rows as JSON, sorted: the order within a file is no promise."""
    rows = []
    for row in table.to_pylist():
        kept = {columns.get(name, name): value for name, value in row.items() if name not in NOT_COMPARED}
        rows.append(json.dumps(_values(kept, values), sort_keys=True, default=str))
    return sorted(rows)


def renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return nested settings or metrics with the keys that `names` maps, by dotted path, moved to where it says."""
    out: dict[str, Any] = {}
    for path, value in _leaves(config):
        moved = names.get(path, path)
        for length in range(path.count(".") + 1, 0, -1):
            head = ".".join(path.split(".")[:length])
            if head in names:
                moved = names[head] + path[len(head) :]
                break
        place = out
        *folders, last = moved.split(".")
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return out


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _values(value: Any, values: Mapping[str, str]) -> Any:
    """Return JSON data without what is not compared, and with the texts that a map renames."""
    if isinstance(value, Mapping):
        return {key: _values(below, values) for key, below in value.items() if key not in NOT_COMPARED}
    if isinstance(value, list):
        return [_values(below, values) for below in value]
    return values.get(value, value) if isinstance(value, str) else value


def _unequal(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys(), key=str):
            if key not in new or key not in old:
                yield f"{path}{key} is {'gone' if key in old else 'new'}"
            else:
                yield from _unequal(old[key], new[key], f"{path}{key}.")
    elif old != new:
        if isinstance(old, list) and isinstance(new, list):
            lost, added = [row for row in old if row not in new], [row for row in new if row not in old]
            yield f"{path}{len(old)} rows, now {len(new)}; first of {len(lost)} lost: {lost[:1]}, added: {added[:1]}"
        else:
            yield f"{path.removesuffix('.')} was {old!r}, is {new!r}"


if __name__ == "__main__":
    raise SystemExit(main())
