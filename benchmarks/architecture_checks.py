"""What benchmarks/architectures.py measures of one family: star-rft's interfaces against plain transformers.

The truth is always a forward of the whole sequence alone: float32, no cache, no padding, and eager attention, which is
the definition in a model's own file (but for the family that says otherwise).

Imports star_rft.engines, star_rft.models, star_rft.training, star_rft.types: the sampler and the trainings that it
checks.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import peft
import torch
import transformers
from architecture_families import Family, plain, save, with_dropout

import star_rft
from star_rft import Completion, Decoding, Request, Sampler
from star_rft.engines.hf.sampler import HFSampler
from star_rft.models.spec import ModelSpec
from star_rft.training.options import FitReport, LoraSpec, TrainingOptions
from star_rft.training.preference import fit_preferences
from star_rft.training.registry import ObjectiveSpec
from star_rft.training.sft import fit
from star_rft.types import Example, Preference

State = Literal["ok", "refused", "wrong", "crash", "none"]
COLUMNS = ("path", "greedy", "logprob", "loss", "round", "lora", "dpo")
MAX_TOKENS = 40
ATTEMPTS = 3
TIE = 1e-4  # two logits nearer than this are equal: float32 does not say which is the greater
LOGPROB_TOLERANCE = 1e-4  # nats a token
LOSS_TOLERANCE = 1e-3
PROMPTS = (
    "Hi",
    "Question: What is 2 + 3?\nAnswer:",
    "A list of 12 words: sun, moon, tree, river, stone.",
    "Tom has 3 apples. He buys 4 more and gives 2 to Ann. How many apples does Tom have now?\nAnswer:",
    "Question: " + "one and two and three; " * 4 + "what comes next?\nAnswer:",
)
ALL = range(len(PROMPTS))
GREEDY = Decoding(temperature=0.0, max_tokens=MAX_TOKENS)
# Trained together: the shortest and the longest, so that rows are padded or packed.
TRAINED = (0, 4, 1, 3)


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of the table: what was found, and the value or the reason."""

    state: State
    text: str


NOTHING = Cell("none", "-")


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one family. `notes` are prompts that were refused, and faults of transformers' own cache."""

    family: str
    model_type: str
    cells: Mapping[str, Cell]
    seconds: float
    notes: Sequence[str] = ()

    @property
    def is_at_fault(self) -> bool:
        return any(cell.state in ("wrong", "crash") for cell in self.cells.values())

    @classmethod
    def crashed(cls, one: Family, reason: str, seconds: float = 0.0) -> Row:
        cells = dict.fromkeys(COLUMNS, NOTHING) | {"path": Cell("crash", f"CRASH: {reason}")}
        return cls(one.name, one.model_type, cells, seconds)


@dataclass(frozen=True, slots=True)
class Oracle:
    """Plain transformers: the model, the prompts' ids and their greedy completions, none of them cached or padded."""

    model: Any
    tokenizer: Any
    prompts: Sequence[tuple[int, ...]]
    completions: Sequence[tuple[int, ...]]

    @classmethod
    def of(cls, folder: Path, attention: str = "eager") -> Oracle:
        model, tokenizer = plain(folder, attention), transformers.AutoTokenizer.from_pretrained(folder)
        prompts = [tuple(ids) for ids in tokenizer(list(PROMPTS), add_special_tokens=False)["input_ids"]]
        return cls(model, tokenizer, prompts, [greedy(model, ids, use_cache=False) for ids in prompts])

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Return the logits (T, V) of a sequence."""
        with torch.inference_mode():
            logits: torch.Tensor = self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
        return logits

    def logprob(self, prompt: Sequence[int], completion: Sequence[int]) -> float:
        """Return the sum over the completion's tokens."""
        logprobs_T_V = self.logits([*prompt, *completion])[len(prompt) - 1 : -1].log_softmax(-1)
        return float(logprobs_T_V[range(len(completion)), list(completion)].sum())

    def is_greedy(self, prompt: Sequence[int], ours: Sequence[int], completion: Sequence[int]) -> bool:
        """Say whether the tokens are those of the greedy completion, or differ from it first in a tie."""
        if tuple(ours) == tuple(completion):
            return True
        at = next((i for i, (a, b) in enumerate(zip(ours, completion, strict=False)) if a != b), None)
        if at is None:  # one ends before the other
            return False
        logits_V = self.logits([*prompt, *completion[:at]])[-1]
        return float(logits_V.max() - logits_V[ours[at]]) < TIE


def greedy(model: Any, ids: Sequence[int], *, use_cache: bool) -> tuple[int, ...]:
    prompt = torch.tensor([list(ids)])
    with torch.inference_mode():
        output = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=MAX_TOKENS,
            use_cache=use_cache,
        )  # fmt: skip
    return tuple(output[0, len(ids) :].tolist())


def guarded(check: Callable[[], Cell]) -> Cell:
    """Run a check: a refusal of one line is one, whatever else is raised is a crash."""
    try:
        return check()
    except (star_rft.UserError, star_rft.RunFailure) as error:
        lines = str(error).strip().splitlines()
        return Cell("refused", lines[0]) if len(lines) == 1 else Cell("crash", f"CRASH: refused in {len(lines)} lines")
    except Exception as error:  # noqa: BLE001 the table says what star-rft lets through, whatever that is
        first = next(iter(str(error).strip().splitlines()), "")
        return Cell("crash", f"CRASH: {type(error).__name__}: {first:.160}")


def measure(one: Family, folder: Path) -> Row:
    """Build a family in a folder and return its row."""
    started = time.perf_counter()
    base = folder / "base"
    save(one, base)
    cells = dict.fromkeys(COLUMNS, NOTHING)
    samplers: list[HFSampler] = []

    def path() -> Cell:
        samplers.append(HFSampler(ModelSpec(base, dtype="float32", device="cpu")))
        return Cell("ok", "hf")

    cells["path"] = guarded(path)
    if transformers.AutoConfig.from_pretrained(base).is_encoder_decoder:
        return Row(one.name, one.model_type, cells, time.perf_counter() - started)
    oracle = Oracle.of(base, one.attention)
    cached = [greedy(oracle.model, ids, use_cache=True) for ids in oracle.prompts]
    pairs = zip(oracle.prompts, cached, oracle.completions, strict=True)
    wrong = sum(not oracle.is_greedy(*pair) for pair in pairs)
    notes = [f"transformers' own cache writes other tokens for {wrong} of {len(PROMPTS)} prompts"] if wrong else []
    if samplers:
        drawn: list[Completion] = []
        taken, reason = accepted(samplers[0])
        if len(taken) < len(PROMPTS):
            notes.append(f"{len(PROMPTS) - len(taken)} of {len(PROMPTS)} prompts are refused: {reason}")
        cells["greedy"] = guarded(lambda: greedy_cell(samplers[0], oracle, drawn, taken))
        cells["logprob"] = guarded(lambda: logprob_cell(samplers[0], oracle, drawn, taken))
        samplers[0].close()
    longest = star_rft.models.longest_sequence(oracle.model.config).tokens  # training leaves out what is longer
    lengths = [len(oracle.prompts[i]) + len(oracle.completions[i]) for i in ALL]
    trained = [i for i in TRAINED if longest is None or lengths[i] <= longest]
    examples = [Example(oracle.prompts[i], oracle.completions[i]) for i in trained]
    cells["loss"] = guarded(lambda: loss_cell(oracle, examples, base, folder / "sft"))
    if samplers:
        cells["round"] = guarded(lambda: round_cell(base, folder / "run"))
    elif cells["loss"].state == "ok":
        cells["round"] = Cell("none", "trains")
    cells["lora"] = guarded(lambda: lora_cell(oracle, examples, base, folder / "lora"))
    with_dropout(one, base)
    cells["dpo"] = guarded(lambda: dpo_cell(oracle, base, folder / "dpo"))
    return Row(one.name, one.model_type, cells, time.perf_counter() - started, notes)


def requests(prompts: Sequence[int] = ALL) -> list[Request]:
    return [Request(str(i), k, PROMPTS[i], seed=97 * i + k) for i in prompts for k in range(ATTEMPTS)]


def accepted(sampler: Sampler) -> tuple[list[int], str]:
    """Return the prompts that the sampler takes, of which none is refused as too long, and why it refuses others."""
    taken, reason = [], ""
    for i in ALL:
        try:
            sampler.sample(requests([i]), decoding=GREEDY, batch_size=1)
        except star_rft.UserError as error:
            reason = re.sub(r"problem \d+", "a problem", str(error))
        else:
            taken.append(i)
    return taken, reason


def greedy_cell(sampler: Sampler, oracle: Oracle, drawn: list[Completion], prompts: Sequence[int] = ALL) -> Cell:
    """Draw greedy completions, fewer rows at once than there are, into `drawn`; compare their tokens."""
    drawn += sampler.sample(requests(prompts or ALL), decoding=GREEDY, batch_size=4)
    at = [int(one.request.problem_id) for one in drawn]
    equal = sum(
        oracle.is_greedy(oracle.prompts[i], one.token_ids, oracle.completions[i])
        for i, one in zip(at, drawn, strict=True)
    )
    total = len(prompts) * ATTEMPTS
    return Cell("ok" if equal == len(drawn) == total else "wrong", f"{equal}/{total}")


def logprob_cell(sampler: Sampler, oracle: Oracle, drawn: Iterable[Completion], prompts: Sequence[int] = ALL) -> Cell:
    """Compare the log-probabilities of the greedy completions, and of as many at temperature 1."""
    decoding = Decoding(temperature=1.0, max_tokens=MAX_TOKENS)
    sampled = sampler.sample(requests(prompts or ALL), decoding=decoding, batch_size=4)
    errors = []
    for one in [*drawn, *sampled]:
        truth = oracle.logprob(oracle.prompts[int(one.request.problem_id)], one.token_ids)
        errors.append(math.inf if one.logprob is None else abs(one.logprob - truth) / len(one.token_ids))
    worst = max(errors)
    return Cell("ok" if worst <= LOGPROB_TOLERANCE else "wrong", f"{worst:.0e}")


def expected_loss(oracle: Oracle, examples: Sequence[Example]) -> float:
    """Return the negative log-likelihood a completion token, each sequence forwarded alone."""
    total = sum(oracle.logprob(one.prompt_ids, one.completion_ids) for one in examples)
    return -total / sum(len(one.completion_ids) for one in examples)


def one_step(examples: Sequence[Example], base: Path, folder: Path, **options: Any) -> FitReport:
    plain = TrainingOptions(
        lr=1e-3, max_steps=1, batch_size=len(examples), micro_batch_size=2, precision="float32", schedule="constant",
        warmup_ratio=0.0, router_loss=False, **options,
    )  # fmt: skip
    return fit(examples, plain, model=ModelSpec(base), out_dir=folder / "out", work_dir=folder / "work")


def judged_loss(report: FitReport, oracle: Oracle, examples: Sequence[Example]) -> Cell:
    error = abs(report.loss_first - expected_loss(oracle, examples))
    return Cell("ok" if error <= LOSS_TOLERANCE else "wrong", f"{error:.0e}")


def loss_cell(oracle: Oracle, examples: Sequence[Example], base: Path, folder: Path) -> Cell:
    """Train one step on examples of unequal length: its loss is that of each alone.

    The router's auxiliary loss is off here, for it is not a sum over tokens; `round_cell` trains with it.
    """
    return judged_loss(one_step(examples, base, folder), oracle, examples)


def lora_cell(oracle: Oracle, examples: Sequence[Example], base: Path, folder: Path) -> Cell:
    """Train adapters for one step: the first loss is the model's, and the merged weights are base and adapter."""
    loss = judged_loss(one_step(examples, base, folder, lora=LoraSpec(r=4, alpha=64)), oracle, examples)
    if loss.state == "wrong":
        return Cell("wrong", f"first loss {loss.text} off")
    ids = examples[1].prompt_ids
    merged = logits_of(plain(folder / "out"), ids)
    adapted = logits_of(peft.PeftModel.from_pretrained(plain(base), str(folder / "out" / "adapter")).eval(), ids)
    error, moved = (float((merged - other).abs().max()) for other in (adapted, oracle.logits(ids)))
    if moved == 0.0:
        return Cell("wrong", "the merged weights are those of the base")
    return Cell("ok", "ok") if error <= 1e-3 else Cell("wrong", f"merged logits {error:.0e} off the adapter's")


def logits_of(model: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits


def dpo_cell(oracle: Oracle, base: Path, folder: Path) -> Cell:
    """Train one step on preferences: policy and reference are equal then, so the loss is ln 2 exactly."""
    preferences = [
        Preference(oracle.prompts[i], (oracle.completions[i], (*oracle.completions[i][:-1], 65)), (1.0, 0.0))
        for i in TRAINED
    ]
    options = TrainingOptions(
        lr=1e-4, max_steps=1, batch_size=len(preferences), micro_batch_size=2, precision="float32", router_loss=False,
    )  # fmt: skip
    report = fit_preferences(
        preferences, options, objective=ObjectiveSpec("dpo"), model=ModelSpec(base), out_dir=folder / "out",
        work_dir=folder / "work",
    )  # fmt: skip
    error = abs(report.loss_first - math.log(2))
    return Cell("ok", "ok") if error <= 1e-4 else Cell("wrong", f"ln 2 {report.loss_first - math.log(2):+.0e}")


def round_cell(base: Path, folder: Path) -> Cell:
    """Run the loop for one round; then transformers and star-rft load the checkpoint and agree on it."""
    config = {
        "name": "round", "rounds": 1, "run_dir": str(folder), "gate": None,
        "model": {"name": str(base), "dtype": "float32", "device": "cpu"},
        "data": {"train": {"source": "in memory"}, "dev": {"source": "in memory"}},
        "prompt": {"template": "Question: {question}\nAnswer:"},
        "verifier": {"name": "regex", "workers": 1},
        "sample": {"n": 4, "max_tokens": 24, "unit": 16, "batch_size": 16},
        "train": {"lr": 1e-4, "batch_size": 8, "max_steps": 2, "precision": "float32"},
        "eval": {"n": 1, "k": [1], "max_tokens": 24},
    }  # fmt: skip
    rows = [{"question": f"What is {i} + {i + 1}?" + " Think well." * (i % 2), "answer": r"\S"} for i in range(6)]
    try:
        reports = list(star_rft.run(config, data={"train": rows[:4], "dev": rows[4:]}))
    except star_rft.UserError:
        if any((folder / "ledger").rglob("*.parquet")):
            raise RuntimeError("refused after samples were drawn") from None
        raise
    if reports[-1].selected == 0:
        return Cell("wrong", "no sample was trained on")
    checkpoint = folder / "rounds" / "001" / "checkpoint"
    oracle, sampler = Oracle.of(checkpoint), HFSampler(ModelSpec(checkpoint, dtype="float32", device="cpu"))
    found = greedy_cell(sampler, oracle, [], accepted(sampler)[0])
    return Cell("ok", "ok") if found.state == "ok" else Cell("wrong", f"checkpoint: greedy {found.text}")
