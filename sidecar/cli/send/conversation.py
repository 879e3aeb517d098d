"""The reports that were sent over one connection of a line socket, and which of them an answer settles. Pure.

Invariant: the sidecar acknowledges lines in order, so `acked: N` is about the first N that it did not refuse.
"""

from collections import deque

from sidecar.cli.send.outbox import ReportOutbox, rejected_as
from sidecar.cli.send.report import Report
from sidecar.client.answers import Acked, Answer, BadAnswer, LineRefused, NotShown


class Conversation:
    """Lines are counted from 1 as they are sent; `open_bytes` are of those that are not settled."""

    def __init__(self, outbox: ReportOutbox) -> None:
        self._outbox = outbox
        self._sent = 0
        self._acked = 0
        self._open: deque[tuple[int, Report, int]] = deque()
        self.open_bytes = 0

    @property
    def open_lines(self) -> int:
        """Return how many wait for an answer."""
        return len(self._open)

    def say(self, report: Report, size_bytes: int) -> None:
        """It is the next line."""
        self._sent += 1
        self._open.append((self._sent, report, size_bytes))
        self.open_bytes += size_bytes

    def hear(self, answer: Answer) -> None:
        """Settle what it is about. Raises BadAnswer for what cannot be, and StoppedError as the outbox does."""
        match answer:
            case Acked(total=total):
                if not self._acked <= total <= self._acked + len(self._open):
                    raise BadAnswer(f"{total} lines acknowledged, of {self._sent} and after {self._acked}")
                for _ in range(total - self._acked):
                    _, report, size = self._open.popleft()
                    self.open_bytes -= size
                    self._outbox.taken(report)
                self._acked = total
            case LineRefused():
                self._refuse(answer)
            case NotShown(lines=lines):  # cannot be: so few lines are open that all answers have room
                raise BadAnswer(f"{lines} refusals not shown")

    def _refuse(self, answer: LineRefused) -> None:
        for position, (number, report, size) in enumerate(self._open):
            if number == answer.line:
                del self._open[position]
                self.open_bytes -= size
                self._outbox.rejected(report, rejected_as(answer.problem or answer.error, answer.place, answer.scope))
                return
        raise BadAnswer(f"line {answer.line} refused, which is not open: {answer.error}")
