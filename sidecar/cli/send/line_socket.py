"""A connection to a line socket of the sidecar: writes reports, and reads answers while it writes.

What an answer settles is the business of `conversation.py`; the sidecar reads no more while its queue is full.
"""

import contextlib
import select
import socket
from pathlib import Path

from sidecar.cli.send.conversation import Conversation
from sidecar.cli.send.link import BrokenError, GaveUpError, Patience
from sidecar.cli.send.outbox import ReportOutbox
from sidecar.client.address import parse_address
from sidecar.client.answers import Answers, BadAnswer
from sidecar.client.connection import connect
from sidecar.host.listeners import short_path

_WINDOW_LINES = 100
"""Not settled at once; the sidecar keeps refusals of about so many lines for a client that does not read."""
_WINDOW_BYTES = 2_000_000
_BLOCK_BYTES = 65_536
_LONGEST_WAIT_S = 3600.0


class LineSocket:
    """`own_target` stands in for a target that is left out; None: the sidecar knows better."""

    def __init__(self, name: str, sock: socket.socket, own_target: str | None) -> None:
        self.name = name
        self._sock, self._own_target = sock, own_target
        self._answers = Answers()
        self._unsent = memoryview(b"")
        self._heard = False

    def carry(self, outbox: ReportOutbox, patience: Patience) -> None:
        """Until all is settled. Raises BrokenError, GaveUpError, StoppedError."""
        conversation = Conversation(outbox)
        poller = select.poll()
        while True:
            if not self._unsent:
                self._unsent = memoryview(self._next_lines(outbox, conversation))
            if outbox.is_done:
                return
            if conversation.open_lines:
                poller.register(self._sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))
                self._exchange(poller, conversation, patience)

    def close(self) -> None:
        self._sock.close()

    def _next_lines(self, outbox: ReportOutbox, conversation: Conversation) -> bytes:
        lines = []
        while conversation.open_lines < _WINDOW_LINES and conversation.open_bytes < _WINDOW_BYTES:
            report = outbox.next()
            if report is None:
                break
            line = report.body(self._own_target) + b"\n"
            conversation.say(report, len(line))
            lines.append(line)
        return b"".join(lines)

    def _exchange(self, poller: select.poll, conversation: Conversation, patience: Patience) -> None:
        wait_s = min(patience.left_s, _LONGEST_WAIT_S)
        ready = dict(poller.poll(wait_s * 1000)).get(self._sock.fileno(), 0)
        if not ready and not patience.left_s:
            raise GaveUpError("the sidecar takes nothing more at the moment; `sidecar status` says whether it is full")
        try:
            if ready & ~select.POLLOUT:
                self._read(conversation)
            if ready & select.POLLOUT:
                self._write(conversation)
        except OSError as error:
            raise BrokenError(f"{self.name}: {error.strerror or error}", silent=not self._heard) from None
        except BadAnswer as bad:
            raise BrokenError(f"{self.name}: no answer of a sidecar: {bad}", silent=not self._heard) from None

    def _read(self, conversation: Conversation) -> None:
        try:
            data = self._sock.recv(_BLOCK_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the sidecar closed the connection")
        for answer in self._answers.feed(data):
            self._heard = True
            conversation.hear(answer)

    def _write(self, conversation: Conversation) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            with contextlib.suppress(BlockingIOError):  # what it said before it went need not be sent again
                self._read(conversation)
            raise


def open_line_socket(address: str, own_target: str | None) -> LineSocket:
    """`address` as `parse_address` takes it. Raises OSError."""
    where = parse_address(address)
    if isinstance(where, str) and not where.startswith("\0"):
        with short_path(Path(where)) as short:
            sock = connect(short)
    else:
        sock = connect(where)
    return LineSocket(address, sock, own_target)
