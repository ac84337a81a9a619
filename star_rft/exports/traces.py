"""Traces with all their columns, one a row, for jsonl and parquet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from star_rft.types import Split

if TYPE_CHECKING:
    import duckdb

Include = Literal["selected", "correct", "all"]

# What each column means, for the card; the order is that of the file.
COLUMNS: dict[str, str] = {
    "sample_id": "a hash of what the trace is",
    "problem_id": "a hash of the problem's content",
    "split": "train, or a held-out split",
    "in_round": "the round that could have trained on it (of a held-out trace: that it evaluated)",
    "round": "the round that sampled it",
    "sample_index": "which of the problem's samples of that round it is",
    "prompt": "the problem, without the template around it",
    "reference": "the answer that it was checked against",
    "text": "what the model wrote",
    "is_selected": "whether the round trained on it",
    "why": "why it was selected or dropped",
    "duplicate_of": "the trace that was selected in its place",
    "weight": "its weight in training, 0 where it was dropped",
    "class": "the problem's class after the round",
    "status": "the verdict: correct, incorrect, or unknown where the verifier failed",
    "reason": "why the verdict is what it is",
    "score": "the verifier's score",
    "answer": "the final answer that was found in the text",
    "verifier": "the verifier's name",
    "verifier_version": "its version",
    "scorer": "the model that scored, where one did",
    "scorer_score": "its score",
    "invalid_steps": "how many equations of the text do not hold",
    "tokens": "its length in tokens, with the end of the sequence",
    "finish_reason": "stop: it ended by itself; length: it was cut off",
    "logprob": "the sum of its tokens' log-probabilities at temperature 1",
    "hinted": "whether its prompt held the answer (training used the prompt without it)",
    "leaks_hint": "whether the text shows the hint",
    "model": "the fingerprint of the model that wrote it",
    "temperature": "sampling temperature; 0 is greedy",
    "top_p": "nucleus sampling; 1 is off",
    "top_k": "how many of the likeliest tokens are drawn from; 0 is all",
    "max_tokens": "most tokens of a completion",
    "stop": "strings that ended a completion",
    "backend": "the engine that drew it",
    "backend_version": "the version of that engine",
    "meta": "the problem's other columns in the data, as JSON",
}
TOKENS = {
    "token_ids": "the tokens that were sampled",
    "ids_are_sampled": "false where a server gave text only, and the tokens are those of the text",
}

_FIELDS = """
    t.sample_id, t.problem_id, t.split, coalesce(s.in_round, t.round)::integer as in_round, t.round, t.sample_index,
    t.prompt,
    -- A reference that is text is written as it is, others as JSON.
    case when json_type(t.reference) = 'VARCHAR' then json_extract_string(t.reference, '$') else t.reference end
        as reference,
    t.text, coalesce(s.is_selected, false) as is_selected, s.why, s.duplicate_of, coalesce(s.weight, 0.0) as weight,
    f."class", t.status, t.reason, t.score, t.answer, t.verifier, t.version as verifier_version,
    x.scorer, x.score as scorer_score, t.invalid_steps, t.tokens, t.finish_reason, t.logprob, t.hinted, t.leaks_hint,
    t.model, d.temperature, d.top_p, d.top_k, d.max_tokens, d.stop, d.backend, d.backend_version, t.meta
"""
_KEPT = {"selected": "s.is_selected", "correct": "t.status = 'correct'", "all": "true"}


def traces(
    con: duckdb.DuckDBPyConnection,
    rounds: Sequence[int],
    *,
    split: Split = "train",
    include: Include = "selected",
    tokens: bool = False,
    batch: int = 2048,
) -> pa.RecordBatchReader:
    """Return the traces of rounds in a fixed order, in batches.

    Of train they are the traces that a round could have trained on, each once a round; of a held-out split those that
    a round's evaluation drew.
    """
    fields = _FIELDS + (", t.token_ids, t.ids_are_sampled" if tokens else "")
    query = f"select {fields} {_source(rounds, split, include)} order by in_round, t.problem_id, t.sample_id"
    return con.sql(query).to_arrow_reader(batch)


def count(con: duckdb.DuckDBPyConnection, rounds: Sequence[int], *, split: Split, include: Include) -> int:
    """Return how many traces `traces` would yield."""
    ((found,),) = con.sql(f"select count(*) {_source(rounds, split, include)}").fetchall()
    return int(found)


def _source(rounds: Sequence[int], split: Split, include: Include) -> str:
    listed = ", ".join(str(int(number)) for number in rounds)
    if split == "train":
        taken = f"from (select * from selection where in_round in ({listed})) s join traces t using (sample_id)"
    else:
        # Nothing selects a held-out trace: the join finds none, and gives the columns their types.
        taken = f"from (select * from traces where round in ({listed})) t left join selection s using (sample_id)"
    return (
        f"{taken} left join frontier f on f.in_round = s.in_round and f.problem_id = t.problem_id"
        " left join scores x on x.sample_id = t.sample_id left join decodings d on d.decode_id = t.decode_id"
        f" where t.split = '{split}' and {_KEPT[include]}"
    )
