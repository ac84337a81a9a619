"""Token ids of prompts and completions: tokenizers that put a space before a text, templates that change one."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from star_rft.data import Prompter
from star_rft.data.prompts import PromptError
from star_rft.types import Problem
from tests.small_models import tokenizer_of

PIECES = ["<s>", "</s>", "<unk>", "▁", "▁a", "▁b", "▁ab", "a", "b", "ab", "?", "=", "1", ")", "▁?", ":", "Q", "▁Q"]
PROBLEM = Problem("1", "ab a?", "a", "exact", solution="ab a")
CHATML = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endfor %}"


def spaced(scheme: str, *, adds_eos: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer like Llama's: `scheme` says when it puts ▁ before a text; "legacy" does by its normaliser."""
    vocabulary = {piece: index for index, piece in enumerate(PIECES)}
    merges = [("a", "b"), ("▁", "ab"), ("▁", "a"), ("▁", "b"), ("▁", "?"), ("▁", "Q")]
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    if scheme == "legacy":
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    single = "<s> $A </s>" if adds_eos else "<s> $A"
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("adds_eos", [False, True])
@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
def test_a_plain_prompt_is_tokenised_as_the_tokenizer_does_a_text(scheme: str, adds_eos: bool) -> None:
    tokenizer = spaced(scheme, adds_eos=adds_eos)
    prompts = Prompter(tokenizer)
    expected: list[int] = tokenizer("ab a?")["input_ids"]
    assert prompts.prompt_ids(prompts.render(PROBLEM)) == tuple(expected[:-1] if adds_eos else expected)
    assert expected[:2] == [PIECES.index("<s>"), PIECES.index("▁ab")]


def test_what_a_tokenizer_puts_before_every_text_is_before_a_plain_prompt() -> None:
    """GLM begins a text with two special tokens, and names no beginning of a sequence."""
    pieces = ["<mask>", "<sop>", "</s>", "a", "b", " ", "?"]
    tokenizer = tokenizer_of(pieces, unknown="?", begins_with=["<mask>", "<sop>"], eos_token="</s>")
    prompts = Prompter(tokenizer)
    assert prompts.prompt_ids(prompts.render(PROBLEM)) == (0, 1, 3, 4, 5, 3, 6)


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
def test_a_completion_gains_no_space_that_it_would_not_have_after_its_prompt(scheme: str) -> None:
    prompts = Prompter(spaced(scheme))
    end = PIECES.index("</s>")
    assert prompts.completion_ids("ab a") == (PIECES.index("ab"), PIECES.index("▁a"), end)
    assert prompts.completion_ids(" ab") == (PIECES.index("▁ab"), end)
    assert prompts.completion_ids("") == (end,)


def test_a_chat_prompt_is_tokenised_as_its_template_says() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    prompts = Prompter(tokenizer)
    asked = [{"role": "user", "content": PROBLEM.prompt}]
    encoded: Any = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)
    assert prompts.prompt_ids(prompts.render(PROBLEM)) == tuple(encoded["input_ids"])


def test_a_template_that_shows_lists_of_parts_only_shows_the_question() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = (
        "{% for m in messages %}{% for part in m['content'] %}"
        "{% if part['type'] == 'text' %}<{{ m['role'] }}>{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    assert Prompter(tokenizer).render(PROBLEM) == "<user>ab a?"


def test_a_template_that_takes_lists_of_parts_only_has_its_end_found() -> None:
    tokenizer = spaced("first")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'][0]['text'] + '' }}<turn>\n{% endfor %}"
    )
    prompts = Prompter(tokenizer)
    assert prompts.render(PROBLEM) == "<user>ab a?<turn>\n"
    assert prompts.end_tokens.chat == tokenizer.convert_tokens_to_ids("<turn>")


def test_a_template_that_loses_the_question_is_refused() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'][:3] }}{% endfor %}"
    with pytest.raises(PromptError, match=r"does not show the whole question '1 \+ 1\?': set prompt.chat=false"):
        Prompter(tokenizer)


def test_a_question_that_a_template_changes_is_refused_when_it_is_asked() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = CHATML.replace("m['content']", "m['content'] | replace('ab', '')")
    prompts = Prompter(tokenizer)
    with pytest.raises(PromptError, match="does not show the whole question 'ab a"):
        prompts.render(PROBLEM)


def test_a_template_may_strip_the_question() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = CHATML.replace("m['content']", "m['content'] | trim")
    assert "<user>ab</s>" in Prompter(tokenizer).text("  ab\n")


def test_a_system_prompt_that_the_template_leaves_out_is_refused() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    with pytest.raises(PromptError, match=r"prompt\.system: the chat template does not show it whole"):
        Prompter(tokenizer, system="Think.")


def test_an_example_that_the_template_shortens_is_refused() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]")
    shot = {"prompt": "a?", "completion": "<think>ab</think>b"}
    with pytest.raises(PromptError, match=r"prompt.few_shot\[0\].completion: the chat template"):
        Prompter(tokenizer, few_shot=[shot])


def test_a_chat_option_that_the_template_does_not_read_is_refused() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = CHATML + "{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}"
    assert Prompter(tokenizer, chat_options={"enable_thinking": False}).render(PROBLEM).endswith("<no>")
    with pytest.raises(PromptError, match="does not read 'thinking'; it asks for enable_thinking"):
        Prompter(tokenizer, chat_options={"thinking": False})
    with pytest.raises(PromptError, match="prompts here are plain text"):
        Prompter(tokenizer, chat=False, chat_options={"enable_thinking": False})


def test_a_template_is_told_the_day_of_the_run() -> None:
    tokenizer = spaced("first")
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + CHATML
    assert Prompter(tokenizer, date="2024-02-29").render(PROBLEM).startswith("29 Feb 2024<user>")
    today = datetime.datetime.now().strftime("%d %b %Y")
    assert Prompter(tokenizer).render(PROBLEM).startswith(today)


@pytest.mark.parametrize("start", ["", "\n\n ", "  {% if true %}{% endif %}\n"])
def test_the_day_is_written_as_python_writes_it_and_the_rest_of_the_template_stays(start: str) -> None:
    tokenizer, day = spaced("first"), datetime.date(2024, 2, 9)
    form = "%-d %_d %d %%d 100%% %B %^b %y %Y-%m-%dT%H:%M:%S %A %j %x"
    template = start + "@" + CHATML + "{% macro told() %}@{% endmacro %}{{ told() }}"
    tokenizer.chat_template = template
    without = Prompter(tokenizer, date=str(day)).render(PROBLEM)
    assert without.count("@") == 2
    tokenizer.chat_template = template.replace("@", f"{{{{ strftime_now('{form}') }}}}")
    assert Prompter(tokenizer, date=str(day)).render(PROBLEM) == without.replace("@", day.strftime(form))
