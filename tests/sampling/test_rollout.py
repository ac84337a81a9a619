"""Units are drawn, verified and committed side by side: what may go wrong with whom, and what is kept then."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from star_rft.errors import RunFailure
from star_rft.ledger import Ledger
from star_rft.progress import Silent
from star_rft.runs.timing import Span
from star_rft.sampling import writer
from star_rft.sampling.plan import POLICY, PlanSpec, Unit, plan_table, read_plan, write_plan
from star_rft.sampling.rollout import draw_jobs
from star_rft.types import Completion, Decoding, Problem, Request, Sampler
from tests.small_jobs import jobs_for
from verifiers.types import Verdict

DECODING = Decoding(temperature=1.0, max_tokens=4)
PROBLEMS = {name: Problem(name, name, "1", "exact") for name in ("a", "b", "c", "d")}


class Says:
    """A sampler that answers every request, after `before` has had its say."""

    def __init__(self, before: Callable[[Request], object] = lambda request: None) -> None:
        self.before = before

    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        for request in requests:
            self.before(request)
            yield Completion(request, "1", (1,), "stop", -1.0)

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        return 0

    def close(self) -> None: ...


class Judge:
    """A pool that takes its time, or fails, at a given item."""

    def __init__(self, at: Callable[[int], object] = lambda count: None) -> None:
        self.at, self.count = at, 0

    def verify_iter(self, pairs: Iterator[tuple[str, Any]]) -> Iterator[Verdict]:
        for _ in pairs:
            self.count += 1
            self.at(self.count)
            yield Verdict("correct", 1.0, "1", "match", "exact", "1", 0.01)


def units_of(folder: Path, *, unit_size: int = 2, each: int = 2) -> list[Unit]:
    asking = PlanSpec(1, "train", POLICY, [DECODING.id], [0])
    table = plan_table(list(PROBLEMS), asking, counts=each, run_seed=0, unit_size=unit_size)
    write_plan(folder / "plan.parquet", [table])
    return read_plan(folder / "plan.parquet")


def drawn(
    folder: Path, sampler: Sampler, pool: writer.VerifierPool, *, note: Callable[[Span], None] = lambda span: None
) -> Ledger:
    ledger = Ledger(folder, is_writer=True)
    with Silent().sampling("sampling", 8) as watched:
        ledger.record_decoding(DECODING)
        committed = ledger.units()
        left = [unit for unit in units_of(folder) if unit.name not in committed]
        jobs = jobs_for(left, PROBLEMS, DECODING)
        draw_jobs(jobs, sampler_of=lambda model: sampler, pool=pool, store=ledger, watched=watched, note=note)
    return ledger


def committed(folder: Path) -> int:
    return len(Ledger(folder, is_writer=True).units())


def raises(error: BaseException, *, at: int) -> Callable[[object], None]:
    seen: list[object] = []

    def raise_at(item: object) -> None:
        seen.append(item)
        if len(seen) == at:
            raise error

    return raise_at


def test_every_unit_is_committed_with_its_verdicts(tmp_path: Path) -> None:
    ledger = drawn(tmp_path, Says(), Judge())
    assert [line["rows"] for line in ledger.units().values()] == [2, 2, 2, 2]
    rows = ledger.connect().execute("select problem_id, sample_index, status from traces order by all").fetchall()
    assert rows == [(name, sample_index, "correct") for name in PROBLEMS for sample_index in range(2)]
    assert ledger.connect().execute("select decode_id from decodings").fetchall() == [(DECODING.id,)]


def test_the_sampler_goes_on_while_a_verdict_takes_its_time(tmp_path: Path) -> None:
    all_drawn = threading.Event()
    asked: list[Request] = []

    def ask(request: Request) -> None:
        asked.append(request)
        if len(asked) == 8:
            all_drawn.set()

    def wait_for_the_sampler(count: int) -> None:
        assert all_drawn.wait(20)

    drawn(tmp_path, Says(ask), Judge(wait_for_the_sampler))
    assert committed(tmp_path) == 4


def test_a_sampler_that_is_too_far_ahead_waits_and_the_timeline_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "AHEAD", 1)
    spans: list[Span] = []
    drawn(tmp_path, Says(), Judge(lambda count: time.sleep(0.05)), note=spans.append)
    blocked = sum(span.blocked for span in spans if span.resource == "model")
    assert 0.2 < blocked < 2
    assert {span.resource for span in spans} == {"model", "verifier", "writer"}
    assert sum(span.busy for span in spans if span.resource == "verifier") == pytest.approx(0.08)


def test_whole_units_are_kept_when_the_sampler_fails(tmp_path: Path) -> None:
    with pytest.raises(RunFailure, match="the engine died"):
        drawn(tmp_path, Says(raises(RunFailure("the engine died"), at=6)), Judge(lambda count: time.sleep(0.02)))
    assert committed(tmp_path) == 2


def test_what_fails_beside_the_sampler_ends_the_drawing(tmp_path: Path) -> None:
    with pytest.raises(RunFailure, match="no verifier left"):
        drawn(tmp_path, Says(lambda request: time.sleep(0.02)), Judge(raises(RunFailure("no verifier left"), at=3)))
    assert committed(tmp_path) == 1


def test_what_fails_beside_a_sampler_that_is_far_ahead_ends_the_drawing_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "AHEAD", 1)
    asked: list[Request] = []
    with pytest.raises(OSError, match="no space"):
        drawn(tmp_path, Says(asked.append), Judge(raises(OSError("no space"), at=1)))
    assert len(asked) < 8


def test_who_stops_does_not_wait_for_verdicts(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path, Says(raises(KeyboardInterrupt(), at=4)), Judge(lambda count: time.sleep(1.0)))
    assert time.monotonic() - began < 4
    assert committed(tmp_path) <= 1


def test_who_stops_while_the_last_verdicts_come_does_not_wait_either(tmp_path: Path) -> None:
    def stop_after_all_was_drawn(count: int) -> None:
        if count == 1:
            time.sleep(0.3)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(1.0)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path, Says(), Judge(stop_after_all_was_drawn))
    assert time.monotonic() - began < 4


class Backwards(Says):
    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        return super().sample(requests[::-1], decoding=decoding)


def test_a_part_has_its_rows_in_one_order_however_they_were_finished(tmp_path: Path) -> None:
    parts = []
    for sampler in (Says(), Backwards()):
        ledger = drawn(tmp_path / type(sampler).__name__, sampler, Judge())
        files = [samples for samples, _ in ledger.files("samples", "verdicts")]
        parts.append([pq.read_table(file, columns=["problem_id", "sample_index"]) for file in files])
    assert parts[0] == parts[1]


class Twice(Says):
    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        first, *_ = super().sample(requests, decoding=decoding)
        yield from (first, first)


class Short(Says):
    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        return super().sample(requests[1:], decoding=decoding)


@pytest.mark.parametrize(("sampler", "says"), [(Twice(), "twice"), (Short(), "left 1 of 2 requests")])
def test_a_sampler_that_does_not_answer_each_request_once_is_found_out(
    tmp_path: Path, sampler: Sampler, says: str
) -> None:
    with pytest.raises(RunFailure, match=says):
        drawn(tmp_path, sampler, Judge())
    assert committed(tmp_path) == 0
