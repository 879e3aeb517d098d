"""Sends reports over a line socket of the sidecar: each is a line, and its answer says what became of it.

The socket itself, and which lines are open, are `client`'s. The sidecar reads no more while its queue is full.
"""

import socket
from collections.abc import Sequence
from pathlib import Path

from sidecar.cli.send.delivery import BrokenError, GaveUpError, Patience
from sidecar.cli.send.outbox import Report, ReportOutbox, rejected_as
from sidecar.client.answers import Answer, BadAnswer, LineRefused
from sidecar.client.connection import Connection, connect, parse_address
from sidecar.client.outbox import Outbox
from sidecar.core.errors import in_words
from sidecar.host.listeners import short_path

_WINDOW_LINES = 100
"""The most lines that are in flight (not settled) at one time.

The sidecar keeps refusals of about this many lines for a client that does not read its answers."""
_WINDOW_BYTES = 2_000_000
_NO_LIMIT = 1 << 62


class ReportLines:
    """Track the reports that are in flight as lines on one connection, and tell `outbox` which ones an answer settles.

    `own_target` stands in for a target that is left out; None: the sidecar knows better.
    """

    def __init__(self, outbox: ReportOutbox, own_target: str | None) -> None:
        self._outbox, self._own_target = outbox, own_target
        self._lines = Outbox(_NO_LIMIT, self._settled)
        self._open: dict[int, Report] = {}  # by the number of its line
        self.heard = False  # an answer

    def take(self, max_bytes: int) -> bytes:
        """Return the next lines to be written. Waits for the source of the reports, where nothing is open."""
        while not self._outbox.is_done:
            if len(self._lines) >= _WINDOW_LINES or self._lines.held_bytes >= _WINDOW_BYTES:
                break
            report = self._outbox.next()
            if report is not None:
                self._lines.put(report.body(self._own_target) + b"\n")
                self._open[self._lines.last] = report
            elif self._open:
                break
        return self._lines.take(max_bytes)

    def answered(self, answers: Sequence[Answer]) -> None:
        """Settle what is answered. Raises BadAnswer for what cannot be, and StoppedError as the outbox does."""
        for answer in answers:
            self.heard = True
            self._lines.apply(answer)

    def _settled(self, line: int, refusal: LineRefused | None) -> None:
        report = self._open.pop(line)
        if refusal is None:
            self._outbox.taken(report)
        else:
            why = rejected_as(refusal.problem or refusal.error, refusal.place, refusal.scope)
            self._outbox.rejected(report, why)


class LineSocket:
    """An open connection to a line socket, called `name`; `own_target` as for `ReportLines`."""

    last_answer = b""

    def __init__(self, name: str, sock: socket.socket, own_target: str | None) -> None:
        self.name = name
        self._sock, self._own_target = sock, own_target

    def carry(self, outbox: ReportOutbox, patience: Patience) -> None:
        """Send until all is settled. Raises BrokenError, GaveUpError, StoppedError."""
        lines = ReportLines(outbox, self._own_target)
        connection = Connection(self._sock, lines.take, lines.answered)
        try:
            while not connection.talk(lambda: outbox.is_done, wait_s=lambda: patience.left_s):
                if not patience.left_s:
                    raise GaveUpError(
                        "the sidecar takes nothing more at the moment; `sidecar status` says whether it is full"
                    )
        except OSError as error:
            raise BrokenError(f"{self.name}: {in_words(error)}", silent=not lines.heard) from None
        except BadAnswer as bad:
            raise BrokenError(f"{self.name}: no answer of a sidecar: {bad}", silent=not lines.heard) from None

    def close(self) -> None:
        self._sock.close()


def open_line_socket(address: str, own_target: str | None) -> LineSocket:
    """Open the socket at `address`, as `parse_address` takes it. Raises OSError."""
    where = parse_address(address)
    if isinstance(where, str) and not where.startswith("\0"):
        with short_path(Path(where)) as short:
            sock = connect(short)
    else:
        sock = connect(where)
    return LineSocket(address, sock, own_target)
