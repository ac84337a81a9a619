"""The program in a completion."""

from __future__ import annotations

from verifiers.programs import find_program

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
    assert find_program(text) == example


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
