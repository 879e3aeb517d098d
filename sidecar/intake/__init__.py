"""The straight line from an input to the queue: find the stream, check, admit, append.

`intake.py` has one way in for each form in which events come; `submission.py` holds appends together that count as one.
"""

from sidecar.intake.intake import FrameTaken, Intake, LinesTaken, Taken

__all__ = ["FrameTaken", "Intake", "LinesTaken", "Taken"]
