"""Numbers, texts and switches that a module's code names and that lie outside its own attributes.

A forward pass may take a temperature from ``self.config``, from a dictionary or list, from a class, or from a
module-level name. The code of `forward`, and of the methods and functions that it names, tells which. A
value within a closure, or under a name that is made up when the code runs, is not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from torch import Tensor, nn

# Values that are compared, and how far their containers are followed: config.model.temperature is 2 deep.
PLAIN = (int, float, str, type(None))
MOST_DEEP = 3
# Functions of a module that are read, and entries of a list, at most.
MOST_READ = 32
# Packages that hold no setting of a model.
_LIBRARIES = ("torch", "numpy", "math", "lightning", "transformers")


class Place(NamedTuple):
    """Where a value lies.

    Attributes:
        owner: the object that holds it.
        table: what is asked for the value.
        key: name, key or index.
    """

    owner: object
    table: Any
    key: Any

    @property
    def name(self) -> str:
        """The name of the value, in words where it has none."""
        return self.key if isinstance(self.key, str) else f"entry {self.key} of a list"

    def value(self) -> object:
        """Return the value now; None where it is gone."""
        try:
            return self.table[self.key]
        except LookupError:
            return None


def named_values(module: nn.Module) -> Iterator[Place]:
    """Yield the places outside a module's own attributes that its code reads plain values from."""
    kinds = list(takewhile(lambda kind: kind is not nn.Module, type(module).__mro__))
    own = {name: value for kind in reversed(kinds) for name, value in vars(kind).items()}
    for function in _functions(own):
        names, known = _names(function.__code__), function.__globals__
        for name in names:
            for owner, table in ((known, known), *((kind, vars(kind)) for kind in kinds)):
                if name in table:
                    yield from _at(owner, table, name, names)
            yield from _inside(vars(module).get(name), names)


def _functions(own: Mapping[str, Any]) -> list[FunctionType]:
    """Return the functions of a class that its forward() may run, and helpers that these name."""
    found = _users([own.get("forward")]) or _users(own.values())
    for function in found:  # grows as it goes
        if len(found) > MOST_READ:
            break
        names = _names(function.__code__)
        named = [table.get(name) for name in names for table in (own, function.__globals__)]
        found += [each for each in _users(named) if each not in found]
    return found[:MOST_READ]


def _users(values: Iterable[object]) -> list[FunctionType]:
    """Return the functions among some values that are not a library's, each once."""
    functions = [value for value in values if isinstance(value, FunctionType)]
    return list(dict.fromkeys(f for f in functions if not _is_library(f.__module__)))


def _is_library(name: object) -> bool:
    return str(name).split(".")[0] in _LIBRARIES


def _names(code: CodeType) -> dict[str, None]:
    """Return the names and texts in a function's code, and in the functions made within it."""
    names = dict.fromkeys(code.co_names)
    for value in code.co_consts:
        if isinstance(value, str):
            names[value] = None
        elif isinstance(value, CodeType):
            names |= _names(value)
    return names


def _at(
    owner: object, table: Any, key: Any, names: Mapping[str, None], depth: int = 0
) -> Iterator[Place]:
    value = table[key]
    if isinstance(value, PLAIN):
        yield Place(owner, table, key)
    else:
        yield from _inside(value, names, depth)


def _inside(value: object, names: Mapping[str, None], depth: int = 0) -> Iterator[Place]:
    """Yield the named places within a container."""
    skipped = isinstance(value, nn.Module | Tensor | FunctionType)
    if skipped or depth == MOST_DEEP or _is_library(getattr(value, "__name__", "")):
        return
    if isinstance(value, list):
        for index in range(min(len(value), MOST_READ)):
            yield from _at(value, value, index, names, depth + 1)
        return
    table = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    for name in names:
        if name in table and not name.startswith("_"):
            yield from _at(value, table, name, names, depth + 1)
