"""Records what the stand-in proxy accepted, and what of it arrived behind.

Counts for ever, documents up to a number of bytes, and all that arrived in a file.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from sidecar.standin.behind import ReportDocument

_KEEP_BYTES = 256_000_000


class Traffic(msgspec.Struct):
    """Requests, as they came in, and answers by their status, or by the name of the fault that took its place."""

    requests: int = 0
    answers: Counter[str] = msgspec.field(default_factory=Counter)


class Kept:
    """Keep the newest documents, up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0

    def add(self, document: ReportDocument) -> bytes:
        """Keep `document`, and return it as a line of JSON."""
        line = msgspec.json.encode(document) + b"\n"
        self._kept.append((document.number, line))
        self._bytes += len(line)
        while self._bytes > _KEEP_BYTES:
            self._bytes -= len(self._kept.popleft()[1])
        return line

    def since(self, number: int) -> Iterator[bytes]:
        """Yield the documents with a number above `number`, oldest first."""
        return (line for numbered, line in list(self._kept) if numbered > number)


class Record:
    """Everything that was asked of the stand-in; what asked for nobody's data_id, a probe, apart from the rest.

    `accepted` was answered with 200; `arrived` has come through behind it.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.all = Traffic()
        self.probes = Traffic()
        self.by_data_id: dict[int, Traffic] = {}
        self.documents = self.events = self.bytes = 0
        self.accepted, self.arrived = Kept(), Kept()
        self._file: IO[bytes] | None = file.open("ab") if file else None

    def asked(self, data_id: int | None) -> list[Traffic]:
        """Count a request; the answer belongs into what is returned. None: a probe."""
        counted = [self.probes] if data_id is None else [self.all, self.by_data_id.setdefault(data_id, Traffic())]
        for traffic in counted:
            traffic.requests += 1
        return counted

    def accept(self, data_id: int, items: list[dict[str, Any]], *, size: int, at_ms: int) -> ReportDocument:
        """Add one document of `size` bytes."""
        self.documents += 1
        self.events += len(items)
        self.bytes += size
        document = ReportDocument(self.documents, at_ms, data_id, items)
        self.accepted.add(document)
        return document

    def arrive(self, documents: Iterable[ReportDocument]) -> None:
        """Add what has come through."""
        for document in documents:
            line = self.arrived.add(document)
            if self._file is not None:
                self._file.write(line)
        if self._file is not None:
            self._file.flush()
