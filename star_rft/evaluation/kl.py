"""KL divergence of a policy from the model of round 0, in nats a token, and the change of its samples' length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, isfinite
from typing import TYPE_CHECKING, Any

from star_rft.errors import RunFailure, UserError
from star_rft.models import device_of, load
from star_rft.models.ends import Stops
from star_rft.models.limits import longest_sequence
from star_rft.models.spec import AnyModel, ModelSpec
from star_rft.scorers.likelihood import by_length, pad
from star_rft.training.dataset import PrompterLike, Row, example_of, reference_examples
from star_rft.types import Example, Problem, Split, digest

if TYPE_CHECKING:
    import duckdb
    import torch

TRACES = 64  # that a divergence is the mean of
# Of one model's float32 values (positions, vocabulary) at once: of a batch's logits, unless a single sequence has more,
# and of the chunks in which divergences are computed.
CHUNK_BYTES = 64 * 2**20


def kl_to_base(policy: AnyModel, base: AnyModel, items: Mapping[str, Sequence[Example]]) -> dict[str, float]:
    """Return the mean KL(policy || base) in nats a token over the completions of each named list.

    At each completion token t the divergence is computed over the whole vocabulary, at temperature 1:
    sum_v p(v | x, y_<t) ln(p(v | x, y_<t) / q(v | x, y_<t)). Over the policy's own samples, its sum along a completion
    estimates KL(policy || base) of whole completions, with less variance than ln(p/q) of the drawn tokens. Over
    reference solutions it measures how the policy changed on texts that it did not write.

    Both models are in memory at the same time.

    Args:
        policy: The trained model; a path alone is loaded by the defaults of `ModelSpec`.
        base: The model of round 0.
        items: Prompts with completions, by the name of a list.

    Returns:
        A figure a list; lists without tokens are left out. Items longer than a model's positions do not count.

    Raises:
        UserError: The two models have different vocabularies.
        RunFailure: A divergence is not finite.
    """
    if policy == base:
        return {name: 0.0 for name, some in items.items() if some}
    spec = ModelSpec.of(policy)
    found = _of_loaded(spec, ModelSpec.of(base), items)
    if device_of(spec.device).type == "cuda":
        import torch

        torch.cuda.empty_cache()
    return found


def _of_loaded(policy: ModelSpec, base: ModelSpec, items: Mapping[str, Sequence[Example]]) -> dict[str, float]:
    """Load both models and compute the divergences; on return no reference to the models is left."""
    (policy_model, policy_tokenizer), (base_model, base_tokenizer) = load(policy), load(base)
    if policy_tokenizer.get_vocab() != base_tokenizer.get_vocab():
        raise UserError(f"{policy.path} has another vocabulary than {base.path}: their next tokens cannot be compared")
    found = {}
    for name, some in items.items():
        if (kl := mean_kl(policy_model, base_model, some)) is not None:
            if not isfinite(kl):
                raise RunFailure(f"{policy.path}: its divergence from {base.path} is {kl}")
            found[name] = kl
    return found


def mean_kl(policy: Any, base: Any, items: Sequence[Example], *, batch_tokens: int | None = None) -> float | None:
    """Return the mean KL(policy || base) of two loaded models over all completion tokens; None without tokens."""
    widths = [model.get_output_embeddings().weight.shape[0] for model in (policy, base)]
    if widths[0] != widths[1]:
        raise UserError(f"the policy predicts {widths[0]} tokens and the base {widths[1]}: they cannot be compared")
    limits = [longest_sequence(model.config).tokens for model in (policy, base)]
    limit = min((tokens for tokens in limits if tokens is not None), default=None)
    rows = [([*item.prompt_ids], [*item.completion_ids]) for item in items]
    rows = [
        (prompt, completion) for prompt, completion in rows if limit is None or len(prompt) + len(completion) <= limit
    ]
    chunk = max(1, CHUNK_BYTES // (4 * widths[0]))
    lengths = [len(prompt) + len(completion) for prompt, completion in rows]
    sums: list[float] = []
    tokens = 0
    for batch in by_length(lengths, batch_tokens=batch_tokens or chunk):
        divergences = _divergences(policy, base, [rows[i] for i in batch], chunk=chunk)
        sums += [float(kl_T.sum()) for kl_T in divergences]
        tokens += sum(len(kl_T) for kl_T in divergences)
    return fsum(sums) / tokens if tokens else None


def _divergences(
    policy: Any, base: Any, rows: Sequence[tuple[list[int], list[int]]], *, chunk: int
) -> list[torch.Tensor]:
    """Return the divergence at each completion token, a float64 tensor (T,) a row."""
    import torch

    found = []
    with torch.inference_mode():
        inputs = pad([prompt + completion for prompt, completion in rows], pad_id=0, device=policy.device)
        p_B_T_V, q_B_T_V = (model(**inputs, use_cache=False).logits for model in (policy, base))
        for row, (prompt, completion) in enumerate(rows):
            first = max(len(prompt), 1)  # the first token has no prediction
            p_T_V, q_T_V = (x[row, first - 1 : len(prompt) + len(completion) - 1] for x in (p_B_T_V, q_B_T_V))
            parts = [_kl(p, q) for p, q in zip(p_T_V.split(chunk), q_T_V.split(chunk), strict=True)]
            found.append(torch.cat(parts).double().cpu() if parts else torch.zeros(0, dtype=torch.float64))
    return found


def _kl(p_T_V: torch.Tensor, q_T_V: torch.Tensor) -> torch.Tensor:
    log_p_T_V, log_q_T_V = p_T_V.float().log_softmax(-1), q_T_V.float().log_softmax(-1)
    return (log_p_T_V.exp() * (log_p_T_V - log_q_T_V)).sum(-1)


def own_samples(
    con: duckdb.DuckDBPyConnection,
    *,
    round_index: int,
    split: Split,
    model: str,
    problems: Mapping[str, Problem],
    prompter: PrompterLike,
    stops: Stops | None = None,
    traces: int = TRACES,
    seed: int = 0,
) -> list[Example]:
    """Return random samples of one model in a round, with the tokens that it sampled. Those with a hint are left out.

    The held-out samples of a round are of the policy that the round trained; its train samples are of the policy that
    it began with.

    Args:
        con: A connection of `Ledger.connect`.
        round_index: The round.
        split: Of the samples.
        model: Hash of the model's weights, as in the column `model`.
        problems: The problems of the split, by id.
        prompter: Renders and tokenises.
        stops: What ended the completions; None: the model's own end tokens.
        traces: The largest number of traces to draw.
        seed: They are drawn by a hash of this and their id.
    """
    rows = con.execute(
        "select problem_id, text, token_ids, finish_reason, ids_are_sampled"
        " from samples where split = ? and round = ? and model = ? and not hinted"
        " order by md5(concat(?, ' ', sample_id)), sample_id limit ?",
        [split, round_index, model, str(seed), traces],
    ).fetchall()
    drawn = (
        Row("trace", problems[pid], text, ids if is_sampled else None, finish_reason=finish_reason)
        for pid, text, ids, finish_reason, is_sampled in rows
    )
    return [example_of(row, prompter=prompter, stops=stops) for row in drawn]


def reference_solutions(
    problems: Sequence[Problem], *, prompter: PrompterLike, traces: int = TRACES, seed: int = 0
) -> list[Example]:
    """Return `traces` reference solutions at most, drawn by a hash of the seed and the problem's id."""
    with_solution = [problem for problem in problems if problem.solution is not None]
    # The label is part of the hash: another one would draw other solutions than earlier runs did.
    drawn = sorted(with_solution, key=lambda problem: digest("drift", seed, problem.id))[:traces]
    return reference_examples(drawn, prompter=prompter)


def length_change(con: duckdb.DuckDBPyConnection, *, round_index: int, split: Split) -> dict[str, float]:
    """Return the mean tokens of a completion in this round, in the first round that sampled the split, and their ratio.

    On held-out splits the first round is that of the base. Empty where this round has no samples of the split.
    """
    means = con.execute(
        "select round, sum(tokens) / count(*) from samples where split = ? and not hinted and round <= ?"
        " group by round order by round",
        [split, round_index],
    ).fetchall()
    if not means or means[-1][0] != round_index:
        return {}
    (first, then), now = means[0], means[-1][1]
    figures = {"tokens": now, "first_round": first, "first_tokens": then}
    return {name: float(value) for name, value in figures.items()} | ({"ratio": now / then} if then else {})
