"""What a run would do and may cost, before it does it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from star_rft.build import check_names
from star_rft.config import Config, FitConfig
from star_rft.problem_sets import check_data, load_all
from star_rft.recipes import counted, rule_text
from star_rft.types import Problem, Split

ROUNDS = {"all": "all rounds so far", "last": "the last round"}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do, before it does it."""

    problems: dict[str, int]
    samples_a_round: int
    held_out_samples: int
    rounds: int
    evaluations: int
    tokens_at_most: int
    disk_mb: float
    training: str


# Text, token ids and verdicts took 2.9 bytes a token in the ledger of the quickstart (zstd); rounded up.
LEDGER_BYTES_A_TOKEN = 4


def preview(config: Config) -> Preview:
    """Load the data, check what can be checked without a model, and add up what the run may cost."""
    check_names(config)
    problems, warm_start = load_all(config, {})
    check_data(config, problems)
    samples = _samples_a_round(config, {split: len(found) for split, found in problems.items()})
    held_out = (len(problems["dev"]) + len(problems["test"])) * (config.eval.n + int(config.eval.has_greedy))
    evaluations = len([r for r in range(config.rounds + 1) if r % config.eval.every == 0 or r == config.rounds])
    round_tokens = min(samples * config.sample.max_tokens, config.budget.tokens or math.inf)
    tokens = int(config.rounds * round_tokens) + evaluations * held_out * config.eval.max_tokens
    return Preview(
        problems={split: len(found) for split, found in problems.items() if found},
        samples_a_round=samples,
        held_out_samples=held_out,
        rounds=config.rounds,
        evaluations=evaluations,
        tokens_at_most=tokens,
        disk_mb=tokens * LEDGER_BYTES_A_TOKEN / 1e6,
        training="; then ".join(_training_texts(config, warm_start)),
    )


def _samples_a_round(config: Config, problems: Mapping[Split, int]) -> int:
    """Return how many completions a round draws at most: hints only where nothing was solved, so fewer as a rule."""
    prompts = min(problems["train"], config.sample.prompts or problems["train"])
    attempts = config.sample.n * len(config.sample.models)
    hints = config.rationalize.n if config.rationalize else 0
    probe = config.balance
    probes = len(probe.temperatures) * probe.n * min(probe.problems, problems["dev"]) if probe else 0
    return prompts * (attempts + hints) + probes


def _training_texts(config: Config, warm_start: list[Problem]) -> Iterator[str]:
    """Say in words what is trained, one text a training."""
    if config.warm_start is not None:
        yield f"a warm start on {len(warm_start)} gold solutions{_fit_text(config.warm_start)}"
    rules = " > ".join(map(rule_text, config.select.rules))
    if (train := config.train) is not None:
        where = f"{config.rounds} rounds from {train.start} on the traces of {ROUNDS[config.select.rounds]}: {rules}"
        yield where + _fit_text(train)
    if (compare := config.preference) is not None:
        yield f"each round {compare.objective} from {compare.start} makes a {compare.makes}{_fit_text(compare)}"


def _fit_text(section: FitConfig) -> str:
    length = counted(section.max_steps, "step") if section.max_steps else counted(section.epochs or 0, "epoch")
    return f", {'LoRA' if section.lora else 'all weights'}, lr {section.lr:g}, {length}"
