"""GRPO with a verifier as its reward: TRL's trainer, a model of star-rft's, problems that it is not trained on.

    python examples/grpo.py                                                # the tiny model
    python examples/grpo.py --model runs/quickstart/rounds/004/checkpoint --equations 3 7  # after offline rounds

Word problems whose solutions take so many equations. Printed are the rewards of the first and the last steps, then
greedy accuracy and pass@1 on held-out problems before and after, with the paired 95% interval of the change.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import transformers
import trl
from datasets import Dataset, disable_progress_bars

import verifiers
from star_rft.data.generators.word_problems import MAX_STEPS, WordProblem, generate
from star_rft.engines.hf.sampler import HFSampler
from star_rft.errors import UserError
from star_rft.models import load, resolve
from star_rft.statistics import bootstrap, paired
from star_rft.types import Decoding, Request

MAX_TOKENS = 160  # as in the quickstart
GROUP = 8  # completions of a prompt, which are compared with each other


def prompt(problem: WordProblem) -> str:
    return f"Question: {problem.question}\nAnswer:"  # the form that the tiny model was pretrained on


def rates(model: Path | str, problems: Sequence[WordProblem], temperature: float, n: int) -> list[float]:
    """Return the share of n completions that are correct, for each problem."""
    sampler = HFSampler(model)
    requests = [Request(str(i), k, prompt(p), seed=i * n + k) for i, p in enumerate(problems) for k in range(n)]
    drawn = list(sampler.sample(requests, decoding=Decoding(temperature=temperature, max_tokens=MAX_TOKENS)))
    sampler.close()
    pairs = [(one.text, problems[int(one.request.problem_id)].answer) for one in drawn]
    correct = [0] * len(problems)
    for one, verdict in zip(drawn, verifiers.verify_many("math", pairs), strict=True):
        correct[int(one.request.problem_id)] += verdict.is_correct
    return [count / n for count in correct]


def train(start: Path | str, problems: Sequence[WordProblem], out: Path, asked: argparse.Namespace) -> list[float]:
    """Train with GRPO, write the model to `out`, return the mean reward of each step."""
    model, tokenizer = load(start)
    settings = trl.GRPOConfig(
        str(out), seed=asked.seed, max_steps=asked.steps, learning_rate=asked.lr, beta=asked.beta,
        per_device_train_batch_size=asked.prompts * GROUP, num_generations=GROUP, max_completion_length=MAX_TOKENS,
        lr_scheduler_type="constant", logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
        gradient_checkpointing=None,  # off; newer versions of transformers warn of False
        bf16=False, use_cpu=model.device.type == "cpu",
        dataloader_pin_memory=model.device.type != "cpu",
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        model,
        reward_funcs=verifiers.as_reward("math"),  # reads the references from the column "solution"
        args=settings,
        train_dataset=Dataset.from_list([{"prompt": prompt(p), "solution": p.answer} for p in problems]),
        processing_class=tokenizer,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    trainer.save_model(str(out))
    return [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="tiny, a checkpoint's folder or a hub name")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=16, help=f"a step, {GROUP} completions each")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the KL divergence from the start")
    parser.add_argument("--held-out", type=int, default=200, help="problems that accuracy is measured on")
    parser.add_argument("--equations", type=int, nargs=2, default=(1, 2), choices=range(1, MAX_STEPS + 1))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the trained model is written (default: nowhere)")
    asked = parser.parse_args(arguments)
    steps = (min(asked.equations), max(asked.equations))
    disable_progress_bars()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        start = resolve(asked.model, into=Path(temporary) / "start")
        out = asked.out or Path(temporary) / "out"
        problems = list(generate(asked.steps * asked.prompts, split="train", seed=asked.seed, steps=steps))
        rewards = train(start, problems, out, asked)
        few = max(1, len(rewards) // 4)
        first, last = sum(rewards[:few]) / few, sum(rewards[-few:]) / few
        print(f"mean reward of the first and the last {few} steps: {first:.3f} -> {last:.3f}")
        held_out = list(generate(asked.held_out, split="dev", seed=2, steps=steps))
        for name, temperature, n in (("greedy accuracy", 0.0, 1), ("pass@1", 1.0, 8)):
            before, after = (rates(model, held_out, temperature, n) for model in (start, out))
            print(f"{name}: {bootstrap(before)} -> {bootstrap(after)}, change {paired(after, before)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
