"""Pretrain the tiny base model that ships in star_rft/assets/tiny, on the built-in word problems.

    python scripts/pretrain_tiny.py                                 # both phases
    python scripts/pretrain_tiny.py --clean /tmp/clean --keep-clean # phase 2 again, from a saved phase 1

A real base model at a small scale, one million parameters, in two phases:
1. Clean: worked solutions of 1-6 steps (7-8 steps are rare), with drills of bare equations at first. This
   gives the ability, and is the ceiling of what the star-rft loop can recover.
2. Noisy: a short mixture of solution styles, as web text is: some careful, the rest answer at once without
   working, skip a step or slip in arithmetic. The ability stays, but sampling seldom shows it.

The prompt form is `Question: {question}\\nAnswer:`, the completion ` {chain}\\n#### {n}` and end-of-sequence.
Seed 0 took about 20 minutes on two busy cores: 18 for 3,000 clean steps (pass@1 0.867 over 1-8 steps at
temperature 1), 1.5 for 150 noisy ones (pass@1 0.282). The shipped weights are phase 1 of one run with phase 2
from its saved weights. Half of the processor time was the allocator's until, with glibc, these kept tensors from
being given back to the system after every step:

    export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456
"""

from __future__ import annotations

import argparse
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Fast

from star_rft.data.generators.word_problems import EQUATION, WordProblem, generate

ASSET = Path(__file__).parents[1] / "star_rft" / "assets" / "tiny"
Encoded = tuple[list[int], list[int]]  # prompt ids, completion ids with end-of-sequence

# ---------------------------------------------------------------------------------------------------------
# Tokenizer: byte-level BPE, so any text round-trips; " 0" .. " 99" and frequent words are one token each.

SPLIT = r"[.?:]?\n| ?\d{1,2}| ?\p{L}+| ?[^\s\p{L}\d]+|\s+"
VOCABULARY = 768


def train_tokenizer() -> Fast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    numbers = ["".join(f" {n}" for n in range(100))] * 3000  # frequent enough that each is merged
    texts = [prompt(p) + completion(p) for p in generate(3000, split="pretrain", seed=99)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=20,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*numbers, *texts], trainer)
    return Fast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=512)


def number_ids(tokenizer: Fast) -> list[int]:
    ids = [tokenizer(f" {n}").input_ids for n in range(100)]
    assert all(len(i) == 1 for i in ids), "a number is not one token"
    return [i[0] for i in ids]


# ---------------------------------------------------------------------------------------------------------
# Model


def new_model(tokenizer: Fast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    # Numbers begin on circles of several periods (Fourier features): arithmetic is then learned in minutes.
    n = torch.arange(100.0)
    periods = (2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50, 100)
    waves = [wave(2 * math.pi * n / period) for period in periods for wave in (torch.cos, torch.sin)]
    features_N_F = torch.stack([*waves, n / 100], dim=1)
    with torch.no_grad():
        model.model.embed_tokens.weight[number_ids(tokenizer), : features_N_F.shape[1]] = 0.04 * features_N_F
    return model


# ---------------------------------------------------------------------------------------------------------
# Texts


def prompt(problem: WordProblem) -> str:
    return f"Question: {problem.question}\nAnswer:"


def completion(problem: WordProblem) -> str:
    return f" {problem.answer}"


def clean_problems(seed: int) -> Iterator[WordProblem]:
    """Yield problems of 1-6 steps without end, 3% of 7-8 steps among them."""
    rng = random.Random(seed)
    short = generate(10**8, split="pretrain", seed=seed, steps=(1, 6))
    long = generate(10**8, split="pretrain", seed=seed, steps=(7, 8))
    while True:
        yield next(long) if rng.random() < 0.03 else next(short)


def drill(rng: random.Random, equations: int) -> str:
    """Return bare equations in a row, over the same range of numbers as the problems."""
    text = ""
    while equations:
        operator = rng.choice("++--*/")
        a, b = rng.randint(1, 99), rng.randint(2, 36 if operator in "+-" and rng.random() < 0.3 else 20)
        b = b if operator in "+-" else rng.randint(2, 6)
        if operator == "/":
            a = a // b * b
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operator]
        if 1 <= result < 100:
            text += f" {a} {operator} {b} = {result}."
            equations -= 1
    return text


# Shares of the noisy mixture.
CAREFUL, AT_ONCE, SKIPS = 0.45, 0.30, 0.10  # the rest slips


def noisy_problems(seed: int) -> Iterator[WordProblem]:
    """Yield problems answered by people who are mostly hasty."""
    rng = random.Random(seed)
    for problem in clean_problems(seed + 1):
        style = rng.random()
        if style < CAREFUL:
            answer = problem.answer
        elif style < CAREFUL + AT_ONCE:
            answer = f"#### {rng.randint(1, 99)}"
        else:
            answer = corrupted(problem.answer, rng, is_skip=style < CAREFUL + AT_ONCE + SKIPS)
        yield WordProblem(problem.question, answer, problem.steps)


def corrupted(answer: str, rng: random.Random, *, is_skip: bool) -> str:
    """Return the chain with one step left out or wrong, and what follows computed from there."""
    lines = answer.split("\n")[:-1]
    at = rng.randrange(len(lines))
    results: dict[int, int] = {}  # true result -> what this author has instead
    wrong: list[str] = []
    last = 0
    for i, line in enumerate(lines):
        match = EQUATION.search(line)
        assert match
        a, b, truth = int(match[1]), int(match[3]), int(match[4])
        a_here, b_here = results.get(a, a), results.get(b, b)
        value = {"+": a_here + b_here, "-": a_here - b_here, "*": a_here * b_here, "/": a_here // b_here}[match[2]]
        if i == at:
            value = a_here if is_skip else value + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))
        value = min(max(value, 1), 99)
        results[truth] = last = value
        if not (i == at and is_skip):
            equation = f"{a_here} {match[2]} {b_here} = {value}"
            wrong.append(line[: match.start()] + equation + line[match.end() :])
    return "\n".join([*wrong, f"#### {last}"])


# ---------------------------------------------------------------------------------------------------------
# Batches: (token ids, loss weight of each token)

Batch = tuple[torch.Tensor, torch.Tensor]
QUESTION_WEIGHT = 0.1  # question text is mostly chance; a little of it makes a language model all the same


def encode(tokenizer: Fast, problems: Sequence[WordProblem]) -> list[Encoded]:
    prompts = tokenizer([prompt(p) for p in problems]).input_ids
    completions = tokenizer([completion(p) for p in problems]).input_ids
    return [(q, [*c, tokenizer.eos_token_id]) for q, c in zip(prompts, completions, strict=True)]


def problem_batches(tokenizer: Fast, problems: Iterator[WordProblem], size: int, seed: int) -> Iterator[Batch]:
    """Yield batches of similar length; padding on the right needs no mask under causal attention."""
    rng = random.Random(seed)
    while True:
        pool = encode(tokenizer, [next(problems) for _ in range(16 * size)])
        pool.sort(key=lambda row: len(row[0]) + len(row[1]))
        batches = [pool[i : i + size] for i in range(0, len(pool), size)]
        rng.shuffle(batches)
        for rows in batches:
            width = max(len(q) + len(c) for q, c in rows)
            ids_B_T = torch.zeros(size, width, dtype=torch.long)
            weights_B_T = torch.zeros(size, width)
            for i, (q, c) in enumerate(rows):
                ids_B_T[i, : len(q) + len(c)] = torch.tensor(q + c)
                weights_B_T[i, : len(q)] = QUESTION_WEIGHT
                weights_B_T[i, len(q) : len(q) + len(c)] = 1.0
            yield ids_B_T, weights_B_T


def drill_batches(tokenizer: Fast, size: int, seed: int) -> Iterator[Batch]:
    """Yield rows of 16 equations; what counts is the token after each equals sign."""
    rng = random.Random(seed)
    equals = tokenizer(" =").input_ids[0]
    while True:
        ids_B_T = torch.tensor(tokenizer([drill(rng, 16) for _ in range(size)]).input_ids)
        weights_B_T = torch.full(ids_B_T.shape, 0.02)
        weights_B_T[:, 1:] += (ids_B_T[:, :-1] == equals).float()
        yield ids_B_T, weights_B_T


# ---------------------------------------------------------------------------------------------------------
# Training


def train(
    model: LlamaForCausalLM,
    next_batch: Callable[[int], Batch],
    *,
    steps: int,
    lr: float,
    name: str,
    report: Callable[[], str] | None = None,
) -> None:
    """Muon for the matrices, AdamW for embeddings and norms; warm-up, constant to the middle, then linear decay."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.98)),
    ]
    model.train()
    start = time.perf_counter()
    smooth = tokens = 0.0
    for step in range(steps):
        rate = lr * min(1.0, (step + 1) / 50, max(0.03, 2 * (1 - step / steps)))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        loss, count = weighted_loss(model, *next_batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += count
        smooth = 0.97 * smooth + 0.03 * loss.item()
        if (step + 1) % 100 == 0:
            seconds = time.perf_counter() - start
            left = seconds / (step + 1) * (steps - step - 1)
            extra = f" | {report()}" if report and (step + 1) % 500 == 0 else ""
            print(
                f"{name} step {step + 1}/{steps} | loss {smooth:.3f} | {tokens / seconds:,.0f} tokens/s"
                f" | {seconds:.0f} s, {left:.0f} s left{extra}",
                flush=True,
            )


def weighted_loss(
    model: LlamaForCausalLM, ids_B_T: torch.Tensor, weights_B_T: torch.Tensor
) -> tuple[torch.Tensor, int]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_B_T_V = model(input_ids=ids_B_T, use_cache=False).logits
    loss = F.cross_entropy(logits_B_T_V[:, :-1].float().flatten(0, 1), ids_B_T[:, 1:].flatten(), reduction="none")
    weights = weights_B_T[:, 1:].flatten()
    return (loss * weights).sum() / weights.sum(), ids_B_T.numel()


# ---------------------------------------------------------------------------------------------------------
# Evaluation


@torch.inference_mode()
def evaluate(model: LlamaForCausalLM, tokenizer: Fast, *, problems: int, n: int, high: int, seed: int = 0) -> str:
    """Return pass@1 and pass@n at temperature 1 on held-out problems, in all and by number of steps."""
    model.eval()
    torch.manual_seed(seed)
    dev = sorted(generate(problems, split="dev", seed=seed, steps=(1, high)), key=lambda p: len(p.question))
    right: list[tuple[int, int]] = []
    for batch in (dev[i : i + 64] for i in range(0, len(dev), 64)):
        inputs = tokenizer([prompt(p) for p in batch], padding=True, padding_side="left", return_tensors="pt")
        out = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            generation_config=GenerationConfig(
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=160,
                num_return_sequences=n,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
        )
        texts = tokenizer.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        for i, p in enumerate(batch):
            reference = p.answer.rsplit("#### ", 1)[1]
            found = [re.search(r"#### (\d+)$", text) for text in texts[i * n : (i + 1) * n]]
            right.append((p.steps, sum(m is not None and m[1] == reference for m in found)))
    model.train()
    by_steps = {s: [c for steps, c in right if steps == s] for s in range(1, high + 1)}
    table = ", ".join(
        f"{s}: {sum(c) / len(c) / n:.2f}/{sum(x > 0 for x in c) / len(c):.2f}" for s, c in by_steps.items() if c
    )
    pass_1 = sum(c for _, c in right) / n / len(right)
    pass_n = sum(c > 0 for _, c in right) / len(right)
    return f"pass@1 {pass_1:.3f}, pass@{n} {pass_n:.3f} (by steps {table})"


# ---------------------------------------------------------------------------------------------------------


def clean_phase(model: LlamaForCausalLM, tokenizer: Fast, *, steps: int, seed: int, out: Path | None) -> None:
    worked = problem_batches(tokenizer, clean_problems(seed), 32, seed)
    drills = drill_batches(tokenizer, 32, seed)
    rng = random.Random(seed)

    def next_batch(step: int) -> Batch:
        share = 0.9 * (1 - 2.5 * step / steps)  # of drills; none after 40% of the phase
        return next(drills) if rng.random() < share else next(worked)

    def report() -> str:
        if out:
            model.save_pretrained(out)
        return evaluate(model, tokenizer, problems=128, n=1, high=8)

    train(model, next_batch, steps=steps, lr=6e-3, name="clean", report=report)


def noisy_phase(model: LlamaForCausalLM, tokenizer: Fast, *, steps: int, seed: int) -> None:
    batches = problem_batches(tokenizer, noisy_problems(seed), 32, seed)
    train(model, lambda step: next(batches), steps=steps, lr=1e-3, name="noisy")


def save(model: LlamaForCausalLM, tokenizer: Fast, out: Path) -> None:
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {size / 1e6:.1f} MB in {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clean", type=Path, help="folder of the model after phase 1 (see --keep-clean)")
    parser.add_argument("--keep-clean", action="store_true", help="read --clean instead of writing it")
    parser.add_argument("--clean-steps", type=int, default=3000)
    parser.add_argument("--noisy-steps", type=int, default=150)
    args = parser.parse_args()
    if args.keep_clean and not args.clean:
        parser.error("--keep-clean needs --clean, the folder of the model after phase 1")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    start = time.perf_counter()

    tokenizer = train_tokenizer()
    if args.keep_clean:
        model = AutoModelForCausalLM.from_pretrained(args.clean, dtype=torch.float32)
    else:
        model = new_model(tokenizer)
        clean_phase(model, tokenizer, steps=args.clean_steps, seed=args.seed, out=args.clean)
        print("clean:", evaluate(model, tokenizer, problems=256, n=8, high=8), flush=True)
        if args.clean:
            model.save_pretrained(args.clean)
    noisy_phase(model, tokenizer, steps=args.noisy_steps, seed=args.seed)
    print("noisy:", evaluate(model, tokenizer, problems=256, n=8, high=8), flush=True)
    save(model, tokenizer, args.out)
    print(f"{time.perf_counter() - start:.0f} s on {args.threads} threads, seed {args.seed}")


if __name__ == "__main__":
    main()
