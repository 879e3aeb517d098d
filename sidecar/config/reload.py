"""Merges a new configuration into the one in force, as far as no restart is needed. Pure."""

from typing import Any

import msgspec

from sidecar.config.model import Config

_AT_RESTART = (
    # Listeners, the queue and the intake take these values when they are made, and cannot change them later.
    "state", "http", "sockets", "queue.durability", "queue.when_full", "proxy.max_body",
)  # fmt: skip


def merge_reloadable(old: Config, new: Config) -> tuple[Config, list[str]]:
    """Return `new`, but with what needs a restart as it is in `old`; and the names of what would have changed."""
    changed = []
    for name in _AT_RESTART:
        part, _, key = name.partition(".")
        if _get(old, name) != _get(new, name):
            changed.append(name)
            value = getattr(old, part)
            if key:
                value = msgspec.structs.replace(getattr(new, part), **{key: getattr(value, key)})
            new = msgspec.structs.replace(new, **{part: value})
    return new, changed


def _get(config: Config, name: str) -> Any:
    value: Any = config
    for key in name.split("."):
        value = getattr(value, key)
    return value
