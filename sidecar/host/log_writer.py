"""Writes log lines on a thread of its own: a reader that stops, such as a full pipe or Ctrl-S, must stop nothing else.

any thread ── format ──> lines that wait (bounded) ──> thread log-writer ── write(2) ──> standard error
                              └ full: counted, and said as soon as somebody reads again
"""

import collections
import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import TextIO

_MAX_LINES = 2000
_MAX_BYTES = 1_000_000


class LogWriter:
    """Takes lines from any thread, and never waits. `dropped_line` makes the line that says how many were dropped."""

    def __init__(self, stream: TextIO | None, dropped_line: Callable[[int], str]) -> None:
        self._stream, self._dropped_line = stream, dropped_line
        self._lock = threading.Lock()  # for all that follows
        self._lines: collections.deque[bytes] = collections.deque()  # to be written; added by any thread
        self._bytes = 0
        self._dropped = 0  # lines, since the last one that said so
        self._writing = False  # the thread has taken lines that are not written yet
        self._work = threading.Event()
        # A daemon thread: a write(2) that blocks must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Hand over one line, without its end. Beyond the bounds it is dropped, and counted."""
        data = f"{line}\n".encode(errors="backslashreplace")
        with self._lock:
            if len(self._lines) >= _MAX_LINES or self._bytes + len(data) > _MAX_BYTES:
                self._dropped += 1
                return
            self._lines.append(data)
            self._bytes += len(data)
        self._work.set()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all lines are written, but not longer; False if some are not."""
        give_up_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_s:
            with self._lock:
                if not self._lines and not self._dropped and not self._writing:
                    return True
            time.sleep(0.001)
        return False

    def _run(self) -> None:
        while True:
            self._work.wait()
            # Cleared before lines are taken: a line that comes in between sets it again, and is not forgotten.
            self._work.clear()
            while taken := self._take():
                for line in taken:
                    self._write(line)

    def _take(self) -> list[bytes]:
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            self._bytes = 0
            if self._dropped:
                lines.append(f"{self._dropped_line(self._dropped)}\n".encode())
                self._dropped = 0
            # Set under the lock: flush() must not see an empty queue while these lines are not written yet.
            self._writing = bool(lines)
            return lines

    def _write(self, line: bytes) -> None:
        """Write to the file descriptor itself, so that no lock of the stream is held if the process ends meanwhile."""
        with contextlib.suppress(OSError, ValueError):  # nobody is there to be told
            number = _descriptor(self._stream)
            if number is not None:
                while line:
                    line = line[os.write(number, line) :]
            elif self._stream is not None:
                self._stream.write(line.decode())
                self._stream.flush()


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
