"""What one input has seen since the start."""


class InputCounts:
    """Plain numbers; `rejected` and `repaired` count reports, `bytes` counts their `data`."""

    __slots__ = ("bytes", "events", "kind", "name", "rejected", "repaired")

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.events = self.rejected = self.bytes = self.repaired = 0
