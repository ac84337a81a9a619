"""Problems and traces as records for display: all that is known of a trace, for many problems at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_rft.frontier.label_errors import COMPLAINING
from star_rft.frontier.review import by_round
from star_rft.report.highlight import MarkedText, marked
from star_rft.report.labels import DROPS, FLAGGED, SAMENESS, VERDICTS, decoding_words, plain

if TYPE_CHECKING:
    import duckdb

# The beginning of a model's fingerprint tells the few models of a run apart.
MODEL_SHOWN = 8
# Why a trace of a split was not selected from; other splits are held out.
_NO_CHOICE = {
    "train": "not selected from yet: the round is not finished",
    "probe": "a probe: it helped to choose the temperature, and is never trained on",
}

_TRACES = """
with wanted as (select unnest($ids::varchar[]) as problem_id),
chosen as (
  select sample_id, list({in_round: in_round, is_selected: is_selected, why: why, duplicate_of: duplicate_of,
    weight: weight} order by in_round) as choices
  from selection where problem_id in (from wanted) group by sample_id
),
flags as (
  select sample_id, list({in_round: in_round, kind: kind, detail: detail} order by in_round, kind) as flags
  from flagged where problem_id in (from wanted) group by sample_id
)
select s.sample_id, s.problem_id, s.split, s.round, s.sample_index, s.model, s.hinted, s.leaks_hint, s.text, s.tokens,
  s.finish_reason, v.status, v.reason, v.answer, v.verifier, v.version, v.invalid_steps, v.text_key, v.equation_key,
  v.program_key, coalesce(x.score, v.score) as score, x.scorer, chosen.choices, flags.flags,
  d.temperature, d.top_p, d.top_k, d.max_tokens
from samples s join verdicts v using (sample_id)
left join scores x using (sample_id) left join chosen using (sample_id) left join flags using (sample_id)
left join decodings d using (decode_id)
where s.problem_id in (from wanted)
order by s.problem_id, s.round, s.split, s.hinted, s.sample_index, s.sample_id
"""

_PROBLEMS = f"""
with wanted as (select unnest($ids::varchar[]) as problem_id),
history as (
  select problem_id, list({{split: split, round: round, samples: samples, correct: correct}} order by round) as rounds
  from ({by_round("problem_id in (from wanted)")}) group by problem_id
),
text as (
  select * from problems where problem_id in (from wanted)
  qualify row_number() over (partition by problem_id order by list_position(['train', 'dev', 'test'], split)) = 1
)
select problem_id as id, text.split, prompt, reference, solution, meta, coalesce(rounds, []) as rounds
from wanted left join text using (problem_id) left join history using (problem_id)
where text.split is not null or rounds is not null
"""
_EVIDENCE = (
    "select * from frontier where problem_id in (select unnest($ids::varchar[]))"
    " and in_round = (select max(in_round) from frontier)"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a round's selection decided on a trace.

    `selected` is how many traces of the problem it selected. `duplicate` says which trace the one that `duplicate_of`
    names is, and `same` what the two have in common; both are empty where the trace is no duplicate.
    """

    in_round: int
    is_selected: bool
    why: str
    weight: float
    selected: int
    duplicate_of: str | None = None
    duplicate: str = ""
    same: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """A reason why a selected trace may be right by luck."""

    in_round: int
    kind: str
    detail: str

    @property
    def words(self) -> str:
        """The kind in words."""
        return FLAGGED.get(self.kind, plain(self.kind))


@dataclass(frozen=True, slots=True)
class Why:
    """One line of why a trace was selected or dropped.

    It is `text`, then a link to the trace `other_id` by its name `other`, if there is one, then `rest`.
    """

    is_selected: bool | None
    text: str
    other_id: str | None = None
    other: str = ""
    rest: str = ""


@dataclass(frozen=True, slots=True)
class ShownTrace:
    """A trace as it is shown. `choices` are of the rounds in which it could be selected, oldest first.

    `score` is the scorer's where `scorer` names one, else the verifier's. `is_foreign` is None if it is not known
    whether the policy drew it. `keys` are those by which duplicates are found, see `labels.SAMENESS`.
    """

    sample_id: str
    problem_id: str
    split: str
    round: int
    sample_index: int
    model: str
    hinted: bool
    leaks_hint: bool
    is_foreign: bool | None
    decoding: str
    text: str
    tokens: int
    finish_reason: str
    status: str
    reason: str
    answer: str | None
    verifier: str
    version: str
    score: float | None
    scorer: str | None
    invalid_steps: int
    keys: tuple[str, ...]
    choices: tuple[Choice, ...] = ()
    flags: tuple[Flag, ...] = ()

    @property
    def name(self) -> str:
        """What pages call it: its round and index."""
        return trace_name(self.round, self.sample_index, self.hinted)

    @property
    def why(self) -> str:
        """Why the first selection took or dropped it; empty where there was none."""
        return self.choices[0].why if self.choices else ""

    @property
    def answer_label(self) -> str:
        """What `answer` is: some verifiers put there what was wrong."""
        return "verifier says" if self.verifier in COMPLAINING else "answer read"

    @property
    def verdict_words(self) -> str:
        """The reason of the verdict in words."""
        return VERDICTS.get(self.reason, plain(self.reason))

    @property
    def trained_in(self) -> list[int]:
        """The rounds that trained on it."""
        return [choice.in_round for choice in self.choices if choice.is_selected]

    @property
    def flags_once(self) -> list[Flag]:
        """The flags, each once, where several rounds selected the trace."""
        return list({(flag.kind, flag.detail): flag for flag in self.flags}.values())

    def why_lines(self) -> list[Why]:
        """Return why it was selected or dropped, in words; a line a reason, with the rounds that it holds for."""
        if not self.choices:
            return [Why(None, _NO_CHOICE.get(self.split, "held out: it measures the model, and is never trained on"))]
        alike: dict[tuple[Any, ...], list[Choice]] = {}
        for it in self.choices:
            reason = (it.why, it.duplicate_of, it.selected if it.why == "over_cap" else 0, it.weight)
            alike.setdefault(reason, []).append(it)
        return [_why_line(found[0], _rounds([it.in_round for it in found])) for found in alike.values()]

    def marked(self) -> MarkedText:
        """Return the text with the judged answer and false equations marked."""
        return marked(self.text, answer=self.answer, verifier=self.verifier, finish_reason=self.finish_reason)


@dataclass(frozen=True, slots=True)
class RoundCount:
    """Samples without a hint of one split in one round."""

    split: str
    round: int
    samples: int
    correct: int


@dataclass(frozen=True, slots=True)
class ShownProblem:
    """A problem as it is shown. `evidence` is its row of the newest frontier, None where it has none.

    `text` is empty for a problem that the run folder no longer holds.
    """

    id: str
    split: str
    text: str
    reference: str
    solution: str | None
    meta: Mapping[str, Any]
    evidence: Mapping[str, Any] | None
    history: tuple[RoundCount, ...] = ()

    @property
    def class_name(self) -> str:
        """The class of a train problem, else empty."""
        return str(self.evidence["class"]) if self.evidence else ""


def traces_of(
    con: duckdb.DuckDBPyConnection, problem_ids: Sequence[str], *, own: range | None = None
) -> dict[str, list[ShownTrace]]:
    """Return the traces at each of these problems, of all splits, ordered by round and index.

    `con` has the ledger's views. `own` are the traces that the policy draws, where they are known: others, of the
    train split and without a hint, are foreign. A problem without traces has an empty list.
    """
    found: dict[str, list[ShownTrace]] = {problem_id: [] for problem_id in problem_ids}
    table = con.sql(_TRACES, params={"ids": list(found)}).to_arrow_table()
    rows_by_problem: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        rows_by_problem.setdefault(row["problem_id"], []).append(row)
    for problem_id, rows in rows_by_problem.items():
        found[problem_id] = _traces(rows, own)
    return found


def problems_of(con: duckdb.DuckDBPyConnection, problem_ids: Sequence[str]) -> dict[str, ShownProblem]:
    """Return these problems as records, in the given order; those that the run does not know are left out."""
    ids = {"ids": list(dict.fromkeys(problem_ids))}
    rows = {row["id"]: row for row in con.sql(_PROBLEMS, params=ids).to_arrow_table().to_pylist()}
    evidence = {row["problem_id"]: row for row in con.sql(_EVIDENCE, params=ids).to_arrow_table().to_pylist()}
    return {
        problem_id: _shown_problem(rows[problem_id], evidence.get(problem_id))
        for problem_id in ids["ids"]
        if problem_id in rows
    }


def reference_text(reference: str | None) -> str:
    """Return a reference, which the ledger holds as JSON, for people: text as it is, the rest as indented JSON."""
    if reference is None:
        return ""
    found = json.loads(reference)
    return found if isinstance(found, str) else json.dumps(found, indent=1, ensure_ascii=False)


def _shown_problem(row: Mapping[str, Any], evidence: Mapping[str, Any] | None) -> ShownProblem:
    history = tuple(RoundCount(**count) for count in row["rounds"])
    split = row["split"] or history[0].split
    return ShownProblem(
        id=row["id"],
        split=split,
        text=row["prompt"] or "",
        reference=reference_text(row["reference"]),
        solution=row["solution"],
        meta=json.loads(row["meta"]) if row["meta"] else {},
        evidence=evidence,
        history=history,
    )


def _traces(rows: Sequence[Mapping[str, Any]], own: range | None) -> list[ShownTrace]:
    """Make the traces of one problem, which duplicates and counts refer to."""
    by_id = {row["sample_id"]: row for row in rows}
    selected = Counter(choice["in_round"] for row in rows for choice in row["choices"] or () if choice["is_selected"])
    return [_trace(row, by_id, selected, own) for row in rows]


def _trace(
    row: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]], selected: Mapping[int, int], own: range | None
) -> ShownTrace:
    is_train = row["split"] == "train"
    is_foreign = None if own is None else is_train and not row["hinted"] and row["sample_index"] not in own
    same = ("problem_id", "split", "round", "sample_index", "hinted", "leaks_hint", "text", "tokens", "finish_reason")
    verdict = ("sample_id", "status", "reason", "answer", "verifier", "version", "score", "scorer", "invalid_steps")
    return ShownTrace(
        **{name: row[name] for name in (*same, *verdict)},
        model=row["model"][:MODEL_SHOWN],
        is_foreign=is_foreign,
        decoding=decoding_words(row),
        keys=tuple(row[key] for key in SAMENESS),
        choices=tuple(_choice(choice, row, by_id, selected) for choice in row["choices"] or ()),
        flags=tuple(Flag(**flag) for flag in row["flags"] or ()),
    )


def _choice(
    choice: Mapping[str, Any],
    row: Mapping[str, Any],
    by_id: Mapping[str, Mapping[str, Any]],
    selected: Mapping[int, int],
) -> Choice:
    other = by_id.get(choice["duplicate_of"])
    duplicate = same = ""
    if other is not None:
        duplicate = trace_name(other["round"], other["sample_index"], other["hinted"])
        same = next((words for key, words in SAMENESS.items() if row[key] == other[key]), "")
    return Choice(**choice, selected=selected.get(choice["in_round"], 0), duplicate=duplicate, same=same)


def _why_line(choice: Choice, rounds: str) -> Why:
    if choice.is_selected:
        weight = "" if choice.weight == 1 else f", with weight {choice.weight:.3g}"
        return Why(True, f"selected: trained on in {rounds}{weight}")
    dropped = f"dropped in {rounds}: "
    if choice.why == "duplicate" and choice.duplicate_of:
        rest = f" (the same {choice.same})" if choice.same else ""
        return Why(False, f"{dropped}duplicate of ", choice.duplicate_of, choice.duplicate or choice.duplicate_of, rest)
    if choice.why == "over_cap":
        return Why(False, f"{dropped}over the cap: {choice.selected} of this problem were selected")
    return Why(False, dropped + DROPS.get(choice.why, plain(choice.why)))


def _rounds(numbers: Sequence[int]) -> str:
    return f"round {numbers[0]}" if len(numbers) == 1 else f"rounds {', '.join(map(str, numbers))}"


def trace_name(round_index: int, sample_index: int, hinted: bool) -> str:
    """Return what a page calls a trace."""
    return f"round {round_index}, sample {sample_index}{' with a hint' if hinted else ''}"
