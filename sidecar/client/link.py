"""The thread that brings lines to the sidecar, over one connection after another. What a line says is not its business.

    nothing to send ── put ──> connect ──> talk
          ^                       │ failed   │ lost: what is not settled waits again
          └──────────────────── a pause that grows with the failures in a row; flush and close cut it short

Nothing here logs: it would come back as one more line to send.
"""

import os
import random
import socket
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.client.answers import Answer, LineRefused
from sidecar.client.connection import Connection, Wake, connect, parse_address
from sidecar.client.outbox import Outbox

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_END_S = 0.5
_ERROR_CHARACTERS = 500


def pause_s(failures: int, draw: float) -> float:
    """Return the wait after so many failures in a row, the first is 1; `draw` from [0, 1) sets applications apart."""
    longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 60))
    return longest_s * (0.5 + draw / 2)


def _what(error: Exception | str) -> str:
    try:
        return str(getattr(error, "strerror", None) or error) or type(error).__name__
    except Exception:  # an application's own exception may fail even at this
        return type(error).__name__


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """The counters of one handler in one process. `handed_over` is the sum of the six after it.

    `acknowledged`: on the sidecar's disk. `waiting`: not settled yet. Lost are: `full`, for which the buffer had no
    room; `unformattable`; `refused` by the sidecar for good; `undelivered`, given up by `close` or handed over after
    it. `last_error` stays after a recovery.
    """

    handed_over: int
    acknowledged: int
    waiting: int
    full: int
    unformattable: int
    refused: int
    undelivered: int
    reconnects: int
    last_error: str | None


class Link:
    """Queue lines, and send them on a thread of its own. Only `flush` and `close` wait, and for a bounded time.

    `address` is as `parse_address` takes it; the constructor raises its ValueError.
    """

    def __init__(self, address: str, buffer_bytes: int) -> None:
        self._name, self._address = address, parse_address(address)
        self._buffer_bytes = buffer_bytes
        self._closed = False  # nothing more is taken
        self._begin()
        _links.add(self)

    def _begin(self) -> None:
        # An RLock: a signal handler or a finaliser may log in the midst of what is done under it.
        self._lock = threading.RLock()
        self._settled = threading.Condition(self._lock)
        self._outbox = Outbox(self._buffer_bytes)
        self._handed_over = self._unformattable = self._undelivered = self._connections = 0
        self._last_error: str | None = None
        self._hurry = threading.Event()
        self._failures = 0
        self._started = False
        self._thread: threading.Thread | None = None
        self._wake: Wake | None = None
        self._sock: socket.socket | None = None

    def put(self, line: bytes) -> None:
        """Queue one line to be sent soon. If there is no room, it is counted as lost."""
        with self._lock:
            self._handed_over += 1
            if self._closed:
                self._undelivered += 1
            elif self._outbox.put(line):
                self._see_to_it()

    def lose_unformattable(self, error: Exception) -> None:
        """Count a record of which no line could be made."""
        with self._lock:
            self._handed_over += 1
            self._unformattable += 1
            self._failed("unformattable", error)

    def flush(self, timeout_s: float) -> bool:
        """Return whether all that was put in so far is settled, at the latest after this time."""
        with self._lock:
            through = self._outbox.last
            if self._outbox.is_settled(through):
                return True
            self._see_to_it()
            self._hurry.set()
            return self._settled.wait_for(lambda: self._outbox.is_settled(through), timeout_s)

    def close(self, timeout_s: float) -> None:
        """Flushes, ends the thread and gives up what is left."""
        self.flush(timeout_s)
        with self._lock:
            self._closed = True
            if self._wake is not None:
                self._wake.signal()
            self._hurry.set()
            thread = self._thread
        if thread is not None:
            thread.join(_END_S)  # it may hang in a look-up of a host's name
        with self._lock:
            self._undelivered += self._outbox.clear()

    def counts(self) -> Counts:
        """Return the counts as of now."""
        with self._lock:
            return Counts(
                handed_over=self._handed_over,
                acknowledged=self._outbox.acknowledged,
                waiting=len(self._outbox),
                full=self._outbox.full,
                unformattable=self._unformattable,
                refused=self._outbox.refused,
                undelivered=self._undelivered,
                reconnects=max(0, self._connections - 1),
                last_error=self._last_error,
            )

    def forget_parent(self) -> None:
        """In a child process, right after the fork: no thread came along, and the parent sends what it holds."""
        for inherited in (self._sock, self._wake):
            if inherited is not None:
                inherited.close()
        self._begin()

    def _see_to_it(self) -> None:
        try:
            if not self._started:
                self._started = True
                self._start()
        except (OSError, RuntimeError) as error:  # no descriptor, or no thread, to be had; the next line tries again
            self._end()
            self._failed("no thread", error)
        if self._wake is not None:
            self._wake.signal()

    def _start(self) -> None:
        self._wake = Wake()
        self._thread = threading.Thread(target=self._run, args=(self._wake,), name="sidecar-handler", daemon=True)
        self._thread.start()

    def _run(self, wake: Wake) -> None:
        try:
            while self._has_work(wake):
                try:
                    self._connect_and_talk(wake)
                except Exception as error:  # whatever it is, the thread has to live
                    if self._outbox:  # else there is nobody whom it concerns
                        self._failed(self._name, error)
                        self._pause()
        finally:
            self._end()

    def _has_work(self, wake: Wake) -> bool:
        """Wait for lines; False at the end."""
        while True:
            wake.clear()
            if self._closed:
                return False
            if self._outbox:
                return True
            wake.wait()

    def _connect_and_talk(self, wake: Wake) -> None:
        try:
            self._sock = connect(self._address)
            with self._lock:
                self._connections += 1
            Connection(self._sock, self._take, self._answered).talk(lambda: self._closed, wake=wake)
        finally:
            with self._lock:
                self._outbox.connection_lost()
            if self._sock is not None:
                self._sock.close()
                self._sock = None

    def _take(self, max_bytes: int) -> bytes:
        with self._lock:
            return self._outbox.take(max_bytes)

    def _answered(self, answers: Sequence[Answer]) -> None:
        with self._lock:
            held = len(self._outbox)
            try:
                for answer in answers:
                    self._outbox.apply(answer)
                    if isinstance(answer, LineRefused):
                        self._failed("refused", answer.error)
            finally:
                if len(self._outbox) < held:
                    self._failures = 0
                    self._settled.notify_all()

    def _failed(self, where: str, error: Exception | str) -> None:
        with self._lock:
            self._last_error = f"{where}: {_what(error)}"[:_ERROR_CHARACTERS]

    def _pause(self) -> None:
        self._failures += 1
        if self._hurry.wait(pause_s(self._failures, random.random())):  # noqa: S311  # no secret
            self._hurry.clear()
            self._failures = 0

    def _end(self) -> None:
        with self._lock:
            self._started, self._thread = False, None
            if self._wake is not None:
                self._wake.close()
                self._wake = None


_links: "weakref.WeakSet[Link]" = weakref.WeakSet()


def _forget_parents() -> None:
    for link in list(_links):
        link.forget_parent()


os.register_at_fork(after_in_child=_forget_parents)
