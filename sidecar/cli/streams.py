"""Streams by the names that people use, for commands that read the queue's file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sidecar.config import Loaded, stream_name
from sidecar.core.errors import StartError
from sidecar.service.paths import queue_file

if TYPE_CHECKING:  # the queue is half of the start: only who reads its file pays for it
    from sidecar.queue import Lookup, QueueStream


def open_lookup(loaded: Loaded) -> "Lookup":
    """Return the queue's file. Raises StartError if there is none."""
    from sidecar.queue import Lookup  # noqa: PLC0415  # half of the start, for where the sidecar itself can answer

    path = queue_file(loaded.config.state)
    if not path.exists():
        raise StartError(f"no sidecar ever ran on {loaded.config.state}: there is no {path.name}")
    return Lookup(path)


def names_of(loaded: Loaded, streams: "Mapping[int, QueueStream]") -> dict[int, str]:
    """Return the name of each stream, by its number in the file."""
    names = loaded.config.names_by_data_id
    return {number: stream_name(stream.key, names) for number, stream in streams.items()}


def numbers_of(loaded: Loaded, streams: "Mapping[int, QueueStream]", wanted: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the numbers of the streams called by these names or data_ids; None if all are meant. Raises StartError."""
    if not wanted:
        return None
    names = names_of(loaded, streams)
    found: list[int] = []
    for name in wanted:
        mine = [n for n, stream in streams.items() if name in (names[n], str(stream.key.data_id))]
        if not mine and name not in loaded.config.streams:
            known = sorted({*names.values(), *loaded.config.streams})
            raise StartError(f"no stream is called {name}; there are: {', '.join(known) or 'none'}")
        found += mine
    return tuple(found)
