"""A connection that sends lines: numbers them, and says which are on disk and which are refused."""

from sidecar.core.errors import Rejection
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.acks import Acks
from sidecar.inputs.socket.line_framer import LineFramer, Overlong
from sidecar.inputs.socket.sessions import PrepareLines, SessionItem
from sidecar.intake import Prepared

_HALF_A_LINE = "the connection ended in the middle of this line"


class LineSession:
    """Speak the line protocol with one client. Lines are numbered from 1 as they come; blank lines do not count."""

    def __init__(
        self, check: PrepareLines, counts: InputCounts, max_line_bytes: int, *, lost: str | None = None
    ) -> None:
        self.lost = lost
        self._check, self._counts = check, counts
        self._framer = LineFramer(max_line_bytes)
        self._acks = Acks()
        self._seen = 0  # lines so far, also refused ones

    @property
    def unfinished_bytes(self) -> int:
        return self._framer.unfinished_bytes

    def feed(self, data: bytes) -> list[SessionItem]:
        if self.lost is None:
            return list(self._framer.feed(data))
        return [Overlong(self.lost)]

    def check(self, item: SessionItem) -> Prepared | None:
        if not isinstance(item, bytes):
            self.refuse(item, item.reason if isinstance(item, Overlong) else "")
            return None
        checked = self._check(item)
        for number, rejected in checked.rejected:
            self._reject(number, rejected)
        self._seen += checked.lines + len(checked.rejected)
        return checked.prepared

    def refuse(self, item: SessionItem, reason: str) -> None:
        lines = item.count(b"\n") if isinstance(item, bytes) else 1
        for number in range(lines):
            self._reject(number, Rejection(400, reason))
        self._seen += lines

    def committed(self, lines: int) -> None:
        self._acks.committed(lines)

    def answer(self) -> bytes:
        return self._acks.take()

    def give_up_unfinished(self, reason: str) -> SessionItem | None:
        return self._framer.discard(reason)

    def end(self) -> list[SessionItem]:
        return [Overlong(_HALF_A_LINE)] if self._framer.end() else []

    def _reject(self, number: int, why: Rejection) -> None:
        self._counts.rejected += 1
        self._acks.reject(self._seen + number + 1, why)
