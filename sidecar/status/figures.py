"""Figures: fields of the status document that are metrics too, or are shown by `sidecar status` and the page. Pure.

A figure is declared once, beside its field, and the part that knows it fills the field:

    damaged: Annotated[int, gauge("sidecar_stream_damaged", "Events that could not be read from the disk.")]
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_type_hints

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `metric`: its name, without `_total`. `help`: what Prometheus is told of it.

    `label`: where the field holds several numbers by name, the label for the name. `value` turns the field into
    a number. `words`: the words before the number for people; None: it has a place of its own there. `size`: in bytes.
    """

    metric: str
    kind: Literal["counter", "gauge"]
    help: str
    label: str | None = None
    value: Callable[[Any], float] = float
    words: str | None = None
    size: bool = False


def counter(metric: str, help: str, **more: Any) -> msgspec.Meta:  # noqa: A002
    """Declare a number that only grows while the sidecar runs. `more`: as in `Figure`."""
    return msgspec.Meta(extra={"figure": Figure(metric=metric, kind="counter", help=help, **more)})


def gauge(metric: str, help: str, **more: Any) -> msgspec.Meta:  # noqa: A002
    """Declare a number that may grow and shrink. `more`: as in `Figure`."""
    return msgspec.Meta(extra={"figure": Figure(metric=metric, kind="gauge", help=help, **more)})


@functools.cache
def figures_of(part: type[msgspec.Struct]) -> Mapping[str, Figure]:
    """Return the figures of a struct of the document, by the names of their fields."""
    hints = get_type_hints(part, include_extras=True)
    found = {name: _figure(hint) for name, hint in hints.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def numbers_of(part: msgspec.Struct, name: str, figure: Figure) -> list[tuple[str | None, float]]:
    """Return the numbers of one field, each with its name if there are several; none where it is not known."""
    field = getattr(part, name)
    if field is None:
        return []
    if figure.label is None:
        return [(None, figure.value(field))]
    return [(key, figure.value(number)) for key, number in field.items()]


def _figure(hint: Any) -> Figure | None:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.extra and "figure" in meta.extra:
            figure: Figure = meta.extra["figure"]
            return figure
    return None
