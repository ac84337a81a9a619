"""Renders problems to prompts, and gives the tokens of prompts and completions."""

from __future__ import annotations

import datetime
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from star_rft.errors import UserError
from star_rft.types import Decoding, FinishReason, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from star_rft.models.ends import Ends, Stops

QUESTION = "{question}"
SHOT_KEYS = {"prompt", "completion"}
# Put before a chat template, it takes the place of the function of transformers that reads the clock. Newer versions of
# transformers hand plain data to templates and no functions of ours.
FIXED_CLOCK = """\
{%%- macro strftime_now(format) -%%}
{%%- set parts = %s -%%}
{%%- set pieces = format.replace("%%%%", "\\0").split("%%") -%%}
{%%- set written -%%}
{{- pieces[0] -}}
{%%- for piece in pieces[1:] -%%}
{%%- set size = 2 if piece[:2] in parts else 1 -%%}
{{- parts.get(piece[:size], "%%" ~ piece[:size]) ~ piece[size:] -}}
{%%- endfor -%%}
{%%- endset -%%}
{{- written.replace("\\0", "%%") -}}
{%%- endmacro %%}
"""


@lru_cache
def _fixed_clock(date: str) -> str:
    """Return the template text that defines `strftime_now` for one day, given as YYYY-MM-DD."""
    day = datetime.date.fromisoformat(date)
    directives = [flag + letter for flag in ("", *"-_0^#") for letter in string.ascii_letters]  # %d, %-d, ...
    return FIXED_CLOCK % json.dumps({directive: day.strftime(f"%{directive}") for directive in directives})


class PromptError(UserError):
    """A prompt setting that cannot work with this tokenizer: the text names the key."""


@dataclass(frozen=True, slots=True)
class Prompter:
    """Renders problems for one tokenizer, and gives the token ids of prompts and completions.

    `prompt_ids` tokenises a chat prompt as `apply_chat_template` does (the template writes the special tokens), and a
    plain one as `tokenizer(text)` does. What is trained on is the ids of the prompt followed by the ids of the
    completion, each tokenised alone, exactly as in sampling; the chat template is never applied to
    a finished exchange. So a template that renders one differently (thinking templates drop or add an empty
    thought) cannot move the border between prompt and completion.

    `template` is put around the question, in chat and plain prompts alike; braces in a problem mean nothing.
    `completion_prefix` starts every completion that is written here, in `target` and in plain few-shot
    examples: " " after a template that ends in "Answer:". `ends` are the model's end tokens (`models.ends`), those
    that the tokenizer names unless given. `date` is the day, as YYYY-MM-DD, that a template is told which asks for
    today's.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str = QUESTION
    chat: Literal["auto"] | bool = "auto"
    system: str | None = None
    few_shot: Sequence[Mapping[str, str]] = ()
    completion_prefix: str = ""
    chat_options: Mapping[str, Any] = field(default_factory=dict)
    """Passed to the chat template by name, such as `enable_thinking`."""
    ends: Ends | None = None
    date: str | None = None

    def __post_init__(self) -> None:
        """Fail before any work if a setting does not fit this tokenizer; rendering one question shows it."""
        if self.template.count(QUESTION) != 1:
            raise PromptError(f"prompt.template must hold {QUESTION} exactly once: {self.template!r}")
        if self.chat not in ("auto", True, False):
            raise PromptError(f"prompt.chat is {self.chat!r}; valid are auto, true, false")
        if self.chat is True and not self.tokenizer.chat_template:
            raise PromptError("prompt.chat is true, but the tokenizer has no chat template; use auto or false")
        for index, shot in enumerate(self.few_shot):
            if set(shot) != SHOT_KEYS:
                raise PromptError(f"prompt.few_shot[{index}] has the keys {sorted(shot)}; it needs {sorted(SHOT_KEYS)}")
        self._check_chat_options()
        self._check_constant_parts(self.text("1 + 1?"))
        if self.ends is None:
            from star_rft.models.ends import ends_by

            object.__setattr__(self, "ends", ends_by(self.tokenizer, chat_options=self.chat_options))

    @property
    def is_chat(self) -> bool:
        return bool(self.tokenizer.chat_template) if self.chat == "auto" else self.chat

    @property
    def end_tokens(self) -> Ends:
        assert self.ends is not None  # __post_init__ has seen to it
        return self.ends

    def render(self, problem: Problem) -> str:
        """Return the prompt of a problem, up to where the model goes on."""
        return self.text(problem.prompt)

    def text(self, question: str) -> str:
        """Return the prompt for any question, such as one that a hint was added to."""
        return self._chat(question) if self.is_chat else self._plain(question)

    def prompt_ids(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a prompt that `render` or `text` returned."""
        from star_rft.models.tokens import plain_prompt_ids, text_ids

        return text_ids(self.tokenizer, text) if self.is_chat else plain_prompt_ids(self.tokenizer, text)

    def stops(self, decoding: Decoding) -> Stops:
        """Return what ended the completions of a decoding."""
        from star_rft.models.ends import stops_of

        stop, more = decoding.stop, decoding.stop_token_ids
        return stops_of(self.tokenizer, self.end_tokens, stop=stop, stop_token_ids=more)

    def stops_or_ends(self, stops: Stops | None) -> Stops:
        """Return `stops`, or the model's own end tokens where there are none."""
        from star_rft.models.ends import Stops

        return Stops(self.end_tokens.ids, ()) if stops is None else stops

    def completion_ids(
        self,
        text: str,
        sampled: Sequence[int] | None = None,
        *,
        finish_reason: FinishReason = "stop",
        stops: Stops | None = None,
    ) -> tuple[int, ...]:
        """Return the tokens of a completion as they are trained on, scored and counted.

        `sampled` are the ids that this model drew, None for a completion that is known as text only; `stops` is what
        ended it, the model's own end tokens unless given. A text that was cut off gets no end token.
        """
        from star_rft.models.tokens import continuation_ids, ended_text_ids, sampled_completion_ids

        ends = self.end_tokens
        if sampled:
            known = self.stops_or_ends(stops)
            return sampled_completion_ids(
                self.tokenizer, sampled, text, finish_reason, ends, stops=known, is_chat=self.is_chat
            )
        if finish_reason == "length":
            return continuation_ids(self.tokenizer, text)
        return ended_text_ids(self.tokenizer, text, ends, is_chat=self.is_chat)

    def target(self, problem: Problem) -> str:
        """Return the reference solution as a completion; the end-of-sequence token is the caller's to add."""
        if problem.solution is None:
            raise ValueError(f"problem {problem.id} has no reference solution to train on")
        return self.completion_prefix + problem.solution

    def _asked(self, question: str) -> str:
        # Not str.format, not chained replacing: whatever the question holds, it goes in as it is.
        before, after = self.template.split(QUESTION)
        return before + question + after

    def _plain(self, question: str) -> str:
        from star_rft.models.tokens import bos_text

        shots = [self._asked(s["prompt"]) + self.completion_prefix + s["completion"] for s in self.few_shot]
        text = "\n\n".join([*([self.system] if self.system else []), *shots, self._asked(question)])
        bos = bos_text(self.tokenizer)
        return text if text.startswith(bos) else bos + text

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return what the chat template renders for a question, whether or not this tokenizer has one."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for shot in self.few_shot:
            messages.append({"role": "user", "content": self._asked(shot["prompt"])})
            messages.append({"role": "assistant", "content": shot["completion"]})
        messages.append({"role": "user", "content": self._asked(question)})
        return messages

    def _chat(self, question: str) -> str:
        messages = self.messages(question)
        asked = self._asked(question).strip()
        # The templates of some multimodal models show nothing but lists of parts.
        in_parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
        refusals = list[PromptError]()
        for form in (messages, in_parts):
            try:
                text = self._applied(form)
            except PromptError as error:
                refusals.append(error)
                continue
            # A list that the template writes out as Python would is not shown.
            if asked in text and "'type': 'text'" not in text:
                return text
        if refusals:
            raise refusals[0]
        raise PromptError(
            f"the chat template does not show the whole question {asked[:80]!r}: set prompt.chat=false, or give the"
            " model another chat template"
        )

    def _applied(self, messages: Sequence[Mapping[str, Any]]) -> str:
        from jinja2 import TemplateError

        options = {"tokenize": False, "add_generation_prompt": True, **self._clock(), **self.chat_options}
        try:
            return str(self.tokenizer.apply_chat_template(list(messages), **options))  # type: ignore[arg-type]
        except (TemplateError, TypeError) as error:
            raise PromptError(f"the tokenizer's chat template refuses this prompt: {error}") from None

    def _clock(self) -> dict[str, Any]:
        """Return what stands in for the clock of chat templates: the same prompt on every day of a run."""
        if self.date is None or "strftime_now" not in str(self.tokenizer.chat_template):
            return {}
        return {"chat_template": _fixed_clock(self.date) + self.tokenizer.get_chat_template()}

    def _check_chat_options(self) -> None:
        """Raise PromptError for an option that the chat template does not read: it would do nothing."""
        if self.chat_options and not self.is_chat:
            raise PromptError("prompt.chat_options are for a chat template, and prompts here are plain text")
        source = str(self.tokenizer.chat_template)
        for name in self.chat_options:
            if not re.search(rf"\b{re.escape(name)}\b", source):
                asked = sorted(set(re.findall(r"\b(\w+) is (?:not )?defined", source)))
                raise PromptError(
                    f"prompt.chat_options: the chat template does not read {name!r}; it asks for"
                    f" {', '.join(asked) or 'no options'}"
                )

    def _check_constant_parts(self, text: str) -> None:
        """Raise PromptError for a system prompt or an example that the chat template leaves out."""
        parts = [("prompt.system", self.system or "")]
        for index, shot in enumerate(self.few_shot):
            parts += [(f"prompt.few_shot[{index}].{key}", shot[key]) for key in sorted(SHOT_KEYS)]
        for key, part in parts:
            if part.strip() not in text:
                raise PromptError(
                    f"{key}: the chat template does not show it whole; leave it out, or set prompt.chat=false"
                )
