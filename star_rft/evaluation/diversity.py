"""Diversity of a round's train samples, and the share of saturated problems.

A policy that trains on its own samples concentrates on few of them: it solves the same problems with fewer distinct
solutions, and pass@k falls behind pass@1. Samples with a hint are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

N_GRAM = 4  # words: long enough to show phrasing instead of vocabulary

# One row a problem of the round: counts, mean tokens, and the entropy of its answers.
# With v votes for each answer and V votes in all, p = v / V and -sum p ln p = ln V - (sum v ln v) / V.
# Fractions are rounded to decimals of nine places before they are added: a sum of doubles depends on the order in which
# threads add, and a resumed run must get exactly the same figures.
_PROMPTS = """
with answered as (
    select problem_id, status, equation_key, tokens,
        -- Correct answers count as one answer, however they are written, as in a majority vote.
        case when status = 'correct' then struct_pack(right := true, said := '')
            when answer is not null then struct_pack(right := false, said := answer) end as answer
    from traces where split = 'train' and round = $round_index and not hinted
), counted as (
    select problem_id, count(*) as n, sum(tokens) as tokens,
        count(*) filter (status = 'correct') as correct,
        count(*) filter (status = 'incorrect') as incorrect,
        count(distinct equation_key) filter (status = 'correct') as distinct_solutions
    from answered group by problem_id
), ballots as (
    select problem_id, answer, count(*) as votes from answered where answer is not null group by problem_id, answer
), entropies as (
    select problem_id,
        (ln(sum(votes)) - sum((votes * ln(votes))::decimal(38, 12))::double / sum(votes))::decimal(18, 9) as entropy
    from ballots group by problem_id
)
"""

_FIGURES = """
select count(*), sum(n), sum(tokens) / sum(n), avg(distinct_solutions),
    avg((distinct_solutions / nullif(correct, 0))::decimal(18, 9)), avg(entropy),
    avg((correct = n)::int), avg((incorrect = n)::int)
from counted left join entropies using (problem_id)
"""

# Of the first samples of some problems, drawn by a hash: the share of distinct word n-grams of each problem.
_WORDS = """
with drawn as (
    select distinct problem_id from samples where split = 'train' and round = $round_index and not hinted
    order by md5(concat($seed, ' ', problem_id)), problem_id limit $problems
), texts as (
    select problem_id, string_split_regex(trim(lower(text)), '\\s+') as words
    from samples semi join drawn using (problem_id) where split = 'train' and round = $round_index and not hinted
    qualify row_number() over (partition by problem_id order by sample_index, sample_id) <= $samples
), grams as (
    select problem_id, unnest([words[i : i + $n - 1] for i in range(1, len(words) - $n + 2)]) as gram from texts
), shares as (
    select problem_id, (count(distinct gram) / count(*))::decimal(18, 9) as share from grams group by problem_id
)
select avg(share), count(*) from shares
"""


def diversity(
    con: duckdb.DuckDBPyConnection, *, round_index: int, problems: int = 256, samples: int = 32, seed: int = 0
) -> dict[str, float]:
    """Return figures of a round's train samples; none where there are no samples.

    Over all problems of the round:

    - `problems`, `samples`, `tokens` (mean length of a completion)
    - `distinct_solutions`: distinct equation lists among a problem's correct samples, mean over problems
    - `distinct_solutions_per_correct`: the same as a share of its correct samples, mean over problems that have any
    - `answer_entropy`: -sum p ln p in nats over a problem's answers, mean over problems that have answers; correct
      answers count as one answer, and samples without an answer are left out
    - `all_correct_share`, `all_incorrect_share`, `saturated_share` (their sum): the share of problems whose
      samples are all correct, or all incorrect. Such a problem does not show which trace is better.

    Over a sample of problems, so that the time is bounded: `distinct_ngrams` is the share of distinct ones among the
    word 4-grams of a problem's samples (distinct-n, Li et al. 2016, arXiv 1510.03055), mean over `ngram_problems`
    problems. Problems whose samples have fewer than four words are left out.

    The figures depend on the number of samples a problem, except `saturated_share` and its two parts: compare rounds
    of equal n. Figures without a value are left out.

    Args:
        con: A connection of `Ledger.connect`.
        round_index: The round.
        problems: How many problems n-grams are counted of, drawn by a hash of the seed.
        samples: How many samples of each of these, the first ones.
        seed: Of the drawing.
    """
    found = _row(con, _PROMPTS + _FIGURES, round_index=round_index)
    if found[0] == 0:
        return {}
    count, n, tokens, distinct_solutions, distinct_solutions_per_correct, entropy, right, wrong = found
    drawn = {"problems": problems, "samples": samples, "seed": str(seed), "n": N_GRAM}
    ngrams, ngram_problems = _row(con, _WORDS, round_index=round_index, **drawn)
    figures = {
        "problems": count,
        "samples": n,
        "tokens": tokens,
        "distinct_solutions": distinct_solutions,
        "distinct_solutions_per_correct": distinct_solutions_per_correct,
        "answer_entropy": entropy,
        "all_correct_share": right,
        "all_incorrect_share": wrong,
        "saturated_share": right + wrong,
        "distinct_ngrams": ngrams,
        "ngram_problems": ngram_problems,
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


def _row(con: duckdb.DuckDBPyConnection, query: str, **values: Any) -> tuple[Any, ...]:
    (row,) = con.execute(query, values).fetchall()
    return tuple(row)
