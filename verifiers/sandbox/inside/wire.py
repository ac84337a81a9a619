"""Plain data across a pipe: what a candidate returns is rebuilt here as exact builtin types, never unpickled.

A value is JSON: `null`, booleans, integers, floats and text as themselves, everything else as an object with one key,
its tag: `{"t": [1, 2]}` is a tuple. An instance of one of the program's own classes is sent as a number, under which
only its own process can find it.
"""

from __future__ import annotations

import collections
import json
import os
import select
import struct
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime

HEADER = struct.Struct("<I")
# Made once, because json.dumps with options makes an encoder in each call.
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode
_FRAME_LIMIT = 64 << 20  # bytes of a message
_DEPTH_LIMIT = 1000
# Python's recursion limit while a deep value is encoded: a level takes several frames. Then the old limit is restored.
_FRAMES_LIMIT = 20_000
# Larger integers are sent in hexadecimal, because Python refuses to write very long ones in decimal.
_SMALL = 1 << 10_000
_READ_SIZE = 1 << 16

_SCALARS = (str, int, float, bool, type(None))
_SHORT = frozenset((str, float, bool, type(None)))
# Types and functions that are sent by name, so that a test can pass `str` as a callback.
_TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (str, int, float, bool, complex, list, tuple, dict, set, frozenset, bytes, bytearray, object)
}
_FUNCTIONS: dict[str, Any] = {
    function.__name__: function for function in (abs, len, min, max, sum, sorted, ord, chr, round, repr, any, all)
}
_BY_NAME = {**_TYPES, **_FUNCTIONS}
_NAME_OF = {id(value): name for name, value in _BY_NAME.items()}


class ClosedPeer(Exception):
    """The other side closed the pipe, or sent an invalid message."""


class Late(BaseException):
    """The deadline has passed. Not an Exception, so that `except Exception` in a test does not catch it."""


def deeply(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that recurses into a value; after a RecursionError again, with a higher recursion limit."""
    try:
        return function(*args)
    except RecursionError:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _FRAMES_LIMIT))
        try:
            return function(*args)
        finally:
            sys.setrecursionlimit(limit)


class Channel:
    """JSON messages over two pipes, each after its length in 4 bytes.

    `deadline`, a time of time.monotonic(), ends any wait by raising Late; None waits forever. With a deadline the pipe
    to write must be non-blocking.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self.deadline: float | None = None
        self._inbox = bytearray()
        self._readable = select.poll()
        self._readable.register(read_fd, select.POLLIN)

    def send(self, message: Any) -> None:
        """Write a message; raise ClosedPeer, Late, or ValueError for one that is too large."""
        body = deeply(_to_json, message).encode("ascii")
        if len(body) > _FRAME_LIMIT:
            raise ValueError(f"a value of {len(body)} bytes is too large to pass on")
        data = memoryview(HEADER.pack(len(body)) + body)
        while data:
            try:
                data = data[os.write(self._write_fd, data) :]
            except BlockingIOError:
                self._wait(self._writable())
            except OSError as error:
                raise ClosedPeer(str(error)) from None

    def receive(self) -> Any:
        """Return the next message; raise Late, or ClosedPeer for an invalid one and at the end of the pipe."""
        inbox = self._inbox
        while len(inbox) < (end := self._end_of_frame()):
            inbox += self._read()
        try:
            message = deeply(_from_json, inbox[HEADER.size : end].decode())
        except (ValueError, RecursionError) as error:
            raise ClosedPeer(f"no JSON: {error}") from None
        del inbox[:end]
        return message

    def _end_of_frame(self) -> int:
        if len(self._inbox) < HEADER.size:
            return HEADER.size
        (size,) = HEADER.unpack_from(self._inbox)
        if size > _FRAME_LIMIT:
            raise ClosedPeer(f"a frame of {size} bytes")
        return HEADER.size + int(size)

    def _read(self) -> bytes:
        if self.deadline is not None:
            self._wait(self._readable)
        try:
            part = os.read(self._read_fd, _READ_SIZE)
        except OSError as error:
            raise ClosedPeer(str(error)) from None
        if not part:
            raise ClosedPeer("the pipe is closed")
        return part

    def _writable(self) -> select.poll:
        waiting = select.poll()
        waiting.register(self._write_fd, select.POLLOUT)
        return waiting

    def _wait(self, event: select.poll) -> None:
        assert self.deadline is not None
        left = self.deadline - time.monotonic()
        if left <= 0 or not event.poll(left * 1000):
            raise Late

    def close(self) -> None:
        """Close both pipes."""
        os.close(self._read_fd)
        os.close(self._write_fd)


# Encoding. `keep` returns the JSON of a value that cannot be copied.

Keep = Callable[[Any], dict[str, Any]]


def encode(value: Any, keep: Keep, depth: int = 0) -> Any:
    """Return the JSON of a value. Containers are read by the methods of their builtin type, not of a subclass."""
    kind = type(value)
    if kind in _SCALARS:
        return value if kind is not int or -_SMALL < value < _SMALL else {"i": hex(value)}
    if depth > _DEPTH_LIMIT:
        raise RecursionError("a value nested too deeply to pass on")
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value, keep, depth + 1)
    for base in _BASES:
        if isinstance(value, base):  # an instance of a subclass
            if hasattr(kind, "far") or _has_more(kind):
                return _both(value, base, keep, depth)
            plain = _plain(base, value)
            return encode(plain, keep, depth) if base in _SCALARS else _WRITERS[base](plain, keep, depth + 1)
    if id(value) in _NAME_OF:  # by identity, because comparing or hashing may run the program's code
        return {"n": _NAME_OF[id(value)]}
    if kind.__module__ == "numpy":
        return _numpy(value, keep, depth)
    writer = _later(kind)
    if writer is not None:
        return writer(value, keep, depth + 1)
    return keep(value)


def _has_more(kind: type) -> bool:
    """Whether a subclass adds public attributes or methods to its builtin base, such as a named tuple's fields."""
    if hasattr(kind, "_fields"):
        return True
    own = (ancestor for ancestor in kind.__mro__ if ancestor.__module__ in _MODULES)
    return any(not name.startswith("_") for ancestor in own for name in vars(ancestor))


def _both(value: Any, base: Any, keep: Keep, depth: int) -> Any:
    """Return the JSON of an instance of a subclass that adds something: its number, and a copy if it is immutable."""
    kept = keep(value)
    return {"+": [encode(_plain(base, value), keep, depth + 1), kept["mine"]]} if "mine" in kept else kept


def plain(value: Any) -> Any:
    """Return the content of an instance of a subclass of a builtin container."""
    return _plain(next(base for base in CHANGEABLE if isinstance(value, base)), value)


def _plain(base: Any, value: Any) -> Any:
    """Return an instance of a subclass as its builtin type, by the builtin's methods."""
    if base is dict:
        return dict(dict.items(value))
    if base is str:
        return str.__str__(value)
    if base is int:
        return int.__int__(value)
    if base is float:
        return float.__float__(value)
    return base(base.__iter__(value))


def _items(values: Any, keep: Keep, depth: int) -> list[Any]:
    return [
        v if type(v) in _SHORT or (type(v) is int and -_SMALL < v < _SMALL) else encode(v, keep, depth) for v in values
    ]


def _numpy(value: Any, keep: Keep, depth: int) -> Any:
    if type(value).__name__ == "ndarray" and value.dtype.kind in "biufc":
        return {"a": [value.dtype.str, list(value.shape), value.tobytes().hex()]}
    if type(value).__name__ == "ndarray":
        return encode(value.tolist(), keep, depth + 1)
    if hasattr(value, "item"):
        return encode(value.item(), keep, depth + 1)
    return keep(value)


def _offset(value: Any) -> float | None:
    offset = value.utcoffset()
    return None if offset is None else offset.total_seconds()


_WRITERS: dict[Any, Callable[[Any, Keep, int], Any]] = {
    list: lambda v, keep, d: {"l": _items(v, keep, d)},
    tuple: lambda v, keep, d: {"t": _items(v, keep, d)},
    set: lambda v, keep, d: {"s": _items(v, keep, d)},
    frozenset: lambda v, keep, d: {"f": _items(v, keep, d)},
    dict: lambda v, keep, d: {"d": [_items(pair, keep, d) for pair in v.items()]},
    bytes: lambda v, *_: {"b": v.hex()},
    bytearray: lambda v, *_: {"B": v.hex()},
    complex: lambda v, *_: {"c": [v.real, v.imag]},
    range: lambda v, *_: {"r": [v.start, v.stop, v.step]},
    slice: lambda v, keep, d: {"/": _items((v.start, v.stop, v.step), keep, d)},
    type(...): lambda *_: {"e": 0},
    type(NotImplemented): lambda *_: {"N": 0},
    collections.deque: lambda v, keep, d: {"q": [_items(v, keep, d), v.maxlen]},
    collections.Counter: lambda v, keep, d: {"C": [_items(pair, keep, d) for pair in v.items()]},
    collections.OrderedDict: lambda v, keep, d: {"O": [_items(pair, keep, d) for pair in v.items()]},
    type({}.keys()): lambda v, keep, d: {"k": _items(v, keep, d)},
    type({}.values()): lambda v, keep, d: {"l": _items(v, keep, d)},
    type({}.items()): lambda v, keep, d: {"s": _items(v, keep, d)},
}
# Of modules that few programs import, and that are not imported here, to keep forks fast.
_LATER: dict[str, dict[str, Callable[[Any, Keep, int], Any]]] = {
    "fractions": {"Fraction": lambda v, keep, d: {"F": _items((v.numerator, v.denominator), keep, d)}},
    "decimal": {"Decimal": lambda v, *_: {"D": str(v)}},
    "datetime": {
        "timedelta": lambda v, *_: {"T": [v.days, v.seconds, v.microseconds]},
        "datetime": lambda v, *_: {"M": [[*v.timetuple()[:6], v.microsecond], _offset(v)]},
        "date": lambda v, *_: {"Y": [v.year, v.month, v.day]},
        "time": lambda v, *_: {"H": [[v.hour, v.minute, v.second, v.microsecond], _offset(v)]},
    },
    "uuid": {"UUID": lambda v, *_: {"u": str(v)}},
}


def _later(kind: Any) -> Callable[[Any, Keep, int], Any] | None:
    """Return the writer of a class in `_LATER`, if it really is the class of that module and not of the same name."""
    writer = _LATER.get(kind.__module__, {}).get(kind.__name__)
    return writer if writer and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind else None


# Instances of subclasses are sent as one of these: named tuples, IntEnum, defaultdict.
_BASES = (bool, int, float, str, list, tuple, dict, set, frozenset, bytes, bytearray)

CHANGEABLE = (list, dict, set, bytearray)
# Modules whose classes may add something: the program's, as a module and as a script, and the tests'.
_MODULES = ("solution", "__main__", "tests")

# Decoding. `find` returns the value for JSON that `keep` of the other side wrote.

Find = Callable[[dict[str, Any]], Any]


def decode(value: Any, find: Find) -> Any:
    """Return the value of its JSON; raise ClosedPeer for what `encode` would not have written."""
    try:
        return deeply(_decode, value, find, 0)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, ArithmeticError, RecursionError) as error:
        raise ClosedPeer(f"no value: {error}") from None


def _decode(value: Any, find: Find, depth: int) -> Any:
    if type(value) is not dict:
        if type(value) is list:
            raise ValueError("a bare list")
        return value
    if depth > _DEPTH_LIMIT + 2:
        raise RecursionError("nested too deeply")
    ((tag, content),) = value.items()  # exactly one key, or a ValueError
    reader = _READERS.get(tag)
    return find(value) if reader is None else reader(content, find, depth + 1)


def _each(values: Any, find: Find, depth: int) -> list[Any]:
    if type(values) is not list:
        raise ValueError("no list")
    return [_decode(value, find, depth) if type(value) in (dict, list) else value for value in values]


def _pairs(values: Any, find: Find, depth: int) -> list[tuple[Any, Any]]:
    pairs = []
    for pair in values:
        key, value = _each(pair, find, depth)
        pairs.append((key, value))
    return pairs


def _zone(seconds: float | None) -> datetime.timezone | None:
    import datetime

    return None if seconds is None else datetime.timezone(datetime.timedelta(seconds=seconds))


def _dated(name: str, content: Any) -> Any:
    """Return a date, time, datetime or timedelta of its numbers."""
    import datetime

    if name == "datetime":
        return datetime.datetime(*[int(n) for n in content[0]], tzinfo=_zone(content[1]))  # type: ignore[arg-type, misc]
    if name == "time":
        return datetime.time(*[int(n) for n in content[0]], tzinfo=_zone(content[1]))  # type: ignore[arg-type, misc]
    return getattr(datetime, name)(*[int(n) for n in content])


def _fraction(content: Any, find: Find, depth: int) -> Any:
    import fractions

    return fractions.Fraction(*_each(content, find, depth))


def _decimal(content: Any) -> Any:
    import decimal

    return decimal.Decimal(str(content))


def _uuid(content: Any) -> Any:
    import uuid

    return uuid.UUID(str(content))


def _array(content: Any) -> Any:
    """Return a numpy array; raise ValueError where numpy is not installed."""
    kind, shape, data = content
    raw = bytes.fromhex(data)
    try:
        import numpy
    except ImportError:
        raise ValueError("an array, but numpy is not installed here") from None
    dtype = numpy.dtype(str(kind))
    if dtype.kind not in "biufc":
        raise ValueError(f"an array of {dtype}")
    return numpy.frombuffer(raw, dtype=dtype).reshape([int(n) for n in shape]).copy()


_READERS: dict[str, Callable[[Any, Find, int], Any]] = {
    "i": lambda c, *_: int(c, 16),
    "l": _each,
    "t": lambda c, find, d: tuple(_each(c, find, d)),
    "s": lambda c, find, d: set(_each(c, find, d)),
    "f": lambda c, find, d: frozenset(_each(c, find, d)),
    "d": lambda c, find, d: dict(_pairs(c, find, d)),
    "b": lambda c, *_: bytes.fromhex(c),
    "B": lambda c, *_: bytearray.fromhex(c),
    "c": lambda c, *_: complex(float(c[0]), float(c[1])),
    "r": lambda c, *_: range(*[int(n) for n in c]),
    "/": lambda c, find, d: slice(*_each(c, find, d)),
    "e": lambda *_: ...,
    "N": lambda *_: NotImplemented,
    "q": lambda c, find, d: collections.deque(_each(c[0], find, d), None if c[1] is None else int(c[1])),
    "C": lambda c, find, d: collections.Counter(dict(_pairs(c, find, d))),
    "O": lambda c, find, d: collections.OrderedDict(_pairs(c, find, d)),
    "k": lambda c, find, d: dict.fromkeys(_each(c, find, d)).keys(),
    "F": _fraction,
    "D": lambda c, *_: _decimal(c),
    "T": lambda c, *_: _dated("timedelta", c),
    "M": lambda c, *_: _dated("datetime", c),
    "Y": lambda c, *_: _dated("date", c),
    "H": lambda c, *_: _dated("time", c),
    "u": lambda c, *_: _uuid(c),
    "+": lambda c, find, d: find({"far": [_decode(c[0], find, d), c[1]]}),
    "a": lambda c, *_: _array(c),
    "n": lambda c, *_: _BY_NAME[str(c)],
}
