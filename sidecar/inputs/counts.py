"""Counts what one input has seen since the start."""

from collections import Counter

from sidecar.status.document import InputStatus


class InputCounts:
    """Count what one input did. `rejected` and `repaired` are reports, lines or frames; `bytes` are those of events.

    `hops_ignored` counts headers of hops that no sidecar wrote. `connections` are those of now; None for inputs that
    are not asked. `dropped` counts datagrams by reason.
    """

    __slots__ = (
        "bytes", "connections", "connections_refused", "dropped", "events", "hops_ignored", "kind", "name", "rejected",
        "repaired",
    )  # fmt: skip

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        # All since the start; what each is, InputStatus says.
        self.events = self.rejected = self.bytes = self.repaired = self.connections_refused = self.hops_ignored = 0
        self.connections: int | None = None  # open now; None: it is no input with connections
        self.dropped: Counter[str] = Counter()

    def took(self, events: int, size: int, repaired: int) -> None:
        """Count what is committed."""
        self.events += events
        self.bytes += size
        self.repaired += repaired

    def status(self) -> InputStatus:
        """Return the part of the status document."""
        return InputStatus(
            name=self.name,
            kind=self.kind,
            events=self.events,
            rejected=self.rejected,
            repaired=self.repaired,
            bytes=self.bytes,
            connections=self.connections,
            connections_refused=self.connections_refused,
            dropped_by=dict(self.dropped),
            hops_ignored=self.hops_ignored,
        )
