"""What one input has seen since the start."""

from collections import Counter


class InputCounts:
    """Plain numbers; `rejected` and `repaired` count reports, lines or frames, `bytes` counts their events.

    `hops_ignored` counts headers of hops that no sidecar wrote. `connections` are those of now; None for inputs that
    are not asked. `dropped` counts datagrams by reason.
    """

    __slots__ = (
        "bytes", "connections", "connections_refused", "dropped", "events", "hops_ignored", "kind", "name", "rejected",
        "repaired",
    )  # fmt: skip

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.events = self.rejected = self.bytes = self.repaired = self.connections_refused = self.hops_ignored = 0
        self.connections: int | None = None
        self.dropped: Counter[str] = Counter()

    def took(self, events: int, size: int, repaired: int) -> None:
        """So much is on disk."""
        self.events += events
        self.bytes += size
        self.repaired += repaired
