"""The columns of a run's tables; docs/ledger.md explains each."""

from __future__ import annotations

import pyarrow as pa

SAMPLES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("problem_id", pa.string()),
        ("split", pa.string()),
        ("round", pa.int32()),
        ("sample_index", pa.int32()),
        ("model", pa.string()),
        ("decode_id", pa.string()),
        ("prompt_sha", pa.string()),
        ("seed", pa.uint64()),
        ("hinted", pa.bool_()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("tokens", pa.int32()),
        ("finish_reason", pa.string()),
        ("logprob", pa.float64()),
        ("leaks_hint", pa.bool_()),
        ("ids_are_sampled", pa.bool_()),
    ]
)
VERDICTS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("verifier", pa.string()),
        ("version", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("answer", pa.string()),
        ("reason", pa.string()),
        ("verify_seconds", pa.float64()),
        ("text_key", pa.string()),
        ("equation_key", pa.string()),
        ("program_key", pa.string()),
        ("invalid_steps", pa.int32()),
        ("key_version", pa.int32()),
        ("ordinal", pa.int32()),
    ]
)
SCORES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("scorer", pa.string()),
        ("scorer_version", pa.string()),
        ("score", pa.float64()),
        ("status", pa.string()),
        ("ordinal", pa.int32()),
    ]
)
PROBLEMS = pa.schema(
    [(name, pa.string()) for name in ("split", "id", "prompt", "reference", "verifier", "solution", "meta")]
)
SELECTION = pa.schema(
    [
        ("in_round", pa.int32()),
        ("sample_id", pa.string()),
        ("problem_id", pa.string()),
        ("is_selected", pa.bool_()),
        ("why", pa.string()),
        ("duplicate_of", pa.string()),
        ("weight", pa.float64()),
    ]
)
PREFERENCES = pa.schema(
    [
        ("in_round", pa.int32()),
        ("preference", pa.int64()),
        ("problem_id", pa.string()),
        ("place", pa.int32()),
        ("sample_id", pa.string()),
        ("score", pa.float64()),
    ]
)
FLAGGED = pa.schema(
    [
        ("in_round", pa.int32()),
        ("sample_id", pa.string()),
        ("problem_id", pa.string()),
        ("kind", pa.string()),
        ("detail", pa.string()),
    ]
)
DECODINGS = pa.schema(
    [
        ("decode_id", pa.string()),
        ("backend", pa.string()),
        ("backend_version", pa.string()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("top_k", pa.int32()),
        ("max_tokens", pa.int32()),
        ("stop", pa.list_(pa.string())),
        ("stop_token_ids", pa.list_(pa.int32())),
    ]
)
ROUNDS = pa.schema(
    [
        ("round", pa.int32()),
        ("pass_at_1", pa.float64()),
        ("problems", pa.int64()),
        ("samples", pa.int64()),
        ("correct", pa.int64()),
        ("unknown", pa.int64()),
        ("selected", pa.int64()),
        ("coverage", pa.float64()),
        ("unsolved", pa.int64()),
        ("tokens", pa.int64()),
        ("metrics", pa.string()),
    ]
)
HISTORY = pa.schema(
    [
        ("problem_id", pa.string()),
        ("samples", pa.int32()),
        ("correct", pa.int32()),
        ("unknown", pa.int32()),
        ("truncated", pa.int32()),
        ("distinct", pa.int32()),
        ("tokens", pa.int64()),
        ("hinted", pa.int32()),
        ("hinted_correct", pa.int32()),
        ("foreign", pa.int32()),
        ("foreign_correct", pa.int32()),
        ("transition", pa.string()),
        ("samples_now", pa.float64()),
        ("correct_now", pa.float64()),
        ("unknown_now", pa.float64()),
        ("truncated_now", pa.float64()),
        ("pass_mean", pa.float64()),
        ("pass_low", pa.float64()),
        ("pass_high", pa.float64()),
        ("pass_rate_at_most", pa.float64()),
    ]
)
# Discounted counts that classes are computed from; FRONTIER does not store them.
NOT_STORED = ("samples_now", "correct_now", "unknown_now", "truncated_now")
FRONTIER = pa.schema(
    [
        ("in_round", pa.int32()),
        ("problem_id", pa.string()),
        ("class", pa.string()),
        *(field for field in HISTORY if field.name not in ("problem_id", *NOT_STORED)),
        ("other_answer", pa.string()),
        ("other_votes", pa.int32()),
        ("reference_votes", pa.int32()),
        ("all_votes", pa.int32()),
        ("label_error_probability", pa.float64()),
    ]
)
