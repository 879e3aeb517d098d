"""What a report is, and whether it is a good one: bytes in, blocks of events or a `Refused` out.

Pure: no clock, no disk, no network. `check.py` is the way in; the rules are the proxy's own (bk-collector,
`processor/proxyvalidator`), plus the stricter points that docs/validation.md lists.
"""

from sidecar.report.check import Checked, Rules, check_items
from sidecar.report.envelope import Envelope, open_envelope

__all__ = ["Checked", "Envelope", "Rules", "check_items", "open_envelope"]
