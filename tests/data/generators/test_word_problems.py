import itertools
import re
import time

import pytest

from star_rft.data.generators.word_problems import WordProblem, _split_of, generate

SPLITS = ("pretrain", "train", "dev", "test")

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")  # in a worked answer


def sample(split="train", n=400, **options) -> list[WordProblem]:
    return list(generate(n, split=split, **options))


@pytest.mark.parametrize("split", SPLITS)
def test_every_equation_of_every_chain_holds(split):
    operations = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    for problem in sample(split):
        for a, operator, b, result in EQUATION.findall(problem.answer):
            assert operations[operator](int(a), int(b)) == int(result)
            assert operator != "/" or int(a) % int(b) == 0


def test_the_answer_is_the_result_of_the_last_equation():
    for problem in sample():
        last = EQUATION.findall(problem.answer)[-1][3]
        assert problem.answer.endswith(f"\n#### {last}")


def test_each_step_is_one_line_with_one_equation():
    for problem in sample():
        *lines, final = problem.answer.split("\n")
        assert [len(EQUATION.findall(line)) for line in lines] == [1] * problem.steps
        assert final.startswith("#### ")


def test_each_operand_is_in_the_question_or_was_worked_out_before():
    for problem in sample():
        known = set(re.findall(r"\d+", problem.question)) | {"2"}  # "doubles" and "half" say 2 without a digit
        for a, _, b, result in EQUATION.findall(problem.answer):
            assert {a, b} <= known
            known.add(result)


def test_splits_share_no_question_and_no_chain_of_equations():
    drawn = {split: sample(split) for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not {p.question for p in drawn[one]} & {p.question for p in drawn[other]}
        assert not {tuple(EQUATION.findall(p.answer)) for p in drawn[one]} & {
            tuple(EQUATION.findall(p.answer)) for p in drawn[other]
        }


@pytest.mark.parametrize("split", SPLITS)
def test_the_split_can_be_told_from_the_answer_alone(split):
    assert {_split_of([match.group() for match in EQUATION.finditer(problem.answer)]) for problem in sample(split)} == {
        split
    }


def test_the_same_arguments_give_the_same_problems():
    assert sample(seed=3) == sample(seed=3)


def test_another_seed_gives_other_problems():
    assert not set(sample(seed=3, steps=(3, 8))) & set(sample(seed=4, steps=(3, 8)))


def test_a_larger_n_only_adds_problems():
    assert sample(n=300)[:100] == sample(n=100)


def test_no_question_appears_twice():
    problems = sample(n=3000, steps=(1, 1))
    assert len({problem.question for problem in problems}) == 3000


def test_the_number_of_steps_is_uniform_over_its_range():
    counts = [0] * 9
    for problem in sample(n=4000, steps=(2, 5)):
        assert len(EQUATION.findall(problem.answer)) == problem.steps
        counts[problem.steps] += 1
    assert counts[:2] == [0, 0]
    assert counts[6:] == [0, 0, 0]
    assert all(900 < count < 1100 for count in counts[2:6])


def test_every_number_is_below_100_and_stands_after_a_space():
    for problem in sample(n=1000):
        text = f"{problem.question}\n{problem.answer}"
        numbers = re.findall(r"\d+", text)
        assert all(int(number) < 100 for number in numbers)
        assert len(numbers) == len(re.findall(r"(?<= )\d+", text))


def test_no_placeholder_is_left_in_a_text():
    assert not any(set("{}") & set(problem.question + problem.answer) for problem in sample(n=2000))


def test_a_question_never_has_two_answers():
    answers: dict[str, str] = {}
    for problem in sample(n=5000, steps=(1, 2)):
        final = problem.answer.rsplit("\n", 1)[1]
        assert answers.setdefault(problem.question, final) == final


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "training"}, "pretrain, train, dev, test"),
        ({"steps": (0, 3)}, r"within 1\.\.8"),
        ({"steps": (4, 3)}, r"within 1\.\.8"),
        ({"steps": (1, 9)}, r"within 1\.\.8"),
        ({"n": -1}, "n is -1"),
    ],
)
def test_a_bad_argument_is_refused_before_the_first_problem_is_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"n": 1, "split": "train", **options})


def test_thousands_of_problems_are_drawn_in_a_second():
    start = time.process_time()
    sample("test", n=2000)
    assert time.process_time() - start < 2
