"""One connection to the sidecar: it reads while it writes, so that neither side can hold up the other.

Which lines there are to send, and what an answer means for them, its callers know. A thread that sleeps here is woken
by `Wake`.
"""

import contextlib
import select
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sidecar.client.answers import Answer, Answers

_CONNECT_TIMEOUT_S = 5.0
_BLOCK_BYTES = 65_536
_LONGEST_WAIT_S = 3600.0
"""poll() takes no more than 24 days."""


class Tcp(NamedTuple):
    """A TCP address, in the shape that `socket` takes."""

    host: str
    port: int


def parse_address(text: str) -> Tcp | str:
    """Parse where the sidecar listens, as people write it.

    That is `tcp:HOST:PORT`, or the name of a Unix socket: a path, `unix:/path`, or `unix:@name` for an abstract one,
    which begins with a NUL then, as the kernel wants it. Raises ValueError that says what would be right.
    """
    if text.startswith("tcp:"):
        host, _, port = text.removeprefix("tcp:").rpartition(":")
        if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
            raise ValueError(f"expected tcp:HOST:PORT such as tcp:127.0.0.1:10206, got {text}")
        return Tcp(host.strip("[]"), int(port))
    path = text.removeprefix("unix:")
    if not path or "\0" in path:
        raise ValueError(f"expected a path, unix:/path, unix:@name or tcp:HOST:PORT, got {text!r}")
    return "\0" + path[1:] if text.startswith("unix:@") else path


class Wake:
    """Wake a sleeping thread, without lost wake-ups.

    Others change the state, then call `signal`. The thread calls `clear`, then looks at the state, then sleeps.

    `signal` and `close` must not run at the same time. The constructor raises OSError.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._signalled = False  # the thread has a signal that it has not seen

    def fileno(self) -> int:
        """Return what to poll for."""
        return self._reader.fileno()

    def signal(self) -> None:
        """Wake the thread; this costs nothing while it has not seen the last one."""
        if not self._signalled:
            self._signalled = True
            with contextlib.suppress(OSError):
                self._writer.send(b"\0")

    def clear(self) -> None:
        """Take the signal back. First the byte, then the mark: a signal in between finds the thread about to look."""
        with contextlib.suppress(OSError):
            self._reader.recv(64)
        self._signalled = False

    def wait(self) -> None:
        """Sleep until there is a signal."""
        poller = select.poll()
        poller.register(self, select.POLLIN)
        poller.poll()

    def close(self) -> None:
        """Close it; nobody sleeps here any more."""
        self._reader.close()
        self._writer.close()


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
    """An open connection, used by one thread.

    `take` gives the next bytes, of about so many at most, or none; `answered` is told what the sidecar said.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[int], bytes],
        answered: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._sock, self._take, self._answered = sock, take, answered
        self._answers = Answers()
        self._rest = memoryview(b"")  # what was taken, and is not written yet

    def talk(
        self, is_over: Callable[[], bool], *, wake: Wake | None = None, wait_s: Callable[[], float] | None = None
    ) -> bool:
        """Send and hear until it is over, and return True; False if nothing has happened for `wait_s()` seconds.

        Raises OSError when the connection is lost, BadAnswer when the other is no sidecar, and what the callbacks do.
        """
        # poll, not epoll: a child process would share an epoll set. Not select: it takes no descriptor above 1,023.
        poller = select.poll()
        if wake is not None:
            poller.register(wake, select.POLLIN)
        while True:
            if wake is not None:
                wake.clear()
            self._rest = self._rest or memoryview(self._take(_BLOCK_BYTES))
            if is_over():
                return True
            poller.register(self._sock, select.POLLIN | (select.POLLOUT if self._rest else 0))
            events = poller.poll(None if wait_s is None else 1000 * min(wait_s(), _LONGEST_WAIT_S))
            if not events:
                return False
            ready = dict(events).get(self._sock.fileno(), 0)
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
