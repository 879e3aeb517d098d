"""Writes the answers of one connection, past its transport: a client that has gone must not cost what it has sent.

A transport that cannot write closes the connection, and with it goes what was not read yet. Here a client that has gone
is only not told any more; and of one that does not read, nothing is kept but what was half written.
"""

import os


class ResponseWriter:
    """Write answers to one client without blocking. `mute`: nobody reads them any more, so they are dropped."""

    __slots__ = ("_fd", "_rest", "mute")

    def __init__(self, fd: int) -> None:
        """Write to `fd`, which is the connection's, non-blocking, and somebody else's to close."""
        self._fd = fd
        self._rest = b""  # what the client has not read yet
        self.mute = False

    @property
    def blocked(self) -> bool:
        """Return whether the client has not read what was said before."""
        return bool(self._rest) and not self.mute

    def say(self, answer: bytes) -> None:
        """Write what is left of before, and then `answer`, as far as the client reads."""
        self._rest += answer
        try:
            while self._rest and not self.mute:
                self._rest = self._rest[os.write(self._fd, self._rest) :]
        except BlockingIOError:
            pass
        except OSError:
            self.end()

    def end(self) -> None:
        """Use the descriptor no more."""
        self.mute, self._rest = True, b""
