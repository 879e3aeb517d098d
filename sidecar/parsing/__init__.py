"""Makes of the bytes of a file lines, groups of lines, fields, events. Pure: bytes in, blocks out.

bytes ─ lines.py ─ containers.py, grouping.py ─ event_builder.py
                                                  ├─ plain.py     a block at once, where no line is looked into
                                                  └─ careful.py   parsers.py; text/filters.py, text/timestamps.py
"""

from sidecar.parsing.careful import EventSpec, LineCounts
from sidecar.parsing.containers import ContainerRule
from sidecar.parsing.event_builder import Built, EventBuilder, FilePlace
from sidecar.parsing.grouping import Grouping
from sidecar.parsing.lines import Lines, last_end, take_lines

__all__ = [
    "Built",
    "ContainerRule",
    "EventBuilder",
    "EventSpec",
    "FilePlace",
    "Grouping",
    "LineCounts",
    "Lines",
    "last_end",
    "take_lines",
]
