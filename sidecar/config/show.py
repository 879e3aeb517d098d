"""The effective configuration as rows of key, value and origin, secrets masked."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec

from sidecar.config.load import Loaded
from sidecar.config.model import FileMode, Secret, Word
from sidecar.config.readers import READERS
from sidecar.core.units import BodyBytes, Bytes, Interval, LineBytes, QueueBytes, Seconds, Share, format_duration

MASK = "********"
_DURATIONS = (Seconds, Interval)
_SIZES = (Bytes, BodyBytes, LineBytes, QueueBytes)
_UNITS = (*_DURATIONS, *_SIZES, Share)


class Row(msgspec.Struct, frozen=True):
    """One key of the effective configuration."""

    key: str
    value: str
    origin: str


def effective(loaded: Loaded) -> list[Row]:
    """Return every key, defaults too, in the model's order."""
    return list(_rows(loaded.config, "", loaded.origins))


def _rows(struct: msgspec.Struct, above: str, origins: dict[str, str]) -> Iterator[Row]:
    types_of = get_type_hints(type(struct))
    for field in msgspec.structs.fields(type(struct)):
        name, value = f"{above}{field.encode_name}", getattr(struct, field.name)
        if isinstance(value, msgspec.Struct) and type(value) not in READERS:
            yield from _rows(value, f"{name}.", origins)
        elif (
            isinstance(value, tuple)
            and value
            and isinstance(value[0], msgspec.Struct)
            and type(value[0]) not in READERS
        ):
            for index, inner in enumerate(value):
                yield from _rows(inner, f"{name}[{index}].", origins)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, msgspec.Struct) and type(inner) not in READERS:
                    yield from _rows(inner, f"{name}.{key}.", origins)
                else:
                    yield Row(f"{name}.{key}", _shown(inner, Word, name), origins.get(f"{name}.{key}", "default"))
        else:
            origin = origins.get(name) or origins.get(f"{name}_file", "default")
            yield Row(name, _shown(value, types_of[field.name], name), origin)


def _shown(value: Any, kind: Any, name: str) -> str:
    if kind is Secret:
        return MASK
    if kind == tuple[Secret, ...]:
        return f"[{', '.join(MASK for _ in value)}]"
    if kind is FileMode:
        return f"{value:04o}"
    if value is None:
        return "unlimited" if name == "proxy.rate" else "-"
    kind = next((part for part in get_args(kind) if part in _UNITS), kind)  # of Interval | None
    if kind in _DURATIONS:
        return format_duration(value) if value else "0s"
    if kind in _SIZES:
        return f"{value:,} bytes"
    if kind is Share:
        return f"{value * 100:g}%"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)
