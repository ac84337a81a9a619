"""Which model families star-rft samples and trains exactly, and which it refuses: a table, measured.

    python benchmarks/architectures.py
    python benchmarks/architectures.py --only gemma2 --only mixtral
    python benchmarks/architectures.py --json architectures.json

Each family is built small with random weights and large enough an initialisation that attention, soft caps, sinks,
windows and routers decide what is written, and saved as a published checkpoint is. Columns:

- path: the sampler that takes the model, or the number of the reason why the hf engine refuses it (below the table).
- greedy: completions equal to those of `generate(do_sample=False, use_cache=False)`, one prompt at a time.
- log-probability: the largest error of a completion's, in nats a token, against a plain forward.
- training loss: the error of the first step's loss on padded rows, against a plain forward of each row alone.
- one round: sample, verify, train, evaluate; then transformers and star-rft load the checkpoint and agree.
- LoRA: one step; the merged weights are those of base and adapter.
- DPO: the first loss is ln 2, with the dropout of the published config.

Values that are wrong, and raw tracebacks (CRASH), make it exit with 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

from architecture_checks import Cell, Row, measure
from architecture_families import FAMILIES, Family
from figures import add_json_option, write_json

HEADINGS = ("family", "path", "greedy", "log-probability", "training loss", "one round", "LoRA", "DPO")
LIMIT = 600.0  # seconds a family
PRELOAD = ["architecture_checks", "trl", "star_rft.build", "star_rft.training.fit", "star_rft.training.trainer"]


def work(one: Family, log: Path, reply: Connection) -> None:
    """Measure a family in this process, whose output goes into a file, and send its row."""
    import warnings

    import torch
    import transformers

    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        reply.send(measure(one, Path(folder)))


def isolated(one: Family, limit: float = LIMIT) -> Row:
    """Measure a family in a process of its own, so that its end is not that of the others."""
    started = time.perf_counter()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = context.Process(target=work, args=(one, log, theirs))
        process.start()
        theirs.close()
        row: Row | None = None
        try:
            row = ours.recv() if ours.poll(limit) else None
            reason = f"not done within {limit:.0f} s"
        except EOFError:
            process.join()
            said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            reason = f"ended with status {process.exitcode}: {said[-1] if said else 'nothing was printed'}"
        if process.is_alive():
            process.join(5 if row else 0)
            process.kill()
        process.join()
    return row or Row.crashed(one, reason, time.perf_counter() - started)


def reason_of(cell: Cell) -> str:
    """Return a refusal or crash without what differs from family to family: class names and folders."""
    text = re.sub(r"/\S*/(base|checkpoint)\b", "MODEL", cell.text)
    text = re.sub(r"\b[A-Z]\w*(Attention|MLA)\b", "its attention", text)
    text = re.sub(r"problem \d+ has \d+ tokens", "a problem has N tokens", text)
    return re.sub(r"\b\w+For(CausalLM|ConditionalGeneration|\w*2Text)\b|\b\w+LMHeadModel\b", "the model", text)


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table, with the reasons of the refusals and crashes below it."""
    reasons: dict[str, int] = {}

    def shown(cell: Cell) -> str:
        if cell.state in ("refused", "crash"):
            kind = "refused" if cell.state == "refused" else "**CRASH**"
            return f"{kind} ({reasons.setdefault(reason_of(cell), len(reasons) + 1)})"
        text = cell.text.replace("|", r"\|").replace("\n", " ")
        return f"**WRONG**: {text}" if cell.state == "wrong" else text

    body = [[row.family, *map(shown, row.cells.values())] for row in rows]
    widths = [max(len(line[i]) for line in [list(HEADINGS), *body]) for i in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in [list(HEADINGS), ["-" * width for width in widths], *body]
    ]
    notes = [f"- {row.family}: {note}." for row in rows for note in row.notes]
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in reasons.items()), "", *notes])


def counts(rows: Sequence[Row]) -> str:
    """Return how many families there are of each kind, in one line."""
    faults = [row.family for row in rows if row.is_at_fault]
    exact = sum(row.cells["path"].state == "ok" and not row.is_at_fault for row in rows)
    refused = len(rows) - exact - len(faults)
    said = f"; at fault: {', '.join(faults)}" if faults else ""
    return f"{len(rows)} families: {exact} exact, {refused} refused by the hf engine, {len(faults)} at fault{said}"


def chosen(names: Sequence[str] | None) -> list[Family]:
    unknown = sorted(set(names or ()) - {one.name for one in FAMILIES})
    if unknown:
        raise SystemExit(f"no family {', '.join(unknown)}: --list names them all")
    return [one for one in FAMILIES if not names or one.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="a family; may be given several times")
    parser.add_argument("--list", action="store_true", help="print the names of the families")
    parser.add_argument("--jobs", type=int, default=2, help="families at once, each with one thread")
    add_json_option(parser)
    arguments = parser.parse_args()
    families = chosen(arguments.only)
    if arguments.list:
        print("\n".join(one.name for one in families))
        return
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    multiprocessing.set_forkserver_preload(PRELOAD)
    started, rows = time.perf_counter(), []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for row in pool.map(isolated, families):
            rows.append(row)
            seen = ", ".join(f"{name} {cell.text}" for name, cell in row.cells.items() if cell.state != "none")
            print(f"{len(rows)}/{len(families)} {row.family} ({row.seconds:.0f} s): {seen}", file=sys.stderr)
    notes = [f"{time.perf_counter() - started:.0f} s, {arguments.jobs} at once", counts(rows)]
    stored = [asdict(row) for row in rows]
    if not write_json(arguments.json, [], packages=["torch", "transformers", "trl", "peft"], notes=notes, rows=stored):
        print(table(rows))
        print("\n".join(notes))
    if any(row.is_at_fault for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
