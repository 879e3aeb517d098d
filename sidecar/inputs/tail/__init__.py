"""Files whose lines become events: every line once into the queue, through every rotation.

`tails.py` joins it to the rest. A `worker.py` for each tail is its thread: it asks `tracker.py` which files there are
(`scan.py`, `rotated_files.py`, `rotated_names.py`), reads them by `reading.py` (`tracked_file.py`, `open_file.py`,
`fingerprint.py`), and lets `end_of_file.py` say what becomes of those that end. `watcher.py` tells it when to look.
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
