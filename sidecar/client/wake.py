"""Wakes a thread that sleeps in poll(). It knows nothing of what the thread has to do."""

import contextlib
import select
import socket


class Wake:
    """Set what is to be seen, then `signal`; the thread calls `clear`, then looks, then sleeps: it misses nothing.

    `signal` and `close` must not run at the same time. The constructor raises OSError.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._signalled = False

    def fileno(self) -> int:
        """To poll for."""
        return self._reader.fileno()

    def signal(self) -> None:
        """Costs nothing while the thread has not seen the last one."""
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
        """Sleeps until there is a signal."""
        poller = select.poll()
        poller.register(self, select.POLLIN)
        poller.poll()

    def close(self) -> None:
        """Nobody sleeps here any more."""
        self._reader.close()
        self._writer.close()
