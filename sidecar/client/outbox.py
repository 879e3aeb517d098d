"""The lines that are not settled yet, and how each was settled. No socket, no thread, no lock.

Invariant: a line leaves only once the sidecar acknowledged or refused it. Lines are settled from the front:

    put ──> waiting ──take──> sent ── acked: the first N that are not refused ──> gone
               ^               │ └─── refused, once nothing before it is open ──> gone
               └─── connection lost: what is still open, in its order

An acknowledgement may come before the refusal of a line that it passed over. That line is then taken for acknowledged,
and one later line is kept for longer than it need be, until the refusal sets it right: never the other way round.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.client.answers import Acked, Answer, BadAnswer, LineRefused, NotShown

LineSettled = Callable[[int, LineRefused | None], None]
"""A callback for each settled line: its number, and the refusal; None: the line was acknowledged."""


@dataclass(slots=True)
class _Connection:
    """The lines that were settled on this connection. Lines are counted from 1, as the sidecar does."""

    acked: int = 0  # as the sidecar said
    settled: int = 0  # all of them the first lines
    credited: int = 0  # of these, the ones that were settled by `acked`
    refusals: int = 0
    unnamed: int = 0  # of these, the ones whose lines were not told
    refused: dict[int, LineRefused] = field(default_factory=dict)  # refused lines with an open line before them


class Outbox:
    """Holds up to `limit_bytes` of lines. `acknowledged`, `refused` and `full` count lines since the beginning.

    `settled` is told of each line, from the front. That cannot be taken back: a refusal that comes too late, or without
    its line, is then no answer of a sidecar.
    """

    def __init__(self, limit_bytes: int, settled: LineSettled | None = None) -> None:
        self.acknowledged = self.refused = self.full = 0
        self.last = 0
        """The number of the latest line that was put in; the first is 1."""
        self._limit_bytes, self._tell = limit_bytes, settled
        self.held_bytes = 0  # of all lines that are not settled
        self._waiting: deque[tuple[int, bytes]] = deque()  # lines to be written, each with its number
        self._sent: deque[tuple[int, bytes]] = deque()  # lines written, and not settled; the oldest first
        self._connection = _Connection()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    def put(self, line: bytes) -> bool:
        """Return whether there was room."""
        held_bytes = self.held_bytes + len(line)
        if held_bytes > self._limit_bytes:
            self.full += 1
            return False
        self.held_bytes = held_bytes
        self.last += 1
        self._waiting.append((self.last, line))
        return True

    def take(self, max_bytes: int) -> bytes:
        """Return the next lines, to be sent now: the last of them may pass `max_bytes`."""
        taken = []
        while self._waiting and max_bytes > 0:
            numbered = self._waiting.popleft()
            self._sent.append(numbered)
            taken.append(numbered[1])
            max_bytes -= len(numbered[1])
        return b"".join(taken)

    def apply(self, answer: Answer) -> None:
        """Settle what an answer is about. Raises BadAnswer for what cannot be, and what `settled` raises."""
        match answer:
            case Acked(total=total):
                self._acked(total)
            case LineRefused():
                self._refuse(answer)
            case NotShown(lines=lines):
                self._not_shown(lines)

    def _acked(self, total: int) -> None:
        """Note that so many lines of this connection are on disk. Raises BadAnswer if so many were not sent."""
        if total < self._connection.acked:
            raise BadAnswer(f"{total} lines acknowledged after {self._connection.acked}")
        self._connection.acked = total
        self._settle()

    def _refuse(self, answer: LineRefused) -> None:
        """Note that a line of this connection will never be taken. Raises BadAnswer if there is no such line."""
        connection, line = self._connection, answer.line
        first = 1 if self._tell is None else connection.settled + 1
        if not first <= line <= connection.settled + len(self._sent) or line in connection.refused:
            raise BadAnswer(f"line {line} refused, which is not open: {answer.error}")
        connection.refusals += 1
        if line > connection.settled:
            connection.refused[line] = answer
        else:  # it was taken for one of the acknowledged; another is that in its place
            connection.credited -= 1
            self.acknowledged -= 1
            self.refused += 1
        self._settle()

    def _not_shown(self, lines: int) -> None:
        """Note that so many lines were refused, nobody knows which: that shows only when all are answered."""
        if lines < 0 or self._tell is not None:
            raise BadAnswer(f"{lines} refusals not shown")
        self._connection.refusals += lines
        self._connection.unnamed += lines
        self._settle()

    def connection_lost(self) -> None:
        """Have what is open sent again, on the next connection, where lines are counted anew."""
        first, refused = self._connection.settled + 1, self._connection.refused
        for line, numbered in reversed(list(enumerate(self._sent, first))):
            if line in refused:
                self.held_bytes -= len(numbered[1])
                self.refused += 1
            else:
                self._waiting.appendleft(numbered)
        self._sent.clear()
        self._connection = _Connection()

    def is_settled(self, through: int) -> bool:
        """Return whether all lines are settled up to this number."""
        oldest = self._sent or self._waiting
        return not oldest or oldest[0][0] > through

    def clear(self) -> int:
        """Give up what is left. Returns how many lines that are."""
        lines = len(self)
        self._waiting.clear()
        self._sent.clear()
        self.held_bytes = 0
        return lines

    def _settle(self) -> None:
        connection = self._connection
        all_lines = connection.settled + len(self._sent)
        if connection.acked + connection.refusals > all_lines:
            raise BadAnswer("more lines answered than were sent")
        while self._sent:
            refusal = connection.refused.pop(connection.settled + 1, None)
            if refusal is not None:
                self.refused += 1
            elif connection.credited < connection.acked:
                connection.credited += 1
                self.acknowledged += 1
            elif connection.unnamed and connection.acked + connection.refusals == all_lines:
                self.refused += 1
            else:
                break
            connection.settled += 1
            number, line = self._sent.popleft()
            self.held_bytes -= len(line)
            if self._tell is not None:
                self._tell(number, refusal)
