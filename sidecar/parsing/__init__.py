"""Makes of the bytes of a file lines, groups of lines, fields, events. Pure: bytes in, blocks out.

bytes ─ lines.py ─ containers.py, grouping.py, delimited.py ─ event_builder.py
                                                  ├─ plain.py     a block at once, where no line is looked into
                                                  └─ careful.py   parsers.py; text/filters.py, text/timestamps.py
"""

from sidecar.parsing.careful import EventSpec, LineCounts
from sidecar.parsing.containers import ContainerRule
from sidecar.parsing.delimited import Columns, DelimitedRule, last_columns
from sidecar.parsing.event_builder import Built, EventBuilder, FilePlace
from sidecar.parsing.finishing import FinishRule, Mask
from sidecar.parsing.grouping import Grouping
from sidecar.parsing.lines import Lines, last_end, swap_ends, take_lines
from sidecar.parsing.repeats import RepeatRule
from sidecar.parsing.throttle import ThrottleRule

__all__ = [
    "Built",
    "Columns",
    "ContainerRule",
    "DelimitedRule",
    "EventBuilder",
    "EventSpec",
    "FilePlace",
    "FinishRule",
    "Grouping",
    "LineCounts",
    "Lines",
    "Mask",
    "RepeatRule",
    "ThrottleRule",
    "last_columns",
    "last_end",
    "swap_ends",
    "take_lines",
]
