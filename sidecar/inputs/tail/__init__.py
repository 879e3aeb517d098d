"""Files whose lines become events: every line once into the queue, through every rotation.

    tails.py ── worker.py, one thread for each tail ─┬─ tracker.py ─┬─ scan.py, snapshot.py     what is there
      joins the                                      │              ├─ rotation.py              decides, pure
      threads to                                     │              └─ registry.py              indexes
      the loop                                       ├─ reading.py, end_of_file.py              read, and at the end
                                                     └─ saver.py                                checkpoints

What is known of one file is in `tracked_file.py`, and written there only. `watcher.py` tells a worker when to look.
"""

from sidecar.inputs.tail.counts import TailCounts
from sidecar.inputs.tail.event_builders import make_event_builder, make_event_builders
from sidecar.inputs.tail.open_file import SUFFIXES, OpenFile, open_source
from sidecar.inputs.tail.status import show_loss
from sidecar.inputs.tail.tails import Tails

__all__ = [
    "SUFFIXES",
    "OpenFile",
    "TailCounts",
    "Tails",
    "make_event_builder",
    "make_event_builders",
    "open_source",
    "show_loss",
]
