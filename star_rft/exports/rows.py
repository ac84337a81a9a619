"""The rows of an export: each example or preference that rounds trained on, as text with its prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from star_rft.data import Prompter
from star_rft.selection.candidates import candidates
from star_rft.selection.preferences import rank
from star_rft.training.dataset import CorpusSpec, Row, completion_of, ranked, rows
from star_rft.types import Problem

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Material:
    """The data and the prompts of a run. `has_quarantine`: suspected label errors were left out of its training."""

    con: duckdb.DuckDBPyConnection
    spec: CorpusSpec
    prompter: Prompter
    has_quarantine: bool

    def of_round(self, round_index: int) -> CorpusSpec:
        """Return what a round's training set was built from."""
        return replace(self.spec, quarantined=quarantined(self, round_index))


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """A completion that a round imitated. `prompt` is the text that the model saw, special tokens in it."""

    round: int
    row: Row
    prompt: str


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Two completions of one problem with unequal scores, the better one first."""

    round: int
    prompt: str
    chosen: Row
    rejected: Row
    scores: tuple[float, float]


@dataclass(slots=True)
class Tally:
    """Counts of what was exported, for the card. `too_long` counts completions left out, as training left them out.

    Tokens are the model's own, with the end of the sequence; of a preference both completions count.
    """

    rows: int = 0
    too_long: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    weights: set[float] = field(default_factory=set)
    problems: set[str] = field(default_factory=set)

    def add(self, problem_id: str, prompt: int, completion: int, *, kind: str = "trace", weight: float = 1.0) -> None:
        """Count a row; `prompt` and `completion` are its numbers of tokens."""
        self.rows += 1
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.kinds[kind] += 1
        self.problems.add(problem_id)
        if len(self.weights) < 2:  # enough for `is_weighted`; a million different scores would fill the memory
            self.weights.add(weight)

    @property
    def is_weighted(self) -> bool:
        """Whether any row has another weight than 1."""
        return self.weights not in (set(), {1.0})


def imitated(material: Material, *, round_index: int, max_tokens: int, tally: Tally) -> Iterator[ExampleRow]:
    """Yield the examples of a round's supervised training, in the order of its corpus."""
    prompt_of, stops = _prompts(material.prompter), material.spec.origin.stops
    found = rows(material.con, material.of_round(round_index), round_index=round_index)
    for row in found:
        prompt, length = prompt_of(row.problem)
        tokens = len(completion_of(row, material.prompter, stops))
        if length + tokens > max_tokens:
            tally.too_long += 1
            continue
        tally.add(row.problem.id, length, tokens, kind=row.kind, weight=row.weight)
        yield ExampleRow(round_index, row, prompt)


def compared(material: Material, *, round_index: int, max_tokens: int | None, tally: Tally) -> Iterator[PreferenceRow]:
    """Yield every pair of unequal scores of a round's preferences: what DPO and RSO train on, and RRHF's lists hold."""
    prompt_of, stops = _prompts(material.prompter), material.spec.origin.stops
    for places in ranked(material.con, material.spec, round_index=round_index):
        problem = places[0][1].problem
        prompt, length = prompt_of(problem)
        sized = [(score, row, len(completion_of(row, material.prompter, stops))) for score, row in places]
        kept = [place for place in sized if max_tokens is None or length + place[2] <= max_tokens]
        tally.too_long += len(sized) - len(kept)
        for (better, chosen, first), (worse, rejected, second) in combinations(kept, 2):
            if better > worse:
                tally.add(problem.id, length, first + second, kind="pair")
                yield PreferenceRow(round_index, prompt, chosen, rejected, (better, worse))


def _prompts(prompter: Prompter) -> Callable[[Problem], tuple[str, int]]:
    """Return a function from a problem to its prompt and number of tokens; it caches the last problem's."""
    last: tuple[str, str, int] = ("", "", 0)

    def prompt_of(problem: Problem) -> tuple[str, int]:
        nonlocal last
        if last[0] != problem.id:
            prompt = prompter.render(problem)
            last = (problem.id, prompt, len(prompter.prompt_ids(prompt)))
        return last[1:]

    return prompt_of


def set_against_incorrect(
    con: duckdb.DuckDBPyConnection,
    *,
    rounds: Sequence[int],
    candidates_of: str,
    seed: int,
    limit: int,
    scorer_decides: bool,
) -> None:
    """Fill the view `preferences` with what the rule `pairs` would have made in rounds without preferences.

    Traces that a round selected are set against incorrect ones of their problem, at most `limit` pairs a problem;
    `candidates_of` says, as the config does, whether a round could take the traces of all rounds.
    """
    con.execute(
        "create or replace temp table made (in_round integer, preference bigint, problem_id varchar, place integer,"
        " sample_id varchar, score double)"
    )
    for round_index in rounds:
        pool = candidates(con, round_index=round_index, rounds=candidates_of, seed=seed, scorer_decides=scorer_decides)
        con.execute(
            "create or replace temp table pool as"
            " select pool.* replace (case when s.is_selected then null else s.why end as why) from pool"
            f" join (select * from selection where in_round = {int(round_index)}) s using (sample_id)"
        )
        rank(pool, of="correct_incorrect", limit=limit)
        con.execute(f"insert into made select {int(round_index)}, * from ranked")
    con.execute("create or replace temp view preferences as select * from made")


def count_of_pairs(con: duckdb.DuckDBPyConnection, rounds: Sequence[int]) -> int:
    """Return how many pairs the preferences of rounds have, those of equal scores among them."""
    listed = ", ".join(str(int(number)) for number in rounds)
    ((found,),) = con.sql(
        "select coalesce(sum(places * (places - 1) // 2), 0)::bigint from (select count(*) as places from preferences"
        f" where in_round in ({listed}) group by in_round, preference)"
    ).fetchall()
    return int(found)


def quarantined(material: Material, round_index: int) -> frozenset[str]:
    """Return the problems whose reference solutions a round left out of its training."""
    if not material.has_quarantine:
        return frozenset()
    query = "select problem_id from frontier where in_round = ? and \"class\" = 'label_error'"
    return frozenset(problem_id for (problem_id,) in material.con.execute(query, [round_index]).fetchall())


def foreign_models(con: duckdb.DuckDBPyConnection, own: range) -> list[str]:
    """Return the fingerprints of the other models that sampled; `own` are the policy's sample indices."""
    found: list[tuple[Any, ...]] = con.execute(
        "select distinct model from samples where split = 'train' and not hinted and sample_index not between ? and ?"
        " order by model",
        [own.start, own.stop - 1],
    ).fetchall()
    return [str(model) for (model,) in found]
