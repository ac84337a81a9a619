"""One process of a launched training: `accelerate launch ... -m star_rft.training.distributed.worker FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from star_rft import processes
from star_rft.errors import UserError
from star_rft.training.distributed.launch import EVENTS, ITEMS, Job, read_examples, read_preferences
from star_rft.training.preference import fit_preferences
from star_rft.training.sft import fit


def main(folder: Path, rank: int) -> None:
    """Train the job of a folder as one rank; rank 0 writes its steps and report for the process that launched it."""
    sys.excepthook = _noted(folder, rank)
    processes.tie(folder)
    job = Job.read(folder)
    # Behind this process's own: a file of the working folder takes no library's name.
    sys.path += [path for path in job.import_paths if path not in sys.path]
    where: dict[str, Any] = {"model": job.model, "out_dir": job.out_dir, "work_dir": job.work_dir}
    if rank == 0:
        tell = _teller(folder / EVENTS)
        where |= {"on_step": lambda *step: tell({"step": step}), "say": lambda line: tell({"say": line})}
    if job.objective is None:
        report = fit(read_examples(folder / ITEMS), job.options, **where)
    else:
        report = fit_preferences(read_preferences(folder / ITEMS), job.options, objective=job.objective, **where)
    if rank == 0:
        tell({"report": asdict(report)})
    _leave()


def _teller(path: Path) -> Callable[[Mapping[str, Any]], None]:
    stream = path.open("a", buffering=1)  # a line at a time

    def tell(event: Mapping[str, Any]) -> None:
        stream.write(json.dumps(event) + "\n")
        stream.flush()

    return tell


def _noted(folder: Path, rank: int) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """Return a hook that writes what ended this process where the one that started it looks for it."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        is_user_error = isinstance(error, UserError)
        text = str(error) if is_user_error else f"{kind.__name__}: {next(iter(str(error).splitlines()), '')}"
        note = {"rank": rank, "time": time.time(), "is_user_error": is_user_error, "text": text}
        (folder / f"error-{rank}.json").write_text(json.dumps(note))
        sys.__excepthook__(kind, error, trace)

    return hook


def _leave() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(os.environ.get("RANK", "0")))
