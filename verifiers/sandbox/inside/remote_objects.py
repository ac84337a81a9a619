"""Operations on objects of another process: instances of the program's classes, generators, files.

Both ends of the channel are a `Peer`. An operation on a proxy becomes a request to the process that owns the object.
While a peer waits for the response it serves requests of the other: a test may pass a callback to the candidate.

Messages: a request is `{"q": operation, "a": [operands]}`, a response `{"v": value}` or `{"x": exception}`. A call that
returns None adds `"m"`: the new contents of lists, dicts and sets that it was given, by position.
"""

from __future__ import annotations

import builtins
import collections
import copy
import operator
import sys
import types
from _thread import RLock  # `threading` itself runs code after every fork
from collections.abc import Callable
from typing import Any

from verifiers.sandbox.inside.proxies import FAR, PROXIES, Far, FarError, Proxy
from verifiers.sandbox.inside.wire import CHANGEABLE, Channel, ClosedPeer, decode, deeply, encode, plain

_OPERATORS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")},
    **{
        name: getattr(operator, name)
        for name in ("and_", "or_", "xor", "lshift", "rshift", "neg", "pos", "invert", "abs")
    },
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "contains", "index")},
    **{kind.__name__: kind for kind in (len, iter, next, str, repr, hash, bool, int, float, getattr, setattr, delattr)},
    "isinstance": isinstance,
    "issubclass": issubclass,
    "reversed": reversed,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "enter": lambda manager: manager.__enter__(),
    "await": lambda awaitable: _awaited(awaitable),
    "aiter": aiter,
    "anext": lambda iterator: _awaited(iterator.__anext__()),
    "aenter": lambda manager: _awaited(manager.__aenter__()),
    "aexit": lambda manager: _awaited(manager.__aexit__(None, None, None)),
    "plain": plain,
}
_MUTABLE = (list, dict, set, bytearray, collections.deque)

_idle_loops: list[Any] = []


def _awaited(awaitable: Any) -> Any:
    """Run an awaitable to its end. The event loop is kept: tasks that are left in it continue with the next one."""
    import asyncio  # large, and seldom needed

    async def wait() -> Any:
        return await awaitable

    outer = asyncio._get_running_loop()  # set where this is called from within another coroutine
    asyncio._set_running_loop(None)
    loop = _idle_loops.pop() if _idle_loops else asyncio.new_event_loop()
    try:
        return loop.run_until_complete(wait())
    finally:
        _idle_loops.append(loop)
        asyncio._set_running_loop(outer)


class RemoteError(Exception):
    """An exception of the other side whose class is unknown or not allowed here, such as SystemExit."""


class Peer:
    """One end of the channel.

    Args:
        channel: The pipes.
        is_judge: Whether this is the judge, which protects its objects and its plain data from the candidate.
        names: Global names that the other side may look up.
    """

    def __init__(self, channel: Channel, *, is_judge: bool, names: dict[str, Any] | None = None) -> None:
        self.channel = channel
        self._is_judge = is_judge
        self._names = names
        # Objects of this side by number, and numbers by id().
        self._own: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        # What stands here for objects of the other side, by their number there: made once, so that `is` works.
        self._proxies: dict[int, Proxy] = {}
        self._fars: dict[int, Far] = {}
        self._classes: dict[int, type[BaseException]] = {}
        self._class_numbers: dict[type[BaseException], int] = {}
        self._lock = RLock()  # the candidate's threads may call back too
        self.raised: BaseException | None = None
        self.is_gone = False
        self.is_used = False  # whether this side has asked for anything but names

    # Requests to the other side

    def request(self, operation: str, *operands: Any) -> Any:
        """Return the result of an operation of `_OPERATORS` that the other side carries out, or raise its exception."""
        self.is_used = True
        return self._ask({"q": operation, "a": [self._encode(operand) for operand in operands]})

    def call(self, target: Proxy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an object of the other side; what it changes in mutable arguments is changed here too."""
        self.is_used = True
        request = {"q": "call", "a": [self._encode(target), self._encode(args), self._encode(kwargs)]}
        return self._ask(request, mutable=[*args, *kwargs.values()])

    def leave(self, manager: Proxy, error: BaseException | None) -> None:
        """Leave a context manager of the other side. It gets the exception, but cannot suppress it."""
        described = self._described(error) if isinstance(error, Exception) else None
        self._ask({"q": "exit", "a": [self._encode(manager), described]})

    def look_up(self, name: str) -> Any:
        """Return the other side's global of this name; raise NameError."""
        return self._ask({"q": "global", "a": [name]})

    def await_start(self) -> None:
        """Wait until the candidate's program has run; raise what it raised."""
        try:
            self._result(self._message(), None)
        except ClosedPeer:
            self.is_gone = True
            raise

    async def _awaitable(self, proxy: Proxy) -> Any:
        return self.request("await", proxy)

    def _ask(self, request: dict[str, Any], mutable: list[Any] | None = None) -> Any:
        try:
            with self._lock:
                self.channel.send(request)
                while "q" in (message := self._message()):
                    self._serve(message)
                return self._result(message, mutable)
        except ClosedPeer:
            self.is_gone = True
            raise

    def _message(self) -> dict[str, Any]:
        message = self.channel.receive()
        if type(message) is not dict:
            raise ClosedPeer("no message")
        return message

    def _result(self, message: dict[str, Any], mutable: list[Any] | None) -> Any:
        if "x" in message:
            error = self._exception(message["x"])
            self.raised = error
            raise error
        result = self._decode(message.get("v"))
        if result is None and mutable and type(changes := message.get("m")) is dict:
            for position, content in changes.items():
                _overwrite(mutable[int(position)], self._decode(content))
        return result

    # Requests from the other side

    def serve(self) -> None:
        """Answer requests until the other side closes the channel."""
        while True:
            try:
                message = self._message()
            except ClosedPeer:
                return
            self._serve(message)

    def _serve(self, message: dict[str, Any]) -> None:
        try:
            response = self._answer(str(message["q"]), message["a"])
        except Exception as error:  # noqa: BLE001  # sent to the other side, and raised there
            response = self.failure(error)
        self.channel.send(response)

    def _answer(self, operation: str, operands: list[Any]) -> dict[str, Any]:
        if operation == "global":
            if self._names is None or operands[0] not in self._names:
                raise NameError(f"name {operands[0]!r} is not defined")
            return {"v": self._encode(self._names[operands[0]])}
        if operation == "exit":
            error = operands[1] and self._exception(operands[1])
            operands = operands[:1]
        values = [self._decode(operand) for operand in operands]
        if self._is_judge:
            _refuse_private(operation, operands[0], values)
        if operation == "call":
            return self._called(*values)
        if operation == "exit":
            values[0].__exit__(type(error) if error else None, error, None)
            return {"v": None}
        return {"v": self._encode(_OPERATORS[operation](*values))}

    def _called(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        result = function(*args, **kwargs)
        response: dict[str, Any] = {"v": self._encode(result)}
        if result is None:
            passed = [*args, *kwargs.values()]
            changed = {str(i): self._encode(value) for i, value in enumerate(passed) if type(value) in _MUTABLE}
            if changed:
                response["m"] = changed
        return response

    def failure(self, error: Exception) -> dict[str, Any]:
        """Return the response that raises this exception on the other side."""
        return {"x": self._described(error)}

    # Values

    def may_mix(self, other: object) -> bool:
        """Whether operators may combine a proxy with this operand: in the judge only with another proxy."""
        return not self._is_judge or isinstance(other, Proxy)

    def _encode(self, value: Any) -> Any:
        return deeply(encode, value, self._keep)

    def _decode(self, value: Any) -> Any:
        return decode(value, self._find)

    def _keep(self, value: Any) -> dict[str, Any]:
        """Return the JSON of an object that is not copied: its number, under a tag that says which proxy to make.

        "yours" is the number of an object that the other side owns, the other tags one of this side's.
        """
        if isinstance(value, Proxy):
            return {"yours": value._number}
        if isinstance(value, Far):
            return {"yours": value.far._number}
        if isinstance(value, type) and issubclass(value, BaseException):
            return {"error": self._class_described(value)}
        number = self._number(value)
        if isinstance(value, types.GeneratorType):
            return {"generator": number}
        if isinstance(value, CHANGEABLE):
            return {"container": number}
        return {"coroutine": number} if isinstance(value, types.CoroutineType) else {"mine": number}

    def _number(self, value: Any) -> int:
        number = self._numbers.get(id(value))
        if number is None:  # kept until the process ends, which runs one program only
            number = self._numbers[id(value)] = len(self._own)
            self._own[number] = value
        return number

    def _find(self, value: dict[str, Any]) -> Any:
        ((tag, content),) = value.items()
        if tag == "yours":
            return self._own[content]
        if tag == "error":
            return self._class(content)
        if tag == "far":
            return self._far(*content)
        if tag not in PROXIES:
            raise ValueError(f"an unknown tag {tag!r}")
        proxy = self._proxy(content, PROXIES[tag])
        return self._awaitable(proxy) if tag == "coroutine" else proxy

    def _proxy(self, number: int, kind: type[Proxy] = Proxy) -> Proxy:
        if type(number) is not int:
            raise ValueError("no number of an object")
        return self._proxies.setdefault(number, kind(self, number))

    def _far(self, data: Any, number: int) -> Far:
        if number not in self._fars:
            self._fars[number] = FAR[type(data)](data)
            self._fars[number].far = self._proxy(number)
        return self._fars[number]

    # Exceptions

    def _described(self, error: Exception) -> list[Any]:
        """Return [class, arguments, number] of an exception; the number only where the class is not Python's."""
        kind = self._class_described(type(error))
        try:
            args = self._encode(list(error.args))
        except Exception:  # noqa: BLE001  # arguments that cannot cross, or that raise when looked at
            args = {"l": [_text_of(error)]}
        return [kind, args, None if type(kind) is str else self._number(error)]

    def _exception(self, described: Any) -> BaseException:
        kind, args, number = described
        kind, values = self._class(kind), self._decode(args)
        try:
            error = kind(*values)
        except Exception:  # noqa: BLE001  # a class with other arguments
            error = kind.__new__(kind)
            error.args = tuple(values)
        if isinstance(error, FarError):
            error.far = self._proxy(number)
        return error

    def _class_described(self, kind: type[BaseException]) -> Any:
        """Return the name of a builtin class, or [number, name, module, bases] of another."""
        if _is_builtin(kind):
            return kind.__name__
        if kind in self._class_numbers:
            return {"yours": self._class_numbers[kind]}
        bases = [self._class_described(base) for base in kind.__bases__ if issubclass(base, BaseException)]
        return [self._number(kind), kind.__name__, kind.__module__, bases]

    def _class(self, described: Any) -> type[BaseException]:
        if type(described) is dict:
            kind = self._own[described["yours"]]
            return kind if isinstance(kind, type) and issubclass(kind, Exception) else RemoteError
        if type(described) is str:
            return _builtin(described)
        number, name, module, bases = described
        if number not in self._classes:
            self._classes[number] = kind = _of_library(module, name) or _made(name, [self._class(b) for b in bases])
            self._class_numbers[kind] = number
        return self._classes[number]


# Modules of Python whose exceptions keep their class on the other side. None of unittest's, which would skip a test.
_LIBRARIES = (
    *("json.decoder", "decimal", "dataclasses", "queue", "_queue", "asyncio.exceptions", "statistics", "struct"),
    *("re", "csv", "_csv", "zlib", "binascii", "graphlib", "pickle", "_pickle"),
)


def _of_library(module: Any, name: Any) -> type[BaseException] | None:
    """Return a class of `_LIBRARIES` where this side has imported it, so that a test can expect it; else None."""
    kind = getattr(sys.modules.get(module), str(name), None) if module in _LIBRARIES else None
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else None


def _made(name: Any, bases: list[type[BaseException]]) -> type[BaseException]:
    is_far = any(issubclass(base, FarError) for base in bases)
    kind: type[BaseException] = type(str(name), (*(() if is_far else (FarError,)), *bases), {})
    return kind


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # its class is the program's
        return type(error).__name__


def _is_builtin(kind: type) -> bool:
    return kind.__module__ == "builtins" and vars(builtins).get(kind.__name__) is kind


def _builtin(name: str) -> type[BaseException]:
    kind = vars(builtins).get(name)
    # SystemExit and its kind would end this process.
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else RemoteError


# The candidate may call objects of these types, which a test passes to it, but not read their attributes.
_CLOSED_TYPES = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType, type),
    *(types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType),
    *(types.FrameType, types.TracebackType, types.CodeType),
)


def _refuse_private(operation: str, operand: Any, values: list[Any]) -> None:
    """Raise AttributeError unless the candidate may do this to an object of the test: call it, use public attributes.

    Operations on the candidate's own data are refused, because "{0.__init__.__globals__}".format reaches private ones.
    """
    if type(operand) is not dict or "yours" not in operand:
        raise AttributeError("no object of the test")
    if operation == "call":
        return
    if operation in ("getattr", "setattr", "delattr"):
        if operation == "getattr" and values[1] in ("__name__", "__doc__"):  # which functools.wraps asks for
            return
        is_public = isinstance(values[1], str) and not values[1].startswith("_")
        if not is_public or isinstance(values[0], _CLOSED_TYPES):
            raise AttributeError(str(values[1]))


def _overwrite(target: Any, content: Any) -> None:
    """Replace the content of a mutable argument by the content that the candidate's copy has after the call."""
    if type(target) is not type(content):
        return
    if isinstance(target, (list, bytearray)):
        target[:] = content
    elif isinstance(target, collections.deque):
        target.clear()
        target.extend(content)
    elif isinstance(target, (dict, set)):
        target.clear()
        target.update(content)
