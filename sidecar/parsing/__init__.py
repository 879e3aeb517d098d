"""Makes of the bytes of a file lines, groups of lines, fields, events. Pure: bytes in, blocks out.

bytes ─ lines.py (encodings.py) ─ grouping.py ─ event_builder.py
                                                  ├─ plain.py     a block at once, where no line is looked into
                                                  └─ careful.py   parsers.py, filters.py, timestamps.py
"""

from sidecar.parsing.careful import EventSpec, LineCounts
from sidecar.parsing.encodings import HEAD_BYTES, TextCodec, codec_of, encoding_of
from sidecar.parsing.event_builder import Built, EventBuilder, FilePlace
from sidecar.parsing.filters import ALWAYS, Condition, Span
from sidecar.parsing.grouping import Grouping
from sidecar.parsing.lines import Lines, last_end, take_lines
from sidecar.parsing.timestamps import ISO, by_format, by_unit, check_format

__all__ = [
    "ALWAYS",
    "HEAD_BYTES",
    "ISO",
    "Built",
    "Condition",
    "EventBuilder",
    "EventSpec",
    "FilePlace",
    "Grouping",
    "LineCounts",
    "Lines",
    "Span",
    "TextCodec",
    "by_format",
    "by_unit",
    "check_format",
    "codec_of",
    "encoding_of",
    "last_end",
    "take_lines",
]
