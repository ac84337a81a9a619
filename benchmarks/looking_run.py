"""A finished run of many traces that nobody sampled: what benchmarks/looking.py looks at.

The traces are made; all that a run derives from them is derived by the run's own code: keys apart, the selection, the
classes, the evaluation and the metrics are what the loop would have written. Rates rise from round to round; one
verdict in 300 is unknown, one trace in 16 states a false equation, some are hinted, cut off or flagged.

Imports star_rft.evaluation, star_rft.files, star_rft.frontier, star_rft.ledger, star_rft.runs, star_rft.selection:
what a run derives from its traces.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

import star_rft
from star_rft import Decoding, RoundReport
from star_rft.evaluation import evaluate
from star_rft.evaluation.diversity import diversity
from star_rft.evaluation.gate import Gate, decide, evaluated
from star_rft.files import write_table
from star_rft.frontier.classes import classify
from star_rft.ledger import FLAGGED, PROBLEMS, SAMPLES, VERDICTS, Ledger, described
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import frontier_figures, selection_figures, train_figures, write_report
from star_rft.selection.select import SelectionSpec, select

RULES: list[Any] = ["correct", {"dedup": "exact"}, {"dedup": "equations"}, {"cap": 4}]
UNIT = 2048
DEV, DEV_SAMPLES, KS = 1000, 8, (1, 4, 8)
SAMPLED, GREEDY = Decoding(1.0, 160, backend_version="5"), Decoding(0.0, 160, backend_version="5")
WAYS, SPELLINGS, WRONG_ANSWERS = 6, 2, 12
THINGS = ["apples", "pears", "coins", "stamps", "tourists", "lessons", "donuts", "kites", "marbles", "tickets"]
SPOKEN = ("Then there are", "So there are")
# Words that no text shares with the next one, so that texts are as hard to compress and to search as real ones.
SYLLABLES = ["ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wu", "za"]
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]

Ints = npt.NDArray[np.int64]


def write_run(folder: Path, *, traces: int, problems: int, rounds: int) -> None:
    """Write a finished run of `traces` train samples of `problems` problems, as many in each round."""
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(run, rounds)
    write_problems(run, problems)
    ledger = Ledger(folder, is_writer=True)
    for decoding in (SAMPLED, GREEDY):
        ledger.record_decoding(decoding)
    rng = np.random.default_rng(0)
    rate_P = rng.beta(0.7, 1.3, problems)
    each = traces // problems // rounds
    history: list[Any] = []
    for round_index in range(rounds + 1):
        if round_index:
            write_units(ledger, train_rows(round_index, rate_P, each, rng), f"r{round_index:03d}-train")
            _select(ledger, run, round_index)
        write_units(ledger, dev_rows(round_index, rng), f"r{round_index:03d}-dev")
        _record(ledger, run, round_index, problems, history)


def write_config(run: RunFolder, rounds: int) -> None:
    settled = star_rft.load_config(
        "configs/quickstart.yaml", {"rounds": rounds, "run_dir": str(run.path), "name": "large"}
    )
    run.config.write_text(yaml.safe_dump(settled.model_dump(mode="json", by_alias=True), sort_keys=False))


def write_problems(run: RunFolder, problems: int) -> None:
    rows = [
        {
            "split": split,
            "id": _problem_id(split, p),
            "prompt": f"{THINGS[p % 10].title()}, number {p}: there are {p % 97} in the morning, {p % 89} more come by"
            f" noon and each is counted {1 + p % 7} times. How many {THINGS[p % 10]} are counted in all?",
            "reference": json.dumps(str(_answer(p))),
            "verifier": "math",
            "solution": f"{p % 97} + {p % 89} = {p % 97 + p % 89}\n#### {_answer(p)}",
            "meta": json.dumps({"steps": 1 + p % 7}),
        }
        for split, count in (("train", problems), ("dev", DEV))
        for p in range(count)
    ]
    write_table(run.problems, pa.Table.from_pylist(rows, schema=PROBLEMS))


def write_units(ledger: Ledger, tables: tuple[pa.Table, pa.Table], name: str) -> None:
    """Commit a round's samples and verdicts in parts of a unit each, as a run of that size has them."""
    samples, verdicts = tables
    for number, start in enumerate(range(0, samples.num_rows, UNIT)):
        unit = f"{name}-{number:05d}"
        parts = {kind: f"{kind}/{unit}.parquet" for kind in ("samples", "verdicts")}
        for kind, table in (("samples", samples), ("verdicts", verdicts)):
            write_table(ledger.folder / parts[kind], table.slice(start, UNIT))
        part = samples.slice(start, UNIT)
        seconds = {"sample": 12.0, "verify": 0.4}
        tokens = sum(part["tokens"].to_pylist())
        ledger.adopt(described(ledger.folder, unit, parts, rows=len(part), tokens=tokens, seconds=seconds))


def _problem_id(split: str, p: int) -> str:
    return f"{(p * 2654435761 + (split == 'dev')) * 0x9E3779B97F4A7C15 % 2**64:016x}"


def _answer(p: int) -> int:
    return (p % 97 + p % 89) * (1 + p % 7)


def train_rows(
    round_index: int, rate_P: npt.NDArray[np.float64], each: int, rng: np.random.Generator, *, first: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Return samples and verdicts of the problems from number `first` on, whose pass rates these are."""
    problem_N = first + np.repeat(np.arange(len(rate_P)), each)
    right_N = rng.random(len(problem_N)) < np.repeat(np.minimum(0.98, rate_P * (1 + 0.4 * round_index)), each)
    sample_index_N = np.tile(np.arange(each), len(rate_P))
    hinted_N = (sample_index_N == each - 1) & (problem_N % 40 == 0) & (round_index > 1)
    return _rows("train", round_index, problem_N, sample_index_N, right_N, hinted_N, SAMPLED, rng)


def dev_rows(round_index: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    found = []
    for decoding, each in ((SAMPLED, DEV_SAMPLES), (GREEDY, 1)):
        problem_N = np.repeat(np.arange(DEV), each)
        right_N = rng.random(DEV * each) < 0.3 + 0.1 * round_index
        sample_index_N = np.tile(np.arange(each), DEV)
        found.append(_rows("dev", round_index, problem_N, sample_index_N, right_N, right_N & False, decoding, rng))
    return pa.concat_tables([samples for samples, _ in found]), pa.concat_tables([verdicts for _, verdicts in found])


def _rows(
    split: str,
    round_index: int,
    problem_N: Ints,
    sample_index_N: Ints,
    right_N: npt.NDArray[np.bool_],
    hinted_N: npt.NDArray[np.bool_],
    decoding: Decoding,
    rng: np.random.Generator,
) -> tuple[pa.Table, pa.Table]:
    count = len(problem_N)
    unknown_N, cut_N = rng.random(count) < 1 / 300, ~right_N & (rng.random(count) < 0.05)
    false_N = rng.random(count) < 1 / 16
    way_N, spelling_N = rng.integers(0, WAYS, count), rng.integers(0, SPELLINGS, count)
    answer_N = np.where(right_N, _answer(problem_N), 1000 + rng.integers(0, WRONG_ANSWERS, count))
    tokens_N = rng.integers(40, 120, count).astype(np.int32)
    ids = [f"{key:016x}" for key in rng.integers(0, 2**63, count)]
    status_N = np.where(unknown_N, "unknown", np.where(right_N, "correct", "incorrect"))
    wrong_N = np.where(cut_N, "truncated", np.where(rng.random(count) < 0.05, "no_answer", "mismatch"))
    same_N = problem_N * WAYS + way_N
    samples = {
        "sample_id": ids,
        "problem_id": [_problem_id(split, int(p)) for p in problem_N],
        "split": [split] * count,
        "round": np.full(count, round_index),
        "sample_index": sample_index_N,
        "model": [f"{0xABC0000000000000 + round_index:x}"] * count,
        "decode_id": [decoding.id] * count,
        "prompt_sha": ["p"] * count,
        "seed": np.arange(count).astype(np.uint64),
        "hinted": hinted_N,
        "text": list(_texts(problem_N, way_N, spelling_N, answer_N, false_N, rng)),
        "token_ids": _token_ids(tokens_N, rng),
        "tokens": tokens_N,
        "finish_reason": np.where(cut_N, "length", "stop"),
        "logprob": -0.4 * tokens_N,
        "leaks_hint": hinted_N & (rng.random(count) < 0.1),
        "ids_are_sampled": np.ones(count, bool),
    }
    verdicts = {
        "sample_id": ids,
        "verifier": ["math"] * count,
        "version": ["2"] * count,
        "status": status_N,
        "score": pa.array(right_N.astype(float), mask=unknown_N),
        "answer": [str(answer) for answer in answer_N],
        "reason": np.where(unknown_N, "undecided", np.where(right_N, "match", wrong_N)),
        "verify_seconds": np.full(count, 0.001),
        "text_key": [f"{key:016x}" for key in same_N * SPELLINGS + spelling_N],
        "equation_key": [f"{key:016x}" for key in same_N],
        "program_key": [f"{key:016x}" for key in same_N * SPELLINGS + spelling_N],
        "invalid_steps": false_N.astype(np.int32),
        "key_version": np.full(count, 2),
        "ordinal": np.full(count, 1),
    }
    return pa.table(samples).cast(SAMPLES), pa.table(verdicts).cast(VERDICTS)


def _texts(
    problem_N: Ints,
    way_N: Ints,
    spelling_N: Ints,
    answer_N: Ints,
    false_N: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Iterator[str]:
    """About 250 characters each: sums in an order that the way gives, then the answer."""
    columns = (problem_N.tolist(), way_N.tolist(), spelling_N.tolist(), answer_N.tolist(), false_N.tolist())
    words_N_W = rng.integers(0, len(WORDS), (len(problem_N), 12)).tolist()
    for p, way, spelling, answer, is_false, words in zip(*columns, words_N_W, strict=True):
        things, spoken, said = THINGS[p % 10], SPOKEN[spelling], [WORDS[word] for word in words]
        a, b, c = p % 97, p % 89, 1 + p % 7
        yield (
            f"In the morning {' '.join(said[:6])}.\n"
            f"{spoken} {a} + {b} = {a + b + is_false} {things} on the table.\n"
            f"{spoken} {way} + {a + b} = {way + a + b} {things} with those of number {p}, {' '.join(said[6:])}.\n"
            f"{spoken} {a + b} * {c} = {(a + b) * c} {things}.\n#### {answer}"
        )


def _token_ids(tokens_N: npt.NDArray[np.int32], rng: np.random.Generator) -> pa.Array:
    ends = np.concatenate([[0], np.cumsum(tokens_N)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(rng.integers(0, 4096, int(ends[-1])).astype(np.int32)))


def _select(ledger: Ledger, run: RunFolder, round_index: int) -> None:
    con = ledger.connect()
    write_table(run.frontier(round_index), classify(con, through_round=round_index))
    con = ledger.connect()
    chosen = select(con, SelectionSpec(RULES, rounds="last", has_quarantine=True), round_index=round_index)
    write_table(run.selection(round_index), chosen.traces.to_arrow_table())
    write_table(run.preferences(round_index), chosen.preferences.to_arrow_table())
    con = ledger.connect()
    kept = f"from selection s join verdicts using (sample_id) where in_round = {round_index} and is_selected"
    flagged = con.sql(
        "select in_round, sample_id, s.problem_id, 'invalid_step' as kind, 'an equation that does not hold' as detail"
        f" {kept} and invalid_steps > 0 union all"
        " select in_round, sample_id, s.problem_id, 'underived' as kind, 'no equation comes to the answer' as detail"
        f" {kept} and hash(sample_id) % 50 = 0 order by sample_id, kind"
    )
    write_table(run.flagged(round_index), flagged.to_arrow_table().cast(FLAGGED))


def _record(ledger: Ledger, run: RunFolder, round_index: int, problems: int, history: list[Any]) -> None:
    con = ledger.connect()
    rows = evaluate.per_problem(
        con, round_index=round_index, sampled_id=SAMPLED.id, greedy_id=GREEDY.id, group_by="steps"
    )
    write_table(run.eval(round_index), rows)
    past = [evaluate.read(run.eval(number), "dev") for number in range(round_index)]
    now = evaluate.read(run.eval(round_index), "dev")
    scores = evaluate.held_out_scores(
        now, split="dev", ks=KS, base=past[0] if past else None, last=past[-1] if past else None
    )
    figures: dict[str, Any] = {}
    if round_index:
        figures = train_figures(con, round_index=round_index, problems=problems, group_by="steps")
        figures |= selection_figures(con, round_index=round_index, problems=problems)
        figures |= frontier_figures(con, round_index=round_index) | {"waves": 1}
        figures["diversity"] = diversity(con, round_index=round_index, seed=0)
    history.append(evaluated(round_index, now))
    report = RoundReport(
        round=round_index,
        model=f"{0xABC0000000000001 + round_index:x}",
        problems=problems,
        held_out=scores,
        gate=asdict(decide(Gate(), round_index, history)),
        seconds={"sample": 3000.0, "verify": 90.0, "select": 9.0, "train": 900.0, "evaluate": 120.0, "other": 5.0},
        **figures,
    )
    write_report(run.metrics(round_index), report)
