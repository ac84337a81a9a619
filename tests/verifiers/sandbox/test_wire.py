"""Plain data crosses the pipe as it was; anything else does not cross."""

from __future__ import annotations

import datetime
import os
import struct
import time
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.sandbox.inside import wire
from verifiers.sandbox.inside.wire import HEADER, Channel, ClosedPeer, Late, decode, encode

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.fractions()
)
KEYS = st.integers() | st.text() | st.booleans() | st.none() | st.tuples(st.integers())
VALUES = st.recursive(
    SCALARS | st.decimals(allow_nan=False) | st.datetimes() | st.timedeltas() | st.dates(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
        | st.lists(inner).map(deque)
    ),
    max_leaves=20,
)


class Celsius(float):
    def to_kelvin(self) -> float:
        return self + 273.15


class Stack(list[int]):
    def peek(self) -> int:
        return self[-1]


def refuse(value: Any) -> Any:
    raise TypeError(f"no plain data: {value!r}")


@given(VALUES)
def test_what_crosses_is_equal_and_of_the_same_type(value: Any) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    channel = Channel(read, write)
    channel.deadline = time.monotonic() + 5
    channel.send(encode(value, refuse))
    back = decode(channel.receive(), refuse)
    channel.close()
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Counter("aab"),
        OrderedDict(b=1, a=2),
        deque([1], maxlen=2),
        range(1, 9, 2),
        slice(1, None),
        pytest.param(2**20_000, id="a large integer"),
        Decimal("1.10"),
        Fraction(1, 3),
        datetime.time(1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        {}.keys(),
        ...,
        str,
        sorted,
    ],
)
def test_the_types_of_the_standard_library_cross(value: Any) -> None:
    back = decode(encode(value, refuse), refuse)
    assert back == value
    assert type(back) is type(value)


def test_a_subclass_crosses_as_its_base_whatever_it_overrides() -> None:
    class Liar(list[int]):
        def __iter__(self) -> Any:
            return iter([1, 2, 3])

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None

    back = decode(encode(Liar([9]), refuse), refuse)
    assert type(back) is list
    assert back == [9]


def test_a_subclass_with_attributes_of_its_own_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_MODULES", (__name__,))
    assert encode(Celsius(1.5), lambda value: {"mine": 3}) == {"+": [1.5, 3]}
    assert encode(Stack([1]), lambda value: {"container": 3}) == {"container": 3}


@pytest.mark.parametrize(
    "frame",
    [
        [],
        {"?": 1},
        {"l": {}},
        {"l": [1], "t": [2]},
        {"c": ["x", 1]},
        {"s": [{"l": []}]},
        {"n": "eval"},
        {"a": ["O", [1], ""]},
        {"a": ["<f8", [10**9], ""]},
        {"D": "no number"},
        {"M": [[1, 2], None]},
        {"d": [[1]]},
        {"F": [1, 0]},
        {"+": [1, 2]},
        {"+": [1]},
    ],
)
def test_what_no_encoder_wrote_is_refused(frame: Any) -> None:
    def find(value: Any) -> Any:
        raise ValueError(value)

    with pytest.raises(ClosedPeer):
        decode(frame, find)


@pytest.mark.parametrize("sent", [b"", b"\1", HEADER.pack(4) + b"[[", HEADER.pack(1 << 31), HEADER.pack(2) + b"]["])
def test_a_broken_frame_ends_the_conversation(sent: bytes) -> None:
    read, write = os.pipe()
    os.write(write, sent)
    os.close(write)
    channel = Channel(read, os.open(os.devnull, os.O_WRONLY))
    with pytest.raises(ClosedPeer):
        channel.receive()
    channel.close()


def test_a_deep_frame_is_refused_and_not_a_crash() -> None:
    body = b'{"l":[' * 100_000
    read, write = os.pipe()
    os.set_blocking(write, False)
    channel = Channel(read, os.open(os.devnull, os.O_WRONLY))
    assert os.write(write, struct.pack("<I", 60_000) + body[:60_000]) == 60_004
    with pytest.raises(ClosedPeer):
        channel.receive()
    os.close(write)
    channel.close()


def test_silence_ends_at_the_deadline() -> None:
    read, write = os.pipe()
    channel = Channel(read, write)
    channel.deadline = time.monotonic() + 0.05
    with pytest.raises(Late):
        channel.receive()
    channel.close()
