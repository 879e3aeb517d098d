"""A struct with `gc=False` is not seen by the garbage collector, so nothing that it holds may lead back to it."""

import importlib
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, NewType, Union, get_args, get_origin

import msgspec
import pytest

from tests.project.test_architecture import MODULES

SCALARS = (int, float, str, bytes, bool, type(None), msgspec.Raw)
CONTAINERS = (list, tuple, dict, set, frozenset)


def structs() -> Iterator[type[msgspec.Struct]]:
    for module in MODULES:
        if module in (".", "__main__"):
            continue
        loaded = importlib.import_module("sidecar." + module.replace("/", "."))
        for value in vars(loaded).values():
            if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == loaded.__name__:
                yield value


UNSEEN = [struct for struct in structs() if not struct.__struct_config__.gc]


def is_data(kind: Any) -> bool:
    """Whether a value of this type is made of nothing but numbers, text and bytes, which lead nowhere."""
    origin = get_origin(kind)
    if kind in SCALARS or origin is Literal:
        return True
    if origin is typing.Annotated:
        return is_data(get_args(kind)[0])
    if isinstance(kind, NewType):
        return is_data(kind.__supertype__)
    if origin in (Union, types.UnionType) or origin in CONTAINERS:
        return all(part is ... or is_data(part) for part in get_args(kind))
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and holds_data(kind)


def holds_data(struct: type[msgspec.Struct]) -> bool:
    return all(is_data(kind) for kind in typing.get_type_hints(struct, include_extras=True).values())


@pytest.mark.parametrize("struct", UNSEEN, ids=lambda struct: f"{struct.__module__}.{struct.__name__}")
def test_what_the_collector_does_not_see_holds_nothing_but_data(struct: type[msgspec.Struct]) -> None:
    assert holds_data(struct)


def test_there_are_such_structs() -> None:
    assert UNSEEN


class _Inner(msgspec.Struct, gc=False):
    parts: dict[str, list[bytes | None]]


class _Good(msgspec.Struct, gc=False):
    inner: tuple[_Inner, ...]
    kind: Literal["a", "b"]


class _Bad(msgspec.Struct, gc=False):
    inner: list[Any]


def test_the_check_itself() -> None:
    assert holds_data(_Good)
    assert not holds_data(_Bad)
    assert not is_data(object)
    assert not is_data(typing.Callable[[], None])
