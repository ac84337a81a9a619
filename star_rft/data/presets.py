"""Presets that map the columns of known data sets to the fields of a problem, and mappings that a user names.

A preset is a function from a row to `Fields`, with a function that recognises its rows.
"""

from __future__ import annotations

import ast
import builtins
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from star_rft.data.readers import DataError

Values = Mapping[str, Any]

ANNOTATION = re.compile(r"<<[^<>\n]*>>")
FIELDS = ("prompt", "reference", "solution", "id")
# Prompt and answer columns of plain question-answer data, by how they occur together.
QA_PAIRS = (("question", "answer"), ("prompt", "answer"), ("problem", "answer"), ("instruction", "output"))


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a problem in a row. `meta` holds what a preset finds out, such as the number of steps."""

    prompt: Any
    reference: Any
    solution: Any = None
    meta: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preset:
    """How the rows of a known data set are read.

    Attributes:
        columns: The columns that it reads, for error messages.
        fits: Whether a row is of this data set.
        fields: Returns the fields of a row, given the row and the options.
        options: Its options with their defaults.
    """

    columns: str
    fits: Callable[[Values], bool]
    fields: Callable[[Values, Values], Fields]
    options: Values = field(default_factory=dict)


def lookup(values: Values, path: str) -> Any:
    """Return a value by its path; dots go into objects and lists: `question.stem`, `messages.0.content`.

    Raises:
        DataError: There is no such column; the text lists the columns.
    """
    if path in values:
        return values[path]
    at: Any = values
    for key in path.split("."):
        if isinstance(at, Mapping) and key in at:
            at = at[key]
        elif isinstance(at, list) and key.isdecimal() and int(key) < len(at):
            at = at[int(key)]
        else:
            raise DataError(f"no column {path!r}; the columns are {', '.join(_column_names(values))}")
    return at


def _column_names(values: Values) -> list[str]:
    nested = [(name, value) for name, value in values.items() if isinstance(value, Mapping)]
    return sorted([*values, *(f"{name}.{key}" for name, value in nested for key in value)])


def has(values: Values, *paths: str) -> bool:
    """Return whether a row has a value, not null, at each of the paths."""
    try:
        return all(lookup(values, path) is not None for path in paths)
    except DataError:
        return False


def number_text(value: float) -> str:
    """Return a number as text without exponent and without a final ".0"; DataError for an infinity or NaN."""
    if not math.isfinite(value):
        raise DataError(f"the reference is {value}, which no answer can equal")
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` of a solution (also `\fbox` and `\boxed 5`); None without one."""
    starts = [match.end() for match in re.finditer(r"\\(?:boxed|fbox)(?![a-zA-Z])", text)]
    if not starts:
        return None
    rest = text[starts[-1] :].lstrip()
    if not rest.startswith("{"):
        bare = re.match(r"[^\s$]+", rest)
        return bare.group() if bare else None
    depth = 0
    for index, char in enumerate(rest):
        escaped = index > 0 and rest[index - 1] == "\\"
        if char in "{}" and not escaped:
            depth += 1 if char == "{" else -1
            if depth == 0:
                return rest[1:index].strip()
    return None


def _gsm8k(values: Values, options: Values) -> Fields:
    """Read GSM8K: the reference follows `####`, and the solution is the whole answer without `<<a*b=c>>`.

    The paper on RFT trains with these annotations (`keep_annotations: true`). Without them 99% of GSM8K's equations are
    still in the text as `a*b=c`, where dedup and step checks find them.
    """
    answer = str(lookup(values, "answer"))
    steps, marker, final = answer.rpartition("####")
    if not marker:
        raise DataError("column 'answer' has no '#### N'; if it is the answer itself, use preset 'qa'")
    annotations = len(ANNOTATION.findall(steps))
    solution = answer if options["keep_annotations"] else ANNOTATION.sub("", answer)
    meta = {"steps": annotations} if annotations and "steps" not in values else {}
    return Fields(lookup(values, "question"), final.strip(), solution.strip(), meta)


def _math(values: Values, _options: Values) -> Fields:
    r"""Read MATH: the reference is the column `answer` if there is one, else the solution's last `\boxed{}`."""
    solution = str(lookup(values, "solution"))
    reference = values.get("answer") if has(values, "answer") else last_boxed(solution)
    if reference is None:
        raise DataError(r"column 'solution' has no \boxed{...}, and there is no column 'answer'")
    return Fields(lookup(values, "problem"), reference, solution)


def _svamp(values: Values, _options: Values) -> Fields:
    body = str(lookup(values, "Body")).strip()
    question = str(lookup(values, "Question")).strip()
    if body[-1:] not in (".", "?", "!", ",", ""):
        # "If the bananas are organized into 2 groups" + "How big is each group": one sentence in two columns.
        body += ","
    answer = lookup(values, "Answer")
    try:
        answer = number_text(float(answer))
    except (TypeError, ValueError):
        raise DataError(f"column 'Answer' is {answer!r}, not a number") from None
    return Fields(f"{body} {question}".strip(), answer)


def _mawps(values: Values, _options: Values) -> Fields:
    return Fields(lookup(values, "input"), lookup(values, "target"))


def _humaneval(values: Values, _options: Values) -> Fields:
    """Read HumanEval. The solution is the whole program in a code block, as the verifier `code` judges programs."""
    prompt = lookup(values, "prompt")
    body = values.get("canonical_solution")
    reference = {"tests": lookup(values, "test"), "entry_point": lookup(values, "entry_point"), "prompt": prompt}
    return Fields(prompt, reference, None if body is None else fenced(f"{prompt}{body}"))


def _mbpp(values: Values, _options: Values) -> Fields:
    """Read MBPP. The prompt shows the tests, as in the paper (arXiv 2108.07732): only they name the function."""
    tests = lookup(values, "test_list")
    text = lookup(values, "text" if has(values, "text") else "prompt")
    setup = [values["test_setup_code"]] if values.get("test_setup_code") else values.get("test_imports") or []
    shown = "\n".join(tests)
    reference = {"tests": "\n".join([*setup, *tests]), "entry_point": _tested_function(tests)}
    code = values.get("code")
    prompt = f"{str(text).strip()}\nYour code should pass these tests:\n\n{shown}"
    return Fields(prompt, reference, None if code is None else fenced(str(code)))


def fenced(program: str) -> str:
    """Return a program as a Markdown code block."""
    return f"```python\n{program.strip()}\n```"


def _tested_function(tests: list[str]) -> str:
    """Return the name of the function that the first assert calls: the outermost call, names of builtins last."""
    try:
        calls = [node.func for node in ast.walk(ast.parse(tests[0])) if isinstance(node, ast.Call)]
    except (SyntaxError, IndexError):
        calls = []
    names = [call.id for call in calls if isinstance(call, ast.Name)]
    # A task may be to write a function of a builtin's name, as MBPP's `sum`.
    names.sort(key=lambda name: hasattr(builtins, name))
    if not names:
        raise DataError(f"column 'test_list' calls no function: {tests!r}")
    return names[0]


def _commonsenseqa(values: Values, options: Values) -> Fields:
    """Read CommonsenseQA, in the authors' form (`question.stem`, a list of choices) or the hub's (labels and texts)."""
    if has(values, "question.stem"):
        stem, choices = lookup(values, "question.stem"), lookup(values, "question.choices")
        texts = {choice["label"]: choice["text"] for choice in choices}
    else:
        stem = lookup(values, "question")
        texts = dict(zip(lookup(values, "choices.label"), lookup(values, "choices.text"), strict=True))
    key = lookup(values, "answerKey")
    if key and key not in texts:
        raise DataError(f"column 'answerKey' is {key!r}, but the choices are {', '.join(texts)}")
    lines = [stem, *(f"({label}) {text}" for label, text in texts.items())]
    if options["reference"] == "letter" or not key:
        return Fields("\n".join(lines), key)
    return Fields("\n".join(lines), {"answer": key, "options": texts})


def _qa(values: Values, _options: Values) -> Fields:
    pairs = [pair for pair in QA_PAIRS if has(values, *pair)]
    if len(pairs) != 1:
        found = " and ".join(f"{prompt}/{answer}" for prompt, answer in pairs) or "none of the known pairs"
        raise DataError(f"cannot tell question from answer: the columns have {found}; give columns")
    prompt, answer = (lookup(values, column) for column in pairs[0])
    if isinstance(answer, str) and "\n####" in answer:
        raise DataError(f"column {pairs[0][1]!r} holds a solution that ends in '####': use preset 'gsm8k'")
    if pairs[0] == ("instruction", "output") and values.get("input"):
        prompt = f"{prompt}\n\n{values['input']}"  # Alpaca's shape: the input belongs to the question
    return Fields(prompt, answer, values.get("solution"))


def _is_gsm8k(values: Values) -> bool:
    return has(values, "question", "answer") and "####" in str(values["answer"])


def _is_math(values: Values) -> bool:
    return has(values, "problem", "solution") and last_boxed(str(values["solution"])) is not None


def _is_commonsenseqa(values: Values) -> bool:
    return "answerKey" in values and (has(values, "question.stem", "question.choices") or has(values, "choices.label"))


def _is_qa(values: Values) -> bool:
    return any(has(values, *pair) for pair in QA_PAIRS) and not (_is_gsm8k(values) or _is_math(values))


PRESETS: Mapping[str, Preset] = {
    "gsm8k": Preset("question, answer with '#### N'", _is_gsm8k, _gsm8k, {"keep_annotations": False}),
    "math": Preset(r"problem, solution with \boxed{}, answer?", _is_math, _math),
    "svamp": Preset("Body, Question, Answer", lambda row: has(row, "Body", "Question", "Answer"), _svamp),
    "mawps": Preset("input, target", lambda row: has(row, "input", "target"), _mawps),
    "humaneval": Preset(
        "prompt, test, entry_point, canonical_solution?",
        lambda row: has(row, "prompt", "test", "entry_point"),
        _humaneval,
    ),
    "mbpp": Preset(
        "text or prompt, test_list, code?",
        lambda row: has(row, "test_list") and (has(row, "text") or has(row, "prompt")),
        _mbpp,
    ),
    "commonsenseqa": Preset(
        "question.stem, question.choices, answerKey (or question, choices.label, choices.text, answerKey)",
        _is_commonsenseqa,
        _commonsenseqa,
        {"reference": "letter"},
    ),
    "qa": Preset(" or ".join("/".join(pair) for pair in QA_PAIRS) + ", solution?", _is_qa, _qa),
}
OPTION_VALUES: Mapping[str, tuple[Any, ...]] = {
    "keep_annotations": (True, False),
    "reference": ("letter", "object"),
}


def detect(values: Values) -> str | None:
    """Return the name of the preset that fits a row; None where none or several do.

    Column names are not enough: GSM8K and plain question-answer data differ only in content.
    """
    fitting = [name for name, preset in PRESETS.items() if preset.fits(values)]
    return fitting[0] if len(fitting) == 1 else None


def reader(
    first: Values, *, preset: str | None, columns: Mapping[str, str] | None, options: Values
) -> Callable[[Values], Fields]:
    """Return the function that reads the rows of a source.

    Args:
        first: The first row, from which a preset is chosen where none is named.
        preset: Name of the preset; None: chosen, unless `columns` is given.
        columns: Path of the column of each field. With a preset: path of each column that the preset reads.
        options: Options of the preset.

    Raises:
        DataError: No preset fits, or a name or option does not exist.
    """
    if preset is None and columns is not None:
        return _named(columns, options)
    if preset is None:
        preset = detect(first)
    if preset is None:
        shapes = "; ".join(f"{name} ({known.columns})" for name, known in PRESETS.items())
        raise DataError(
            f"cannot tell what the columns {', '.join(_column_names(first))} mean: give columns="
            f"{{'prompt': ..., 'reference': ...}}, or a preset: {shapes}"
        )
    if preset not in PRESETS:
        raise DataError(f"no preset {preset!r}; valid are {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    switches = {**chosen.options, **check_options(options, chosen.options, f"preset {preset!r}")}
    renamed = dict(columns or {})
    return lambda values: chosen.fields({**values, **{to: lookup(values, at) for to, at in renamed.items()}}, switches)


def check_options(options: Values, valid: Values, owner: str) -> Values:
    """Return options; DataError for one that `valid` does not have, or a value that it cannot have."""
    for key, value in options.items():
        if key not in valid:
            raise DataError(f"{owner} has no option {key!r}; valid are {', '.join(valid) or 'none'}")
        if key in OPTION_VALUES and value not in OPTION_VALUES[key]:
            raise DataError(f"option {key} is {value!r}; valid are {', '.join(map(repr, OPTION_VALUES[key]))}")
    return options


def _named(columns: Mapping[str, str], options: Values) -> Callable[[Values], Fields]:
    """Return the function that reads the columns a user names; the id goes to `meta.source_id`."""
    check_options(options, {}, "a column mapping")
    if unknown := set(columns) - set(FIELDS):
        raise DataError(f"columns has the key {sorted(unknown)[0]!r}; valid are {', '.join(FIELDS)}")
    for needed in ("prompt", "reference"):
        if needed not in columns:
            raise DataError(f"columns must name {needed!r}; it has {', '.join(columns) or 'nothing'}")
    if columns["prompt"] == columns["reference"]:
        raise DataError(f"prompt and reference are the same column, {columns['prompt']!r}")

    def fields(values: Values) -> Fields:
        found = {key: lookup(values, path) for key, path in columns.items()}
        meta = {"source_id": found["id"]} if "id" in found else {}
        return Fields(found["prompt"], found["reference"], found.get("solution"), meta)

    return fields
