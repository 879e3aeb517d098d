"""Tells whether a report is a good one: bytes in, blocks of events or a `Rejected` out.

Pure: no clock, no disk, no network. `check.py` is the way in for reports, `lines.py` for bare events one a line,
`payload.py` for what clients of the agent send; the rules are the proxy's own (bk-collector,
`processor/proxyvalidator`), plus the stricter points that docs/validation.md lists.
"""

from sidecar.report.careful import check_item, clean_again
from sidecar.report.check import Checked, Rules, check_items, cut
from sidecar.report.envelope import Envelope, open_envelope
from sidecar.report.lines import CheckedLines, check_lines
from sidecar.report.payload import CheckedPayload, TextRule, check_payload
from sidecar.report.repair import mended, valid_utf8
from sidecar.report.words import describe, foreign

__all__ = [
    "Checked",
    "CheckedLines",
    "CheckedPayload",
    "Envelope",
    "Rules",
    "TextRule",
    "check_item",
    "check_items",
    "check_lines",
    "check_payload",
    "clean_again",
    "cut",
    "describe",
    "foreign",
    "mended",
    "open_envelope",
    "valid_utf8",
]
