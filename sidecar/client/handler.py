"""The handler for Python's logging: what of a record goes into an event. The link brings it to the sidecar."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from sidecar.client.line import LineWriter
from sidecar.client.link import Counts, Link


class SidecarHandler(logging.Handler):
    """Hands records to the sidecar as events; they are on its disk once it acknowledged them.

    Never blocks and never raises where the application logs. A record that cannot be formatted is counted, not given to
    `handleError`: that writes to stderr, which can block. A record that was not acknowledged when a connection broke is
    sent again: at least once. `close`, which logging calls at the exit, gives up what the sidecar did not take in time.

    After a fork the child begins anew and the parent keeps what it holds. A child that ends without logging's own exit,
    as those of multiprocessing do, has to call `flush` first.
    """

    # From 3.12 on: at the exit `close` alone, which flushes for a time of its own.
    flushOnClose = False  # noqa: N815  # the name is logging's

    def __init__(
        self,
        address: str = "/run/sidecar/sidecar.sock",
        *,
        stream: str | None = None,
        target: str | None = None,
        event_name: str = "log_{level}",
        dimensions: Mapping[str, Any] | None = None,
        level: int | str = logging.NOTSET,
        buffer_bytes: int = 8 * 1024 * 1024,
        max_line_bytes: int = 400_000,
        close_timeout_s: float = 2.0,
    ) -> None:
        """Connect nothing yet.

        Raises ValueError for an `address` or `event_name` that will not do; connects only at the first record.

        `address`: a path, `unix:/path`, `unix:@name` (abstract) or `tcp:HOST:PORT`. `stream`: a stream of the sidecar;
        None where the socket has one. `target` None: the sidecar's default. `event_name` may contain `{level}`, in
        lower case, and `{logger}`. `dimensions` go with every event, beside `logger` and `level`; those of one record
        are `extra={"dimensions": {...}}`. `buffer_bytes` bounds what is not settled; a longer line than
        `max_line_bytes` has its content cut, and gets a dimension `truncated`.
        """
        super().__init__(level)
        self._event_name = _checked(event_name)
        self._dimensions = _texts(dimensions)
        self._lines = LineWriter(stream=stream, target=target, max_line_bytes=max_line_bytes)
        self._close_timeout_s = close_timeout_s
        self._link = Link(address, buffer_bytes)
        self._gave_up_s = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Put the record into the buffer and return."""
        try:
            line = self._line(record)
        except Exception as error:  # from the record's own arguments or a formatter, so anything
            self._link.lose_unformattable(error)
        else:
            self._link.put(line)

    def flush(self, timeout_s: float = 5.0) -> bool:  # type: ignore[override]
        """Wait until all that was handed over so far is acknowledged or refused; False if it is not, in that time.

        Under the handler's lock, as logging calls it at the exit, it waits for `close_timeout_s` at most.
        """
        if self._is_locked_here():  # other threads that log wait as long
            timeout_s = min(timeout_s, self._close_timeout_s)
        if self._link.flush(timeout_s):
            return True
        if timeout_s >= self._close_timeout_s:
            self._gave_up_s = time.monotonic()
        return False

    def close(self) -> None:
        """Flush for `close_timeout_s` at most and ends. May be called again."""
        try:
            # Before 3.12 logging flushes right before it closes; in vain once is long enough for an exit.
            just_now = time.monotonic() - self._gave_up_s < 0.1
            self._link.close(0.0 if just_now else self._close_timeout_s)
        finally:
            super().close()

    @property
    def counts(self) -> Counts:
        """Return the counts as of now, in this process."""
        return self._link.counts()

    def _is_locked_here(self) -> bool:
        is_owned = getattr(self.lock, "_is_owned", None)  # what threading's own Condition asks a lock
        return is_owned is not None and bool(is_owned())

    def _line(self, record: logging.LogRecord) -> bytes:
        content = self.format(record)
        name = self._event_name.format(level=record.levelname.lower(), logger=record.name)
        own = _texts(getattr(record, "dimensions", None))
        dimension = {"logger": record.name, "level": record.levelname, **self._dimensions, **own}
        return self._lines.write(name, content, dimension, int(record.created * 1000))


def _texts(dimensions: object) -> dict[str, str]:
    """Empty for what is no mapping: others may have put something of that name into a record."""
    if not isinstance(dimensions, Mapping):
        return {}
    return {str(name): str(value) for name, value in dimensions.items()}


def _checked(event_name: str) -> str:
    try:
        event_name.format(level="info", logger="app")
    except (LookupError, AttributeError, TypeError, ValueError):
        raise ValueError(f"event_name: expected text with {{level}} and {{logger}} at most, got {event_name}") from None
    return event_name
