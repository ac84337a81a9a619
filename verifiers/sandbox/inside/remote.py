"""Objects that cannot be copied, such as instances of the program's classes: used from afar, by number.

Both ends of the channel are a `Peer`. An operation on a proxy becomes a request to the owner, and while a peer waits
for the response it serves the requests of the other: a test may pass a function that the candidate calls back.
"""

from __future__ import annotations

import builtins
import copy
import operator
import types
from _thread import RLock  # `threading` itself runs code after every fork
from collections.abc import Callable
from typing import Any

from verifiers.sandbox.inside.wire import Channel, Gone, Late, decode, deeply, encode

OPERATORS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")},
    **{name: getattr(operator, name) for name in ("and_", "or_", "xor", "neg", "pos", "invert", "abs")},
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "contains", "index")},
    **{kind.__name__: kind for kind in (len, iter, next, str, repr, hash, bool, int, float, getattr, setattr, delattr)},
    "isinstance": isinstance,
    "issubclass": issubclass,
    "reversed": reversed,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "enter": lambda manager: manager.__enter__(),
    "exit": lambda manager: manager.__exit__(None, None, None),
    "await": lambda awaitable: _awaited(awaitable),
}
_MUTABLE = (list, dict, set, bytearray)
# What a test passes to the candidate shows no more than its public side.
_CLOSED_TYPES = (types.FunctionType, types.MethodType, types.ModuleType, type, types.GeneratorType, types.CodeType)


def _awaited(awaitable: Any) -> Any:
    import asyncio  # large, and seldom needed

    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


class RemoteError(Exception):
    """An exception of a class that only the other side knows, or that cannot be built again."""


class Proxy:
    """Stands for an object of the other side."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._peer.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__doc__", "__dict__"):
            raise AttributeError(name)  # a protocol that is not passed on
        return self._peer.request("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.request("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._peer.request("delattr", self, name)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, Proxy) and self._peer.request("isinstance", instance, self) is True

    def __subclasscheck__(self, subclass: Any) -> bool:
        return isinstance(subclass, Proxy) and self._peer.request("issubclass", subclass, self) is True

    def __eq__(self, other: object) -> bool:
        return self._peer.may_mix(other) and self._peer.request("eq", self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self._peer.may_mix(other) or self._peer.request("ne", self, other) is True

    def __hash__(self) -> int:
        return int(self._peer.request("hash", self))

    def __exit__(self, *error: object) -> None:
        self._peer.request("exit", self)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._peer.request("deepcopy", self)


def _unary(name: str) -> Callable[[Proxy], Any]:
    return lambda self: self._peer.request(name, self)


def _keyed(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._peer.request(name, self, *args)


def _binary(name: str, *, is_reflected: bool = False) -> Callable[[Proxy, Any], Any]:
    """An operator on two objects of the other side; in the judge never on one of them and plain data."""

    def operate(self: Proxy, other: Any) -> Any:
        if not self._peer.may_mix(other):
            return NotImplemented
        return self._peer.request(name, other, self) if is_reflected else self._peer.request(name, self, other)

    return operate


for _name in ("len", "iter", "next", "str", "repr", "bool", "int", "float", "index", "reversed", "copy", "enter"):
    setattr(Proxy, f"__{_name}__", _unary(_name))
for _name in ("neg", "pos", "invert", "abs"):
    setattr(Proxy, f"__{_name}__", _unary(_name))
for _name in ("getitem", "setitem", "delitem", "contains"):
    setattr(Proxy, f"__{_name}__", _keyed(_name))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Proxy, f"__{_name}__", _binary(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
    setattr(Proxy, f"__{_name.rstrip('_')}__", _binary(_name))
    setattr(Proxy, f"__r{_name.rstrip('_')}__", _binary(_name, is_reflected=True))


class Peer:
    """One end. `is_judge`: its own objects show little, and the other's never mix with plain data."""

    def __init__(self, channel: Channel, *, is_judge: bool, names: dict[str, Any] | None = None) -> None:
        self.channel = channel
        self._is_judge = is_judge
        self._names = names
        self._own: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._proxies: dict[int, Proxy] = {}
        self._classes: dict[int, type[BaseException]] = {}
        self._lock = RLock()  # the candidate's threads may call back too
        self.raised: BaseException | None = None
        self.is_gone = False

    # Requests to the other side

    def request(self, operation: str, *operands: Any) -> Any:
        return self._ask({"q": operation, "a": [self._encode(operand) for operand in operands]})

    def call(self, target: Proxy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = {"q": "call", "a": [self._encode(target), self._encode(args), self._encode(kwargs)]}
        return self._ask(request, mutable=[*args, *kwargs.values()])

    def look_up(self, name: str) -> Any:
        """Return the other side's global of this name; raise NameError."""
        return self._ask({"q": "global", "a": [name]})

    def await_start(self) -> None:
        """Wait until the candidate's program has run; raise what it raised."""
        try:
            self._result(self._message(), None)
        except Gone:
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
        except Gone:
            self.is_gone = True
            raise

    def _message(self) -> dict[str, Any]:
        message = self.channel.receive()
        if type(message) is not dict:
            raise Gone("no message")
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
        """Answer until the other side closes the channel."""
        while True:
            try:
                message = self._message()
            except Gone:
                return
            self._serve(message)

    def _serve(self, message: dict[str, Any]) -> None:
        try:
            response = self._answer(str(message["q"]), message["a"])
        except Exception as error:  # noqa: BLE001  # whatever the program raises is the test's to see
            response = self.failure(error)
        self.channel.send(response)

    def _answer(self, operation: str, operands: list[Any]) -> dict[str, Any]:
        if operation == "global":
            if self._names is None or operands[0] not in self._names:
                raise NameError(f"name {operands[0]!r} is not defined")
            return {"v": self._encode(self._names[operands[0]])}
        values = [self._decode(operand) for operand in operands]
        if self._is_judge:
            _refuse_private(operation, operands[0], values)
        if operation == "call":
            return self._called(*values)
        return {"v": self._encode(OPERATORS[operation](*values))}

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
        """Return the response that raises an exception on the other side."""
        return {"x": self._described(error)}

    # Values

    def may_mix(self, other: object) -> bool:
        return not self._is_judge or isinstance(other, Proxy)

    def _encode(self, value: Any) -> Any:
        return deeply(encode, value, self._keep)

    def _decode(self, value: Any) -> Any:
        return decode(value, self._find)

    def _keep(self, value: Any) -> dict[str, Any]:
        if type(value) is Proxy:
            return {"yours": value._number}
        number = self._numbers.get(id(value))
        if number is None:  # kept for as long as this process lives, which is one program
            number = self._numbers[id(value)] = len(self._own)
            self._own[number] = value
        if isinstance(value, type) and issubclass(value, BaseException):
            return {"error": [number, *_named(value)]}
        return {"coroutine": number} if isinstance(value, types.CoroutineType) else {"mine": number}

    def _find(self, value: dict[str, Any]) -> Any:
        ((tag, content),) = value.items()
        if tag == "yours":
            return self._own[content]
        if tag == "error":
            return self._class(*content)
        if tag not in ("mine", "coroutine") or type(content) is not int:
            raise ValueError(f"an unknown tag {tag!r}")
        proxy = self._proxies.setdefault(content, Proxy(self, content))
        return self._awaitable(proxy) if tag == "coroutine" else proxy

    # Exceptions

    def _described(self, error: Exception) -> list[Any]:
        """Return [builtin class, name, arguments, number of its own class or None]."""
        kind = type(error)
        number = None if _is_builtin(kind) else self._keep(kind)["error"][0]
        try:
            args = self._encode(list(error.args))
        except Exception:  # noqa: BLE001  # arguments that cannot cross, or that raise when looked at
            args = {"l": [_text_of(error)]}
        return [*_named(kind), args, number]

    def _exception(self, described: Any) -> BaseException:
        name, base, args, number = described
        kind = _builtin(base) if number is None else self._class(number, name, base)
        values = self._decode(args)
        try:
            return kind(*values)
        except Exception:  # noqa: BLE001  # some builtin exceptions want arguments of their own kind
            return RemoteError(f"{name}: {values!r:.200}")

    def _class(self, number: int, name: str, base: str) -> type[BaseException]:
        if number not in self._classes:
            self._classes[number] = type(str(name), (_builtin(base),), {})
        return self._classes[number]


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # its class is the program's
        return type(error).__name__


def _is_builtin(kind: type) -> bool:
    return kind.__module__ == "builtins" and vars(builtins).get(kind.__name__) is kind


def _named(kind: type[BaseException]) -> tuple[str, str]:
    """Return the class's name and the name of its nearest builtin class."""
    base = next(ancestor for ancestor in kind.__mro__ if _is_builtin(ancestor))
    return kind.__name__, base.__name__


def _builtin(name: str) -> type[BaseException]:
    kind = vars(builtins).get(name)
    # SystemExit and the like end the candidate's own process; from afar they are only errors.
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else RemoteError


def _refuse_private(operation: str, operand: Any, values: list[Any]) -> None:
    """The candidate may call what a test passes and use its public attributes, and see nothing behind them.

    Not on data of its own: "{0.__init__.__globals__}".format is a way behind them.
    """
    if type(operand) is not dict or "yours" not in operand:
        raise AttributeError("no object of the test")
    if operation == "call":
        return
    if operation in ("getattr", "setattr", "delattr"):
        is_public = isinstance(values[1], str) and not values[1].startswith("_")
        if not is_public or isinstance(values[0], _CLOSED_TYPES):
            raise AttributeError(str(values[1]))


def _overwrite(target: Any, content: Any) -> None:
    """Give a test's own list, dict, set or bytearray the content that the candidate left in its copy."""
    if type(target) is not type(content):
        return
    if isinstance(target, (list, bytearray)):
        target[:] = content
    elif isinstance(target, (dict, set)):
        target.clear()
        target.update(content)


__all__ = ["Gone", "Late", "Peer", "Proxy", "RemoteError"]
