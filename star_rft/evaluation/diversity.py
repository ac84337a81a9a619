"""Measures how varied a round's train samples are, and how many problems are saturated.

A policy that trains on its own samples gets surer of them: it solves the same problems in fewer ways, and pass@k falls
behind pass@1. Samples with a hint are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

N_GRAM = 4  # words: long enough to be phrasing and not vocabulary

# What a round's samples of each problem came to. Fractions are added as decimals, to nine places: the sum of doubles
# depends on the order in which threads add, and a resumed run must come to the very same figures.
_PROMPTS = """
with answered as (
    select problem_id, status, equation_key, tokens,
        -- Right answers are one answer, however they are written, as in a majority vote.
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
    """Return figures of a round's train samples; empty without samples, and a figure is left out that has no value.

    Over all problems, in one pass over the round's traces:

    - `problems`, `samples`, `tokens` (mean length of a completion)
    - `distinct_solutions`: distinct equation lists among a problem's correct samples, mean over problems
    - `distinct_solutions_per_correct`: the same as a share of its correct samples, mean over problems that have any
    - `answer_entropy`: of a problem's answers, -sum p ln p in nats, mean over problems that were answered; right
      answers are one answer, and a sample without an answer has no say
    - `all_correct_share`, `all_incorrect_share`, `saturated_share` (their sum): the share of problems whose
      samples were all correct, or all incorrect. Such a problem says nothing about which trace is better.

    On a bounded part, so that it costs the same for a million traces: `distinct_ngrams` is the share of distinct ones
    among the word 4-grams of a problem's samples (distinct-n, Li et al. 2016, arXiv 1510.03055), mean over
    `ngram_problems` problems: `problems` of them in the order of a hash of the seed, with the first `samples` samples
    of each; a problem whose samples have fewer than four words has no share.

    All but `saturated_share` and its two parts fall with more samples a problem, so compare rounds of equal n.
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
