"""The durable queue: SQLite, and nothing else knows SQL.

`queue.py` is the way in. One thread (`writer.py`) owns the only connection that writes; `reader.py` reads beside it.
"""

from sidecar.queue.filters import DeadFilter, KeptFilter, Moved
from sidecar.queue.inspect import DeadLetter, FoundEvent, Lookup
from sidecar.queue.lock import StateLock, holder_of
from sidecar.queue.queue import Queue
from sidecar.queue.reader import books_on_disk
from sidecar.queue.streams import MAX_STREAMS, QueueLane, QueueStream

__all__ = [
    "MAX_STREAMS",
    "DeadFilter",
    "DeadLetter",
    "FoundEvent",
    "KeptFilter",
    "Lookup",
    "Moved",
    "Queue",
    "QueueLane",
    "QueueStream",
    "StateLock",
    "books_on_disk",
    "holder_of",
]
