"""What a program would need to cheat its tests or to do more than compute, found in its source without running it.

A sign is no proofline: a program with one is for a person to read. Programs that only compute have none.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Modules that compute, and reach neither files nor processes nor the interpreter.
HARMLESS = _words(
    "__future__ abc array bisect collections copy cmath dataclasses datetime decimal enum fractions functools heapq "
    "itertools math numbers operator random re statistics string textwrap time typing unicodedata"
)
REACHING = _words(
    "open exec eval compile globals locals vars exit quit input breakpoint help getattr setattr delattr "
    "SystemExit KeyboardInterrupt BaseException GeneratorExit"
)
FRAMES = _words(
    "_exit _getframe _current_frames settrace setprofile f_back f_locals f_globals f_code gi_frame cr_frame tb_frame "
    "modules unraisablehook excepthook"
)
USUAL_METHODS = _words("__init__ __repr__ __str__ __len__ __iter__ __next__ __call__ __getitem__ __contains__")
VALUE_TYPES = _words("int float str bool list dict set tuple object type bytes complex frozenset")


def signs(program: str, *, entry_point: str) -> tuple[str, ...]:
    """Return each sign once, in the order of the source; a program that is no Python has one."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ("no Python",)
    found = [sign for node in ast.walk(tree) for sign in _of(node)]
    return tuple(dict.fromkeys([*found, *_redefined(tree, entry_point), *_changed_modules(tree)]))


def _of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (f"imports {alias.name}" for alias in names if alias.name.partition(".")[0] not in HARMLESS)
        case ast.ImportFrom(module=module, level=level):
            if level or (module or "").partition(".")[0] not in HARMLESS:
                yield f"imports {module}"
        case ast.Name(id=name):
            if name in REACHING or (name.startswith("__") and name != "__name__"):
                yield f"uses {name}"
        case ast.Attribute(attr=name):
            if name in FRAMES or (name.startswith("__") and name not in USUAL_METHODS):
                yield f"uses .{name}"
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            if name.startswith("__") and name.endswith("__") and name not in USUAL_METHODS:
                yield f"defines {name}"
        case ast.ClassDef(name=name, bases=bases, keywords=keywords):
            if keywords or any(isinstance(base, ast.Name) and base.id in VALUE_TYPES - {"object"} for base in bases):
                yield f"class {name} takes after a value"
        case ast.Constant(value=str(text)):
            if "/proc" in text or ("__" in text and text != "__main__"):
                yield f"mentions {text[:30]!r}"


def _redefined(tree: ast.Module, entry_point: str) -> Iterator[str]:
    """What a module binds at its top; a local variable that is called `sum` harms nobody."""
    for node in tree.body:
        bound = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        yield from (f"redefines {name}" for name in bound if name in vars(builtins) and name != entry_point)


def _changed_modules(tree: ast.Module) -> Iterator[str]:
    """An attribute may be set on `self`, not on what came from elsewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            owner = node.value.id if isinstance(node.value, ast.Name) else "something"
            if owner != "self":
                yield f"sets {owner}.{node.attr}"
        if isinstance(node, (ast.Global, ast.Nonlocal)) and any(name in vars(builtins) for name in node.names):
            yield f"rebinds {', '.join(node.names)}"
