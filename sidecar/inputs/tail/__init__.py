"""Files whose lines become events: every line once into the queue, through every rotation.

`tails.py` joins it to the rest. A `worker.py` for each tail is its thread: it asks `following.py` which files there are
(`discovery.py`, `globs.py`, `successors.py`, `families.py`), reads them by `reading.py` (`files.py`, `sources.py`,
`identity.py`), and lets `ending.py` say what becomes of those that end. `watch.py` tells it when to look.
"""

from sidecar.inputs.tail.counts import TailCounts
from sidecar.inputs.tail.shown import ShownFile, ShownLoss, ShownTail, ShownTails, show_loss
from sidecar.inputs.tail.tails import Tails
from sidecar.inputs.tail.watching import AS_CONFIGURED

__all__ = ["AS_CONFIGURED", "ShownFile", "ShownLoss", "ShownTail", "ShownTails", "TailCounts", "Tails", "show_loss"]
