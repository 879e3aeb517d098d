"""The straight line from an input to the queue: find the stream, check, admit, append.

`intake.py` has one way in for each form in which events come; `streams.py` finds their streams, `capacity.py` asks
whether there is room, `prepared.py` is what the inputs get back.
"""

from sidecar.intake.admission import capacity_of
from sidecar.intake.intake import Intake
from sidecar.intake.prepared import AcceptedReport, Prepared, PreparedFrame, PreparedLines
from sidecar.intake.router import Router

__all__ = ["AcceptedReport", "Intake", "Prepared", "PreparedFrame", "PreparedLines", "Router", "capacity_of"]
