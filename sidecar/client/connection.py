"""One connection to the sidecar: it reads while it writes, so that neither side can hold up the other.

Which lines there are to send, and what an answer means for them, its callers know.
"""

import contextlib
import select
import socket
from collections.abc import Callable, Sequence

from sidecar.client.address import Tcp
from sidecar.client.answers import Answer, Answers
from sidecar.client.wake import Wake

_CONNECT_TIMEOUT_S = 5.0
_BLOCK_BYTES = 65_536


def connect(address: Tcp | str) -> socket.socket:
    """Return a socket that never blocks. Raises OSError."""
    if isinstance(address, Tcp):
        sock = socket.create_connection(address, _CONNECT_TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        sock = _connect_unix(address)
    sock.setblocking(False)
    return sock


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(_CONNECT_TIMEOUT_S)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


class Connection:
    """`take` gives the next bytes, of about so many at most, or none; `answered` is told what the sidecar said."""

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[int], bytes],
        answered: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._sock, self._take, self._answered = sock, take, answered
        self._answers = Answers()
        self._rest = memoryview(b"")

    def talk(self, wake: Wake, is_over: Callable[[], bool]) -> None:
        """Until it is over. Raises OSError when the connection is lost, BadAnswer when the other is no sidecar."""
        # poll, not epoll: a child process would share an epoll set. Not select: it takes no descriptor above 1,023.
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        while True:
            wake.clear()
            if is_over():
                return
            self._rest = self._rest or memoryview(self._take(_BLOCK_BYTES))
            poller.register(self._sock, select.POLLIN | (select.POLLOUT if self._rest else 0))
            ready = dict(poller.poll()).get(self._sock.fileno(), 0)
            if ready & ~select.POLLOUT:
                self._read()
            if ready & select.POLLOUT:
                self._write()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_BLOCK_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the sidecar closed the connection")
        self._answered(self._answers.feed(data))

    def _write(self) -> None:
        try:
            self._rest = self._rest[self._sock.send(self._rest) :]
        except BlockingIOError:
            return
        except OSError:
            # What it said before it went settles lines that would be sent again without need.
            with contextlib.suppress(BlockingIOError):
                self._read()
            raise
