"""Names of the ledger in words, for readers who do not know the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Colour is never the only sign of a status.
SYMBOLS = {"correct": "\u2713", "incorrect": "\u2717", "unknown": "?"}

VERDICTS = {
    "match": "its answer is the reference's",
    "below_threshold": "its score is below the threshold",
    "mismatch": "its answer is not the reference's",
    "no_answer": "it states no final answer",
    "ambiguous": "it states no single answer",
    "truncated": "it hit the token limit before it had answered",
    "timeout": "the candidate ran out of time",
    "crash": "the candidate crashed",
    "forbidden": "the candidate did something forbidden",
    "fault": "the verifier broke: no fault of the trace",
    "undecided": "the verifier could not tell",
    "bad_reference": "the reference cannot be read",
    "no_sandbox": "there was no sandbox to run it in",
}

# Why a trace was dropped; `selected` and `duplicate` depend on more than the name.
DROPS = {
    "incorrect": "its verdict is incorrect",
    "unknown": "its verdict is unknown",
    "truncated": "it did not end by itself",
    "leaks_hint": "it gives its hint away",
    "later_sample": "a later sample than those that count",
    "duplicate": "another trace says the same",
    "over_cap": "over the cap",
    "below_top": "not among the best traces",
    "below_threshold": "its score is below the threshold",
    "below_percentile": "its score is below the percentile",
    "no_score": "it has no score",
    "no_weight": "it has no score to weigh it by",
    "rejected": "not accepted by rejection sampling",
    "too_short": "too short",
    "too_long": "too long",
    "mixed_language": "in another script than those allowed",
    "long_paragraph": "a paragraph is too long",
    "code_block": "it holds a code block",
    "invalid_step": "it states an equation that does not hold",
    "not_mixed": "all samples of the problem are right, or all wrong",
    "over_hinted_share": "enough hinted traces were selected",
    "loser": "it is the worse side of a comparison, not something to imitate",
    "quarantined": "the problem's reference is probably wrong, so it is not trained on",
    "not_drawn": "not drawn",
}

CLASSES = {
    "label_error": "its samples contradict the reference: it needs a review",
    "unseen": "the policy was never sampled",
    "unverifiable": "most verdicts are unknown: the verifier or the reference needs a fix",
    "solved": "right more often than not, for certain",
    "truncated": "most samples fail at the token limit",
    "no_survivors": "nothing was correct, in any round",
    "hard": "right less than once in five times",
    "learnable": "right and wrong samples: training learns most from these",
}

FLAGGED = {
    "no_derivation": "no equation leads to the answer",
    "underived": "no equation comes to the answer",
    "repeated": "the text goes in circles",
    "disagrees": "a second verifier disagrees",
    "invalid_step": "an equation does not hold",
}

SPLITS = {"train": "training", "dev": "held out (dev)", "test": "held out (test)", "probe": "probe"}

# The columns by which two traces can be the same, the narrowest first.
SAMENESS = {"text_key": "text", "equation_key": "list of equations", "program_key": "program"}


def plain(name: str) -> str:
    """Return a short name as words: over_cap -> over cap."""
    return name.replace("_", " ")


def decoding_words(decoding: Mapping[str, Any]) -> str:
    """Return in words how a completion was drawn; `decoding` is a row of the ledger's decodings, or empty."""
    if decoding.get("temperature") is None:
        return ""
    parts = ["greedy" if decoding["temperature"] == 0 else f"temperature {decoding['temperature']:g}"]
    if decoding["top_p"] < 1:
        parts.append(f"top-p {decoding['top_p']:g}")
    if decoding["top_k"]:
        parts.append(f"top-k {decoding['top_k']}")
    parts.append(f"at most {decoding['max_tokens']:,} tokens")
    return ", ".join(parts)
