"""The preview of a run (`--dry-run`): its samples, tokens, disk and memory; and the config of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_rft import config as configs
from star_rft.build import check_names
from star_rft.build.models import spec_of
from star_rft.build.problems import check_data, load_all
from star_rft.build.sampling import engine_name, prompter_of, train_decodings, undeclared_end
from star_rft.build.training import lora_of
from star_rft.config import Config, FitConfig
from star_rft.models import ASSETS
from star_rft.models.load import may_be_of_hub
from star_rft.recipes import counted, rule_text
from star_rft.runs.environment import nvidia_driver, usable_memory
from star_rft.runs.folder import RunFolder
from star_rft.training import memory
from star_rft.training.batching import MICRO_BATCH_TOKENS
from star_rft.types import Problem, Split, digest

ROUNDS = {"all": "all rounds so far", "last": "the last round"}


@dataclass(frozen=True, slots=True)
class Preview:
    """The size and the cost of a run, estimated before it starts."""

    problems: dict[str, int]
    samples_a_round: int
    held_out_samples: int
    rounds: int
    evaluations: int
    tokens_at_most: int
    disk_mb: float
    training: str
    memory: str
    warnings: list[str]


# Text, token ids and verdicts took 2.9 bytes a token in the ledger of the quickstart (zstd); rounded up.
LEDGER_BYTES_A_TOKEN = 4


def preview(config: Config) -> Preview:
    """Return the size and cost of a run. Raises UserError for what can be found wrong without loading a model."""
    check_names(config)
    _check_models(config)
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
        memory=_memory_text(config),
        warnings=_check_prompts(config, problems),
    )


def _samples_a_round(config: Config, problems: Mapping[Split, int]) -> int:
    """Return how many completions a round draws at most: hints only where nothing was solved, so fewer as a rule."""
    problems_a_round = min(problems["train"], config.sample.problems or problems["train"])
    samples = config.sample.n * len(config.sample.models)
    hints = config.rationalize.n if config.rationalize else 0
    search = config.temperature_search
    tried = len(search.temperatures) * search.n * min(search.problems, problems["dev"]) if search else 0
    return problems_a_round * (samples + hints) + tried


def _training_texts(config: Config, warm_start: list[Problem]) -> Iterator[str]:
    """Say in words what is trained, one text a training."""
    if config.warm_start is not None:
        yield f"a warm start on {len(warm_start)} reference solutions{_fit_text(config.warm_start)}"
    rules = " > ".join(map(rule_text, config.select.rules))
    if (train := config.train) is not None:
        where = f"{config.rounds} rounds from {train.start} on the traces of {ROUNDS[config.select.rounds]}: {rules}"
        yield where + _fit_text(train)
    if (compare := config.preference) is not None:
        yield f"each round {compare.objective_name} from {compare.start} makes a {compare.makes}{_fit_text(compare)}"


def _memory_text(config: Config) -> str:
    """Say what the most demanding training takes, by the model's shape: none is loaded, and none is fetched."""
    shape = memory.shape_of(found) if (found := _model_here(config)) is not None else None
    if shape is None:
        return "known when the model is here"
    gpu = None if config.model.device == "cpu" or nvidia_driver() is None else "cuda"
    sections = [section for section in (config.warm_start, config.train, config.preference) if section is not None]
    need = max((_need(shape, section, config, gpu is not None) for section in sections), key=lambda need: need.total)
    free = usable_memory()[0] if gpu is None else _free_on_gpu()
    return f"training takes up to about {need} a process, besides the libraries; {memory.gib(free)} are free here"


def _need(shape: memory.Shape, section: FitConfig, config: Config, on_gpu: bool) -> memory.Need:
    launch, size = config.launch, section.micro_batch_size
    # The lengths of the examples are known once they are sampled: before, all may be of full length.
    tokens = MICRO_BATCH_TOKENS["cuda" if on_gpu else "cpu"] if size is None else size * section.max_tokens
    return memory.estimate(
        shape,
        tokens=tokens,
        scored=tokens,
        lora=lora_of(section),
        gradient_checkpointing=section.gradient_checkpointing,
        is_bf16=section.precision == "bfloat16" or (section.precision == "auto" and on_gpu),
        on_gpu=on_gpu,
        shards=launch.processes if launch.config in (None, "fsdp2") else 1,
    )


def _check_models(config: Config) -> None:
    """Raise UserError for a model on this machine that could not be loaded, or not sampled by the hf engine."""
    from star_rft.engines.hf.support import check_decodable
    from star_rft.models import check_model
    from star_rft.models.load import is_adapter

    section = config.model
    names = [name for name in config.sample.models if name != "policy"]
    folders = [_model_here(config), *map(_found_here, names)]
    for folder in folders:
        if folder is None or not (folder / "config.json").is_file() or is_adapter(folder):
            continue  # what a run fetches, converts or merges first
        if engine_name(config) == "hf":
            check_decodable(spec_of(config, folder))
    trained = [] if section.from_scratch or section.gguf_file is not None else [section.name]
    for name in (*trained, *names):
        if Path(name).is_dir():
            check_model(spec_of(config, name))


def _check_prompts(config: Config, problems: Mapping[Split, list[Problem]]) -> list[str]:
    """Render a prompt of each split, where the model's tokenizer is here; return what a user should know of the end."""
    folder = _model_here(config)
    if folder is None or not (folder / "config.json").is_file():
        return []
    prompter = prompter_of(config, folder)
    prompter.stops(train_decodings(config)[0])
    for found in problems.values():
        for problem in found[:1]:
            prompter.render(problem)
    warning = undeclared_end(prompter, config.sample.stop_token_ids)
    return [warning] if warning else []


def _model_here(config: Config) -> Path | None:
    """Return the folder of the model that is trained, if it is on this machine."""
    run = RunFolder(config.folder)
    made = [folder for folder in (run.scratch_model, run.base_model) if folder.is_dir()]
    if made:
        return made[0]
    is_gguf = config.model.gguf_file is not None
    return None if is_gguf else _found_here(config.model.name)


def _found_here(name: str) -> Path | None:
    """Return the folder of a model by its name, if it is on this machine."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder = ASSETS / "tiny" if name == "tiny" else Path(name)
    if folder.is_dir():
        return folder
    if not may_be_of_hub(name) or "/" not in name:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _free_on_gpu() -> int:
    import torch

    return memory.free_memory(torch.device("cuda"))[0] if torch.cuda.is_available() else usable_memory()[0]


def _fit_text(section: FitConfig) -> str:
    length = counted(section.max_steps, "step") if section.max_steps else counted(section.epochs or 0, "epoch")
    return f", {'LoRA' if section.lora else 'all weights'}, lr {section.lr:g}, {length}"


def bench_config(
    model: str,
    data: str,
    *,
    ks: Sequence[int],
    n: int | None = None,
    limit: int | None = None,
    overrides: Iterable[str] = (),
) -> Config:
    """Return the config of a run that only evaluates a model. Its folder is named by a hash of the settings."""
    raw: dict[str, Any] = {
        "name": "bench",
        "rounds": 0,
        "model": {"name": model},
        "data": {"test": {"source": data, "limit": limit}},
        "eval": {"n": n or max(ks), "k": sorted({1, *ks}), "greedy": True},
    }
    if model == "tiny":  # its pretraining knows one prompt form only, and it has 512 positions
        raw["prompt"] = TINY_PROMPT
        raw["eval"]["max_tokens"] = TINY_TOKENS
    settled = configs.load(raw, overrides)
    name = f"bench-{digest(configs.dump(settled), size=4)}"
    return settled.model_copy(update={"name": name})


TINY_TOKENS = 160
TINY_PROMPT = {"template": "Question: {question}\nAnswer:", "completion_prefix": " "}
