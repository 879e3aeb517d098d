"""Which lines become events: those whose fields have the wanted values, and none of the unwanted."""

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.templates import field_text


def passes(fields: Mapping[str, Any], conditions: Sequence[tuple[str, tuple[str, ...], bool]]) -> bool:
    """Whether all of `conditions` hold: that a field has, or has not, one of some values."""
    return all((field_text(fields, name) in values) == wanted for name, values, wanted in conditions)
