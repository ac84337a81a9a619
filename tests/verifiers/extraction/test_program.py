"""The program in a completion."""

from __future__ import annotations

import time

import pytest

from verifiers.extraction.program import find_program

PROGRAM = "def f(x):\n    return x\n"
PROMPT = 'from typing import List\n\n\ndef f(x: List[int]):\n    """Doc."""\n'


def test_a_program_is_the_completion_itself() -> None:
    assert find_program(PROGRAM) == PROGRAM


def test_a_fenced_block_is_found_between_prose() -> None:
    text = f"Sure, here it is:\n\n```python\n{PROGRAM}```\n\nIt returns x."
    assert find_program(text, name="f") == PROGRAM


def test_of_several_blocks_the_last_that_defines_the_function_counts() -> None:
    draft, final, example = PROGRAM.replace("return x", "return 0"), PROGRAM, "print(f(3))\n"
    text = "".join(f"Then:\n```python\n{block}```\n" for block in (draft, final, example))
    assert find_program(text, name="f") == final
    script = find_program(text)
    assert script is not None
    assert script.endswith(example)


def test_blocks_that_define_what_the_last_one_uses_come_with_it() -> None:
    helper, unused = "def g(x):\n    return x\n", "def h(x):\n    return x\n"
    text = "".join(f"```python\n{block}```\n" for block in (helper, unused, "def f(x):\n    return g(x)\n"))
    assert find_program(text, name="f") == f"{helper}\n\ndef f(x):\n    return g(x)\n"


@pytest.mark.parametrize(
    "text",
    [
        "```Python3\n{0}```\nOutput:\n```\n3\n```",
        "```{{.python .numberLines}}\n{0}```",
        "```python title='a.py'\n{0}```",
        "~~~python\n{0}~~~",
        "```python\n{0}\nThis returns its argument, or so it seems.",
    ],
)
def test_fences_are_written_in_many_ways(text: str) -> None:
    program = find_program(text.format(PROGRAM), name="f")
    assert program is not None
    assert program.strip() == PROGRAM.strip()


def test_a_fence_may_end_in_the_middle_of_a_line_and_lines_in_carriage_returns() -> None:
    assert find_program("```python\ndef f(x):\n    return x```\nDone.", name="f") == PROGRAM.rstrip()
    assert find_program("Sure\r\n```python\r\ndef f(x):\r\n    return x\r\n```\r\nDone.", name="f") == PROGRAM


def test_a_fence_inside_a_docstring_does_not_end_the_block() -> None:
    program = 'def f(x):\n    """\n    ```\n    f(1)\n    ```\n    """\n    return x\n'
    assert find_program(f"```python\n{program}```\nDone.", name="f") == program


def test_a_future_import_stays_first_when_the_prompt_comes_before_the_program() -> None:
    program = find_program(f"from __future__ import annotations\n{PROGRAM}", name="f", prompt=PROMPT)
    assert program is not None
    assert program.startswith("from __future__ import annotations\nfrom typing import List\n")


@pytest.mark.parametrize(
    "text",
    [
        "`" * 190_000,
        "```" + "a" * 190_000,
        "```python\nx\n" * 15_000,
        "a b\n" * 3_000_000,
        "x = [\n" + "1,\n" * 3_000_000 + "]\n",
        "def f(x): return 0\n" + "x = 1\n" * 25_000 + "a b\n" * 60,
        "x = " + "-" * 100_000 + "1",
    ],
    ids=["backticks", "tag", "fences", "garbage", "large", "errors", "deep"],
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    find_program(text, name="f")
    assert time.process_time() - began < 2.0


def test_a_block_of_output_is_no_program() -> None:
    assert find_program(f"```python\n{PROGRAM}```\nwhich prints\n```\n3\n```\n", name="f") == PROGRAM


def test_a_fence_that_is_never_closed_ends_with_the_text() -> None:
    assert find_program(f"```py\n{PROGRAM}", name="f") == PROGRAM


def test_a_fence_inside_a_string_of_a_program_is_part_of_it() -> None:
    program = 'def f(x):\n    """\n```python\nno\n```\n    """\n    return x\n'
    assert find_program(program, name="f") == program


def test_prose_around_code_without_fences_is_cut_off() -> None:
    assert find_program(f"The function is this one.\n{PROGRAM}I hope that this helps!", name="f") == PROGRAM


def test_only_the_text_after_the_thought_counts() -> None:
    draft = PROGRAM.replace("return x", "return 0")
    assert find_program(f"<think>```python\n{draft}```</think>```python\n{PROGRAM}```", name="f") == PROGRAM
    assert find_program(f"<think>```python\n{draft}```", name="f") is None


def test_a_body_continues_the_prompt_and_a_whole_function_takes_its_imports() -> None:
    body = find_program("    return x\n\nThat is all.", name="f", prompt=PROMPT)
    assert body is not None
    assert body.startswith(PROMPT)
    assert body.rstrip().endswith("return x")
    whole = find_program("```python\ndef f(x: List[int]):\n    return x\n```", name="f", prompt=PROMPT)
    assert whole is not None
    assert whole.startswith("from typing import List")


def test_a_block_in_a_list_is_dedented() -> None:
    text = "1. First:\n\n   ```python\n   def f(x):\n       return x\n   ```\n"
    assert find_program(text, name="f") == PROGRAM


def test_prose_alone_holds_no_program() -> None:
    assert find_program("I cannot do this, sorry.") is None
    assert find_program("   \n") is None
