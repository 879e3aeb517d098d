"""The durable queue: SQLite, and nothing else knows SQL.

`queue.py` is the way in: what is to change is an operation, a value, for its `commit`. One thread (`writer.py`) owns
the only connection that writes; `reader.py` reads beside it.
"""

from sidecar.queue.inspect import DeadLetter, FoundEvent, Lookup
from sidecar.queue.operations import (
    Acknowledge,
    Bury,
    CancelReplay,
    Defer,
    Expire,
    ForgetQuotas,
    Ping,
    Purge,
    PutBack,
    Release,
    Replay,
    SaveQuotas,
    SeeDead,
    SetAside,
    Split,
    Tidy,
)
from sidecar.queue.queue import Queue
from sidecar.queue.reader import books_on_disk
from sidecar.queue.status import QueueFacts, stream_status
from sidecar.queue.streams import DEAD_ROW_BYTES, MAX_STREAMS, QueueLane, QueueStream

__all__ = [
    "DEAD_ROW_BYTES",
    "MAX_STREAMS",
    "Acknowledge",
    "Bury",
    "CancelReplay",
    "DeadLetter",
    "Defer",
    "Expire",
    "ForgetQuotas",
    "FoundEvent",
    "Lookup",
    "Ping",
    "Purge",
    "PutBack",
    "Queue",
    "QueueFacts",
    "QueueLane",
    "QueueStream",
    "Release",
    "Replay",
    "SaveQuotas",
    "SeeDead",
    "SetAside",
    "Split",
    "Tidy",
    "books_on_disk",
    "stream_status",
]
