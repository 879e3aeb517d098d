"""What the stand-in proxy accepted: counts for ever, documents up to a number of bytes, and all of them in a file."""

from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

_KEEP_BYTES = 256_000_000


class Accepted(msgspec.Struct, frozen=True):
    """One accepted document. `number` counts from 1; `at_ms` is since 1970."""

    number: int
    at_ms: int
    data_id: int
    data: msgspec.Raw


class Traffic(msgspec.Struct):
    """Requests, as they came in, and answers by their status, or by the name of the fault that took its place."""

    requests: int = 0
    answers: Counter[str] = msgspec.field(default_factory=Counter)


class Record:
    """Everything that was asked of the stand-in; what asked for nobody's data_id, a probe, apart from the rest."""

    def __init__(self, file: Path | None = None) -> None:
        self.all = Traffic()
        self.probes = Traffic()
        self.by_data_id: dict[int, Traffic] = {}
        self.documents = self.events = self.bytes = 0
        self._kept: deque[Accepted] = deque()
        self._kept_bytes = 0
        self._file: IO[bytes] | None = file.open("ab") if file else None

    def asked(self, data_id: int | None) -> list[Traffic]:
        """Counts a request; the answer belongs into what is returned. None: a probe."""
        counted = [self.probes] if data_id is None else [self.all, self.by_data_id.setdefault(data_id, Traffic())]
        for traffic in counted:
            traffic.requests += 1
        return counted

    def accept(self, data_id: int, items: list[dict[str, Any]], *, size: int, at_ms: int) -> None:
        """Adds one document of `size` bytes."""
        self.documents += 1
        self.events += len(items)
        self.bytes += size
        accepted = Accepted(self.documents, at_ms, data_id, msgspec.Raw(msgspec.json.encode(items)))
        if self._file is not None:
            self._file.write(msgspec.json.encode(accepted) + b"\n")
            self._file.flush()
        self._kept.append(accepted)
        self._kept_bytes += len(accepted.data)
        while self._kept_bytes > _KEEP_BYTES:
            self._kept_bytes -= len(self._kept.popleft().data)

    def since(self, number: int) -> Iterator[Accepted]:
        """The kept documents with a number above `number`, oldest first."""
        return (accepted for accepted in list(self._kept) if accepted.number > number)
