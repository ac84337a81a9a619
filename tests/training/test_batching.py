from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from star_rft.training.batching import IGNORED, Collator, Size, draw_steps, length, pad, split_even
from star_rft.types import Example
from tests.training.conftest import END, random_examples

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=40)
SIZES = st.lists(
    st.lists(st.integers(1, 300), min_size=1, max_size=5).map(lambda n: Size(len(n), max(n), sum(n), 0)),
    min_size=1,
    max_size=40,
)


def test_every_example_is_drawn_once_an_epoch_and_none_is_dropped() -> None:
    steps = list(draw_steps(10, batch_size=4, draws=30, seed=3))
    assert [len(step) for step in steps] == [4, 4, 4, 4, 4, 4, 4, 2]
    drawn = [i for step in steps for i in step]
    for epoch in range(3):
        assert sorted(drawn[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert drawn[:10] != drawn[10:20]


def test_the_order_depends_on_the_seed_alone() -> None:
    first, again, other = (list(draw_steps(50, batch_size=8, draws=100, seed=s)) for s in (0, 0, 1))
    assert first == again
    assert first != other


@given(SIZES, st.integers(1, 8), st.booleans())
def test_a_step_is_cut_into_exactly_the_parts_asked_for(sizes: list[Size], parts: int, packed: bool) -> None:
    groups = split_even(range(len(sizes)), sizes, parts=parts, packed=packed)
    assert len(groups) == parts
    assert Counter(i for group in groups for i in group) == Counter(range(len(sizes)))
    assert sum(1 for group in groups if not group) == max(0, parts - len(sizes))


@given(LENGTHS, st.integers(1, 8))
def test_the_largest_part_is_no_larger_than_that_of_equal_counts(lengths: list[int], parts: int) -> None:
    ordered = sorted(lengths, reverse=True)
    size = -(-len(ordered) // parts)
    equal_counts = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    groups = split_even(range(len(lengths)), [Size(1, n, n, 0) for n in lengths], parts=parts, packed=False)
    largest = max(len(group) * max(lengths[i] for i in group) for group in groups if group)
    assert largest <= max(len(group) * group[0] for group in equal_counts)


def test_a_part_is_measured_by_all_rows_of_its_items() -> None:
    sizes = [Size(rows=8, longest=10, tokens=80, scored=0), *[Size(rows=2, longest=10, tokens=20, scored=0)] * 4]
    assert split_even(range(5), sizes, parts=2, packed=False) == [[0], [1, 2, 3, 4]]


def test_the_prompt_is_masked_and_the_end_of_sequence_is_not() -> None:
    labels_B_T = pad([Example(prompt_ids=(7, 8, 9), completion_ids=(4, 5, END))])["labels"]
    assert labels_B_T.tolist() == [[IGNORED, IGNORED, IGNORED, 4, 5, END]]


def test_padding_has_neither_label_nor_weight() -> None:
    batch = pad([Example((7,), (4, 5, END), weight=2.0), Example((7,), (END,), weight=0.5)])
    assert batch["labels"].tolist() == [[IGNORED, 4, 5, END], [IGNORED, END, IGNORED, IGNORED]]
    assert batch["weights"].tolist() == [[0.0, 2.0, 2.0, 2.0], [0.0, 0.5, 0.0, 0.0]]


def test_the_first_token_of_a_packed_sequence_is_not_predicted_from_the_sequence_before() -> None:
    examples = [Example((), (4, END)), Example((), (5, 6, END))]
    batch = Collator(examples, packed=True)([{"members": [0, 1]}])
    assert batch["labels"].tolist() == [[IGNORED, END, IGNORED, 6, END]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2]]


def test_an_empty_micro_batch_has_no_weight() -> None:
    for packed in (False, True):
        assert Collator(random_examples(3), packed)([{"members": []}])["weights"].sum() == 0


def test_packing_holds_exactly_the_tokens_of_its_members() -> None:
    examples = random_examples(20)
    batch = Collator(examples, packed=True)([{"members": [3, 5, 8]}])
    assert batch["input_ids"].shape == (1, sum(length(examples[i]) for i in (3, 5, 8)))
