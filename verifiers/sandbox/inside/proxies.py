"""Proxies for objects of the other process that cannot be copied, in the judge and in the candidate.

An operation on a proxy is sent as a request, and its result comes back as plain data or as another proxy. A program
decides what its objects answer; so in the judge they neither equal plain data nor become any by operators. Instances of
subclasses of builtin types do equal plain data, by their content.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Protocol

    class _Peer(Protocol):
        """The methods of `remote_objects.Peer` that a proxy calls."""

        def request(self, operation: str, *operands: Any) -> Any: ...

        def call(self, target: Proxy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

        def leave(self, manager: Proxy, error: BaseException | None) -> None: ...

        def may_mix(self, other: Any) -> bool: ...


_ORDER = ("lt", "le", "gt", "ge")


class Proxy:
    """An object of the other side, named by its number there."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: _Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object and return its result, or raise its exception."""
        return self._peer.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__doc__", "__dict__"):
            raise AttributeError(name)  # only the special methods defined on this class are passed on
        return self._peer.request("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.request("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._peer.request("delattr", self, name)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, (Proxy, Far)) and self._peer.request("isinstance", instance, self) is True

    def __subclasscheck__(self, subclass: Any) -> bool:
        return isinstance(subclass, Proxy) and self._peer.request("issubclass", subclass, self) is True

    def __eq__(self, other: object) -> bool:
        return self._peer.may_mix(other) and self._peer.request("eq", self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self._peer.may_mix(other) or self._peer.request("ne", self, other) is True

    def __hash__(self) -> int:
        return int(self._peer.request("hash", self))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._peer.leave(self, error)

    async def __anext__(self) -> Any:
        return self._peer.request("anext", self)

    async def __aenter__(self) -> Any:
        return self._peer.request("aenter", self)

    async def __aexit__(self, *error: object) -> None:
        self._peer.request("aexit", self)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._peer.request("deepcopy", self)


class GeneratorProxy(Proxy):
    """A generator of the other side; isinstance says so too."""

    __slots__ = ()
    __class__ = property(lambda _self: types.GeneratorType)


class ContainerProxy(Proxy):
    """An instance of a subclass of list, dict, set or bytearray. It equals plain data like its present content."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if self._peer.may_mix(other):
            return super().__eq__(other)
        return bool(self._peer.request("plain", self) == other)

    def __ne__(self, other: object) -> bool:
        return super().__ne__(other) if self._peer.may_mix(other) else not self == other


class MixedNumber(Proxy):
    """The result of an operator on an object and a number. No operation on it returns plain data.

    Otherwise a program could pass `abs(candidate(2) - 5) < 1e-6` with an object whose difference to anything is 0.
    """

    __slots__ = ()


class FarError:
    """Base of the exceptions whose class the other side defines: attributes and text are asked for there."""

    far: Proxy | None = None  # None for an exception that was raised on this side

    def __getattr__(self, name: str) -> Any:
        if self.far is None:
            raise AttributeError(name)
        return getattr(self.far, name)

    def __str__(self) -> str:
        return super().__str__() if self.far is None else str(self.far)


class Far:
    """An instance of a subclass of an immutable builtin type: a copy of the data; its attributes are asked for."""

    far: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.far, name)

    def __str__(self) -> str:
        return str(self.far)

    def __repr__(self) -> str:
        return repr(self.far)


FAR = {base: type(f"Far_{base.__name__}", (Far, base), {}) for base in (int, float, str, tuple, frozenset, bytes)}


def _unary(name: str) -> Callable[[Proxy], Any]:
    def operate(self: Proxy) -> Any:
        result = self._peer.request(name, self)
        return _mixed(result, name) if isinstance(self, MixedNumber) and name in _NUMERIC else result

    return operate


def _keyed(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._peer.request(name, self, *args)


def _binary(name: str, *, is_reflected: bool = False) -> Callable[[Proxy, Any], Any]:
    """Return the method of a binary operator.

    In the judge the other operand must be an object of the program, or a number where the result is one: then the
    result is a MixedNumber. With other plain data the operator is not implemented.
    """

    def operate(self: Proxy, other: Any) -> Any:
        may_mix = self._peer.may_mix(other)
        if not may_mix and (name in _ORDER or type(other) not in (int, float)):
            return NotImplemented
        operands = (other, self) if is_reflected else (self, other)
        result = self._peer.request(name, *operands)
        return result if may_mix and MixedNumber not in map(type, operands) else _mixed(result, name)

    return operate


def _mixed(result: Any, name: str) -> MixedNumber:
    if not isinstance(result, Proxy):
        raise TypeError(f"{name!r} of an object of the program and a number is no object of the program")
    return MixedNumber(result._peer, result._number)


# Python looks special methods up on the class, so that each one that is passed on is defined here.
_NUMERIC = ("bool", "int", "float", "index", "neg", "pos", "invert", "abs")
for _name in ("len", "iter", "next", "str", "repr", "reversed", "copy", "enter", "aiter", *_NUMERIC):
    setattr(Proxy, f"__{_name}__", _unary(_name))
for _name in ("getitem", "setitem", "delitem", "contains"):
    setattr(Proxy, f"__{_name}__", _keyed(_name))
for _name in _ORDER:
    setattr(Proxy, f"__{_name}__", _binary(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(Proxy, f"__{_name}__", _binary(_name))
    setattr(Proxy, f"__r{_name}__", _binary(_name, is_reflected=True))
for _name in ("and_", "or_", "xor", "lshift", "rshift"):
    setattr(Proxy, f"__{_name.rstrip('_')}__", _binary(_name))
    setattr(Proxy, f"__r{_name.rstrip('_')}__", _binary(_name, is_reflected=True))

# By the tag under which an object was sent.
PROXIES: dict[str, type[Proxy]] = {
    "mine": Proxy,
    "coroutine": Proxy,
    "generator": GeneratorProxy,
    "container": ContainerProxy,
}
