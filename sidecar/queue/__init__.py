"""The durable queue: SQLite, and nothing else knows SQL.

`queue.py` is the way in. One thread (`writer.py`) owns the only connection that writes; `reader.py` reads beside it.
"""

from sidecar.queue.dead_letters import DeadFilter, DeadLetter
from sidecar.queue.lock import StateLock
from sidecar.queue.queue import Queue
from sidecar.queue.reader import books_on_disk
from sidecar.queue.records import QueueLane, QueueStream

__all__ = ["DeadFilter", "DeadLetter", "Queue", "QueueLane", "QueueStream", "StateLock", "books_on_disk"]
