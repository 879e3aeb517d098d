"""The straight line from an input to the queue: find the stream, check, admit, append.

`intake.py` has one way in for each form in which events come; `submission.py` holds appends together that
count as one, `taken.py` is what the inputs are told.
"""

from sidecar.intake.admission import Refuse, admit, room
from sidecar.intake.intake import Intake
from sidecar.intake.router import Router
from sidecar.intake.submission import Submission
from sidecar.intake.taken import FrameTaken, LinesTaken, Taken

__all__ = ["FrameTaken", "Intake", "LinesTaken", "Refuse", "Router", "Submission", "Taken", "admit", "room"]
