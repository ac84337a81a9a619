"""Draws, verifies and writes units on the nodes of a Ray cluster.

    plan --units--> actors (an engine and verifiers each) --parts in the run folder--> lines --manifest--> ledger

A unit whose actor or node dies is drawn again by another. Both may have written parts; the manifest takes the first
line of a unit only, so each request counts exactly once.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from star_rft.errors import RunFailure, UserError
from star_rft.ledger import Ledger, write_unit
from star_rft.models import first_line
from star_rft.progress import SamplingProgress, Silent
from star_rft.runs.timing import Note, Span
from star_rft.sampling.context import Engine
from star_rft.sampling.jobs import UnitJob
from star_rft.sampling.rollout import draw_jobs
from star_rft.sampling.writer import CountedPool, VerifierPool
from star_rft.types import Model, Sample, Sampler
from verifiers.rewards import Tally
from verifiers.types import Verdict

_ERROR = re.compile(r"[\w.]*(Error|Exception|Failure|Interrupt)\b")
CONNECT_SECONDS = 10.0
MARK = ".shared"  # a file with a random text, by which an actor sees that its run folder is the same one


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that draws units. `make` loads a model into an engine and `pool` opens verifiers, both on a node.

    `batch_size` is what plans record, because no model is loaded in the process that makes them.
    """

    address: str | None
    actors: int
    cpus: float
    gpus: float
    batch_size: int
    folder: Path
    make: Callable[[Model], Sampler]
    pool: Callable[[], AbstractContextManager[VerifierPool]]

    def draw(
        self, jobs: Iterable[UnitJob], *, ledger: Ledger, watched: SamplingProgress, note: Note
    ) -> dict[str, float]:
        """Have every job drawn; return the seconds of all actors together.

        It warns where too many verdicts are unknown.

        Raises:
            RunFailure: An actor failed, or units were left undrawn.
        """
        jobs, spent = list(jobs), {"sample": 0.0, "verify": 0.0}
        tally = Tally()
        for drawn in self._drawn(jobs):
            line = drawn["line"]
            if ledger.adopt(line):
                spent = {name: spent[name] + line["seconds"][name] for name in spent}
                for _ in range(line["rows"]):
                    watched.drawn(line["tokens"] // line["rows"])
                    watched.judged()
                tally.statuses.update(drawn["statuses"])
                tally.reasons.update(drawn["reasons"])
            for span in drawn["spans"]:
                note(Span(**span))
        tally.warn()
        if left := [job.unit.name for job in jobs if job.unit.name not in ledger.units()]:
            raise RunFailure(f"the cluster left {len(left)} of {len(jobs)} units undrawn, the first of them {left[0]}")
        return spent

    def _drawn(self, jobs: Sequence[UnitJob]) -> Iterator[dict[str, Any]]:
        """Yield an actor's answer for each unit: its line of the manifest, spans, and counts of its verdicts."""
        import ray
        import ray.data

        self._connect()
        (self.folder / MARK).write_text(mark := uuid4().hex)
        data = ray.data.from_items([{"job": pickle.dumps(job)} for job in jobs], override_num_blocks=len(jobs))
        drawn = data.map_batches(
            Drawer,
            fn_constructor_kwargs={"folder": self.folder.resolve(), "mark": mark, "make": self.make, "pool": self.pool},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self.actors, max_tasks_in_flight_per_actor=2),
            num_cpus=self.cpus,
            num_gpus=self.gpus,
        )
        try:
            for row in drawn.iter_rows():
                told = json.loads(row["told"])
                if "error" in told:
                    raise {"UserError": UserError, "RunFailure": RunFailure}[told["kind"]](told["error"])
                yield told
        except (ray.exceptions.RayError, ray.data.exceptions.UserCodeException) as error:
            raise _translated(error) from None

    def _connect(self) -> None:
        """Join the cluster, or start one on this machine; UserError where no node can hold an actor."""
        import ray

        if not ray.is_initialized():
            _require_answer(self.address)
            # Ray's core else writes the harmless errors of its issue 53727 to standard error, for every pool of actors.
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            try:
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            except ConnectionError as error:
                raise _no_cluster(self.address, first_line(error)) from None
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(n.get("CPU", 0) >= self.cpus and n.get("GPU", 0) >= self.gpus for n in nodes):
            there = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
            raise UserError(
                f"no node of the cluster can hold an actor of ray.cpus={self.cpus:g} and ray.gpus={self.gpus:g}: they"
                f" have {there}"
            )


class Drawer:
    """An actor: draws units with one loaded model, which it keeps until a unit needs another one."""

    def __init__(
        self,
        folder: Path,
        mark: str,
        make: Callable[[Model], Sampler],
        pool: Callable[[], AbstractContextManager[VerifierPool]],
    ) -> None:
        self._folder, self._mark, self._engine = folder, mark, Engine(make, str)
        self._opened = pool()
        self._pool = self._opened.__enter__()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Draw a unit. UserError and RunFailure are answered as texts, because Ray would wrap an exception."""
        try:
            told = self._drawn(pickle.loads(bytes(batch["job"][0])))
        except (UserError, RunFailure) as error:
            told = {"kind": "UserError" if isinstance(error, UserError) else "RunFailure", "error": str(error)}
        return {"told": [json.dumps(told)]}

    def _drawn(self, job: UnitJob) -> dict[str, Any]:
        if not (self._folder / MARK).exists() or (self._folder / MARK).read_text() != self._mark:
            host = socket.gethostname()
            raise UserError(
                f"{self._folder}: is another folder on {host}: put run_dir on a file system that all nodes share"
            )
        parts, counted, spans = _Parts(self._folder / "ledger"), CountedPool(self._pool), list[Span]()
        with Silent().sampling(job.stage, len(job.requests)) as watched:
            sampler = self._engine.sampler
            draw_jobs([job], sampler_of=sampler, pool=counted, store=parts, watched=watched, note=spans.append)
        (line,) = parts.lines
        return {
            "line": line,
            "spans": [asdict(span) for span in spans],
            "statuses": counted.tally.statuses,
            "reasons": counted.tally.reasons,
        }


class _Parts:
    """A store that writes parts and keeps their lines for the process that writes the manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[dict[str, Any]] = []

    def commit(self, unit: str, pairs: Sequence[tuple[Sample, Verdict]], *, seconds: dict[str, float]) -> None:
        self.lines.append(write_unit(self.folder, unit, pairs, seconds=seconds, tag=f"-{uuid4().hex[:12]}"))


def _require_answer(address: str | None) -> None:
    """Raise UserError where nobody listens at host:port: Ray itself would try for minutes and then exit."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():  # "auto", or no address: Ray looks itself
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, first_line(error)) from None


def _no_cluster(address: str | None, why: str) -> UserError:
    return UserError(
        f"ray.address={address!r}: no cluster is there ({why}): start one with ray start --head, or leave the key out"
        " for one of this machine alone"
    )


def _translated(error: Exception) -> RunFailure:
    """Return the error of a node in one line, without Ray's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if _ERROR.match(line)]
    return RunFailure(f"the cluster gave up: {(named or lines or [type(error).__name__])[-1]}")
