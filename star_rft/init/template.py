"""The config with comments that `star-rft init` writes, and the prompt in it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from star_rft.init.sizing import SMALL, TINY, ModelFacts, Sizes
from star_rft.init.verifier import Kind

WIDTH = 100
# Comments on keys: what a key means, and when to change it. `_why` adds those that depend on the plan.
WHY = {
    "name": "The run is kept in runs/NAME. After a change of what is sampled, take another name.",
    "seed": "All randomness. Another seed shows how much of a gain is luck.",
    "rounds": "How often to sample, select and train. Raise it later, and run again.",
    "model.name": "A folder or a hub name. For another model make this config again: prompt and sizes depend on it.",
    "data.train": "What is sampled and trained on. A path counts from where star-rft runs.",
    "data.dev": "Held out: decisions are made on it. share: a part of the data, by a hash of the questions.",
    "data.test": "Reported and never decided on. Remove it to save time.",
    "data.contamination": "Train problems that are held-out ones, or nearly: drop leaves them out, stop refuses.",
    "prompt.template": "What the model sees; {question} is the problem. It must ask for what the verifier reads.",
    "prompt.chat": "auto: with the model's chat template if it has one. false: the text above and nothing else.",
    "prompt.completion_prefix": "What stands between the template and a reference solution that is trained on.",
    "sample.n": "Samples a problem and round. More find answers to harder problems, and cost as much more.",
    "sample.problems": "Train problems a round, drawn anew each round. Without this key all are sampled.",
    "sample.temperature": "1.0 keeps samples different; try 0.7 if most of them are nonsense.",
    "sample.max_tokens": "Tokens a sample; what is cut off is never trained on. Raise it if many are truncated.",
    "sample.stop": "A base model goes on with a new question: its answer ends there.",
    "sample.unit": "Samples that are saved at once: what a crash can cost.",
    "select.rules": "From left to right: correct ones, none twice, at most 4 a problem.",
    "select.rounds": "last: train on the last round's samples. all: on those of every round so far.",
    "warm_start": "Before round 1, training on the data's own solutions: a model that does not answer in this form yet "
    "learns it. To begin without, remove this section and set train.from to base. Its other keys are those of train.",
    "warm_start.data": "So many of the solutions; without this key all of them.",
    "train.from": "Where each round's training begins: base, warm_start, or last, the model of the round before.",
    "train.lr": "The first thing to change: raise it if the loss does not fall, lower it if pass@1 does.",
    "train.epochs": "Passes over what was selected.",
    "train.batch_size": "Examples a step, whatever the memory: micro-batches are chosen to fit.",
    "train.max_tokens": "Prompt and answer at most; longer examples are left out and counted.",
    "train.lora": "Low-rank adapters, as training all weights would not fit the memory here. Remove it where it does.",
    "eval.n": "Samples a held-out problem: more make the intervals of pass@k narrower.",
    "eval.k": "The k of pass@k, at most n.",
    "eval.temperature": "As in sample, so that what is measured is what is trained; greedy is added.",
    "eval.max_tokens": "As in sample.",
    "eval.stop": "As in sample.",
    "eval.group_by": "pass@1 is also shown by this column of the data.",
}
WHY_TINY = (
    "The miniature in this package, to try things out: it knows simple word problems and nothing else. For real work "
    "make this config again with --model: a folder, or a hub name such as Qwen/Qwen2.5-0.5B."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a config is written from.

    Attributes:
        name: Name of the run.
        file: File of the config.
        model: The model.
        train: The section `data.train`.
        dev: The section `data.dev`.
        test: The section `data.test`, if there is one.
        train_count: Number of train problems, without those that are left out.
        dev_count: Number of problems that are evaluated.
        contaminated: Train problems that hold a held-out one and are left out.
        origin: How problems are made of the data, in words.
        verifier: Name of the verifier.
        verifier_why: Why it was chosen.
        kind: Kind of the answers.
        prompting: The prompt.
        sizes: Sizes of sampling and training.
        has_reference_solutions: Every train problem has a worked solution, which the verifier finds correct.
        group_by: Column by which results are grouped, if there is one.
    """

    name: str
    file: str
    model: ModelFacts
    train: Mapping[str, Any]
    dev: Mapping[str, Any]
    test: Mapping[str, Any] | None
    train_count: int
    dev_count: int
    contaminated: int
    origin: str
    verifier: str
    verifier_why: str
    kind: Kind
    prompting: PromptTemplate
    sizes: Sizes
    has_reference_solutions: bool
    group_by: str | None

    @property
    def has_warm_start(self) -> bool:
        """Return whether the run begins with a warm start.

        Reference solutions teach the form of an answer to a model that has no chat template, or is very small.
        """
        is_small = self.model.parameters is not None and self.model.parameters < SMALL
        return self.has_reference_solutions and (self.model.is_chat is False or is_small)


def commands(plan: Plan) -> list[str]:
    """Return lines of the next commands, each with what it does."""
    file = plan.file if " " not in plan.file else f"'{plan.file}'"
    does = {
        f"star-rft run {file} --dry-run": "the plan, and what it may cost",
        f"star-rft run {file}": "do it; the same command resumes",
        f"star-rft report runs/{plan.name}": "one page about it, at any time",
    }
    width = max(map(len, does))
    return [f"{command:<{width}}   {text}" for command, text in does.items()]


def written(plan: Plan) -> str:
    """Return the text of the config."""
    head = [
        f"# {plan.name}: {plan.train_count:,} problems to train on, {plan.dev_count:,} held out. From star-rft init.",
        "#",
        *(f"#   {command}" for command in commands(plan)),
        "#",
        "# Change what you like: a wrong key or value is refused with what is valid. What is left out has its default.",
    ]
    return "\n".join([*head, *_lines(document(plan), _why(plan))]) + "\n"


def document(plan: Plan) -> dict[str, Any]:
    """Return the config as a mapping, without the keys for which the plan has no value."""
    sizes, stop = plan.sizes, list(plan.prompting.stop) or None
    sampled = {"temperature": 1.0, "max_tokens": sizes.max_tokens, "stop": stop}
    is_tiny = plan.model.name == TINY
    sections: dict[str, Any] = {
        "name": plan.name,
        "seed": 0,
        "rounds": sizes.rounds,
        "model": {"name": plan.model.name},
        "data": {
            "train": plan.train,
            "dev": plan.dev,
            "test": plan.test,
            "contamination": "drop" if plan.contaminated else None,
        },
        "prompt": {
            "template": plan.prompting.template,
            "chat": plan.prompting.chat,
            "completion_prefix": plan.prompting.completion_prefix or None,
        },
        "verifier": {"name": plan.verifier},
        "sample": {
            "n": sizes.n,
            "problems": sizes.problems,
            **sampled,
            "unit": sizes.unit,
        },
        "select": {"rules": _rules(plan.kind), "rounds": "last" if is_tiny else "all"},
        "warm_start": _warm_start(plan) if plan.has_warm_start else None,
        "train": {
            "from": "warm_start" if plan.has_warm_start else "last" if is_tiny else "base",
            **_fit(sizes, epochs=sizes.epochs),
        },
        "eval": {"n": sizes.eval_n, "k": list(sizes.ks), **sampled, "group_by": plan.group_by},
    }
    return {name: _given(section) for name, section in sections.items() if section is not None}


def _given(section: Any) -> Any:
    return {key: value for key, value in section.items() if value is not None} if isinstance(section, dict) else section


def _rules(kind: Kind) -> list[Any]:
    keys = {"program": ["exact", "program"], "number": ["exact", "equations"], "latex": ["exact", "equations"]}
    return ["correct", *({"dedup": key} for key in keys.get(kind, ["exact"])), {"cap": 4}]


def _fit(sizes: Sizes, *, epochs: int) -> dict[str, Any]:
    fit = {"lr": sizes.lr, "epochs": epochs, "batch_size": sizes.batch_size, "max_tokens": sizes.train_tokens}
    return {**fit, "lora": {"r": 16, "alpha": 32}} if sizes.uses_lora else fit


def _warm_start(plan: Plan) -> dict[str, Any]:
    fit, most = _fit(plan.sizes, epochs=plan.sizes.epochs), plan.sizes.warm_start
    if most is None or plan.train_count <= most:
        return fit
    return {"data": {**plan.train, "limit": most, "shuffle_seed": 0}, **fit}


def _why(plan: Plan) -> dict[str, str]:
    judged = f"{plan.verifier_why[:1].upper()}{plan.verifier_why[1:]}"
    why = {
        **WHY,
        "verifier.name": f"{judged}. star-rft verifiers lists all; one of your own is module:function.",
        "data.train": f"{WHY['data.train']} {plan.origin}".strip(),
    }
    return why | ({"model.name": WHY_TINY} if plan.model.name == TINY else {})


def _lines(config: Mapping[str, Any], why: Mapping[str, str]) -> Iterator[str]:
    for name, section in config.items():
        if not isinstance(section, Mapping):
            yield from _key(name, section, why[name])
            continue
        yield ""
        yield from _comment(why.get(name, ""))
        yield f"{name}:"
        for key, value in section.items():
            yield from _key(key, value, why.get(f"{name}.{key}", ""), indent=2)


def _key(name: str, value: Any, comment: str, *, indent: int = 0) -> Iterator[str]:
    yield from _comment(comment, indent=indent)
    yield f"{' ' * indent}{name}: {flow(value)}"


def _comment(text: str, *, indent: int = 0) -> list[str]:
    lead = f"{' ' * indent}# "
    return [
        lead + line for line in textwrap.wrap(text, WIDTH - len(lead), break_long_words=False, break_on_hyphens=False)
    ]


def flow(value: Any) -> str:
    """Return a value as YAML on one line, with as few quotes and braces as possible, and 2e-5 instead of 2.0e-05."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_entry, value)) + "]"
    if isinstance(value, float) and 0 < abs(value) < 0.001 and float(f"{value:.1e}") == value:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    style = '"' if isinstance(value, str) and not _is_plain(value) else None
    text: str = yaml.safe_dump(value, default_style=style, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _entry(value: Any) -> str:
    """Return an entry of a list; a mapping of one key needs no braces there: [correct, dedup: exact]."""
    text = flow(value)
    return text[1:-1] if isinstance(value, Mapping) and len(value) == 1 else text


def _is_plain(text: str) -> bool:
    """Return whether YAML reads a text as itself without quotes, also inside a list."""
    begins_so = text[:1].isalpha() or text.startswith(("/", "./", "../"))
    is_word = all(char.isalnum() or char in "_-./@" for char in text)
    return begins_so and is_word and yaml.safe_load(text) == text


ASKED: dict[Kind, str] = {
    "number": "Reason step by step. End with #### and the number.",
    "latex": r"Reason step by step. Put the final answer into \boxed{}.",
    "letter": "Reason step by step. End with #### and the letter of the right choice.",
    "text": "Reason step by step. End with #### and the answer alone.",
    "program": "Write a Python program. Put all of it into one ```python block.",
    "json": "Answer with one ```json block.",
    "other": "",
}


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The keys of the section `prompt` of a config, the stop strings, and why."""

    template: str
    chat: str | bool
    completion_prefix: str
    stop: tuple[str, ...]
    why: str


def prompting_for(model: ModelFacts, kind: Kind) -> PromptTemplate:
    """Return the prompt for a model and a kind of answer.

    A chat model gets the question and the form of the answer, another model a text that continues with the answer.
    """
    asked = ASKED[kind]
    if model.name == TINY:
        return PromptTemplate("Question: {question}\nAnswer:", False, " ", (), "the form that tiny was pretrained on")
    if model.is_chat is not False:
        chat = "auto: the model's chat template is put around this if it has one"
        return PromptTemplate(f"{{question}}\n\n{asked}" if asked else "{question}", "auto", "", (), chat)
    instruction = f"{asked}\n" if asked else ""
    # A program begins on a line of its own, and may hold the word "Question:".
    prefix, stop = ("\n", ()) if kind in ("program", "json") else (" ", ("\nQuestion:",))
    return PromptTemplate(
        f"Question: {{question}}\n{instruction}Answer:", False, prefix, stop, "a text that a base model goes on with"
    )
