"""The straight line from an input to the queue: find the stream, check, admit, append.

`intake.py` has one way in for each form in which events come; `submission.py` holds appends together that
count as one, `taken.py` is what the inputs are told.
"""

from sidecar.intake.intake import Intake
from sidecar.intake.taken import FrameTaken, LinesTaken, Taken

__all__ = ["FrameTaken", "Intake", "LinesTaken", "Taken"]
