"""GRPO with a verifier as its reward, by TRL's trainer, with a measurement on held-out problems before and after.

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

import torch
import transformers
import trl
from datasets import Dataset, disable_progress_bars

import star_rft
import verifiers

MAX_TOKENS = 160  # as in the quickstart
GROUP = 8  # completions of a prompt, which are compared with each other


TEMPLATE = "Question: {question}\nAnswer:"  # the form that the tiny model was pretrained on


def prompt(problem: star_rft.Problem) -> str:
    return TEMPLATE.format(question=problem.prompt)


def evaluated(model: str, problems: Sequence[star_rft.Problem], folder: Path) -> star_rft.Run:
    """Sample each problem greedily and 8 times at temperature 1: a run of no rounds, which trains nothing."""
    config = {
        "name": folder.name, "run_dir": str(folder), "rounds": 0, "model": {"name": model},
        "prompt": {"template": TEMPLATE}, "eval": {"n": 8, "k": [1], "max_tokens": MAX_TOKENS},
    }  # fmt: skip
    return star_rft.run(config, data={"test": problems}).result()


def train(start: Path | str, problems: Sequence[star_rft.Problem], out: Path, asked: argparse.Namespace) -> list[float]:
    """Train with GRPO, write the model to `out`, return the mean reward of each step."""
    has_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if has_gpu else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(start, dtype=dtype)
    tokenizer = transformers.AutoTokenizer.from_pretrained(start)
    settings = trl.GRPOConfig(
        str(out), seed=asked.seed, max_steps=asked.steps, learning_rate=asked.lr, beta=asked.beta,
        per_device_train_batch_size=asked.prompts * GROUP, num_generations=GROUP, max_completion_length=MAX_TOKENS,
        lr_scheduler_type="constant", logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
        gradient_checkpointing=None,  # off; newer versions of transformers warn of False
        bf16=False, use_cpu=not has_gpu, dataloader_pin_memory=has_gpu,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        model,
        reward_funcs=verifiers.as_reward("math"),  # reads the references from the column "solution"
        args=settings,
        train_dataset=Dataset.from_list([{"prompt": prompt(p), "solution": p.reference} for p in problems]),
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
    parser.add_argument("--equations", type=int, nargs=2, default=(1, 2), metavar=("MIN", "MAX"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the trained model is written (default: nowhere)")
    asked = parser.parse_args(arguments)
    steps = (min(asked.equations), max(asked.equations))
    disable_progress_bars()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        out = asked.out or Path(temporary) / "out"
        options = {"n": asked.held_out, "seed": 2, "steps": steps}
        held_out = star_rft.load_problems("word_problems", split="dev", options=options)
        before = evaluated(asked.model, held_out, Path(temporary) / "before")
        options = {"n": asked.steps * asked.prompts, "seed": asked.seed, "steps": steps}
        problems = star_rft.load_problems("word_problems", split="train", options=options)
        rewards = train(before.model_to_use(), problems, out, asked)
        few = max(1, len(rewards) // 4)
        first, last = sum(rewards[:few]) / few, sum(rewards[-few:]) / few
        print(f"mean reward of the first and the last {few} steps: {first:.3f} -> {last:.3f}")
        start, trained = star_rft.compare([before, evaluated(str(out), held_out, Path(temporary) / "after")]).models
        for name, measure in (("greedy accuracy", "greedy"), ("pass@1", "pass@1")):
            change = trained.differences[measure]
            print(f"{name}: {start.scores[measure]} -> {trained.scores[measure]}, change {change}")


if __name__ == "__main__":
    try:
        main()
    except star_rft.UserError as error:
        raise SystemExit(f"error: {error}") from None
