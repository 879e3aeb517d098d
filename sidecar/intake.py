"""The straight line from an input to the disk: open the report, find its stream, check its items, admit, append."""

from collections import Counter
from collections.abc import Callable

import msgspec
import structlog

from sidecar.admission import Refuse, admit
from sidecar.config import Queue as QueueConfig
from sidecar.directory import Directory, Route
from sidecar.errors import Unavailable
from sidecar.model import Kind, StreamKey
from sidecar.queue import Queue, QueueStream
from sidecar.report import check_items, open_envelope

log = structlog.get_logger("intake")
_STOPPING_RETRY_S = 5
_SETTLED_MS = 5000
"""Without a refusal for so long, reports are taken again; a queue at its limit changes its mind many times a second."""
_Names = tuple[int | None, str, str | None]


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What a report held. `repaired`: it had characters that were none, and now has U+FFFD in their place."""

    events: int
    bytes: int
    repaired: bool


class Intake:
    """Takes reports for the queue. `clock` is in seconds since 1970; `skew_s` is how far the proxy's is ahead of it."""

    def __init__(
        self,
        directory: Directory,
        queue: Queue,
        settings: QueueConfig,
        *,
        block_bytes: int,
        event_bytes: int,
        clock: Callable[[], float],
        skew_s: Callable[[], float],
    ) -> None:
        self._directory, self._queue, self._settings = directory, queue, settings
        self._block_bytes, self._event_bytes, self._clock = block_bytes, event_bytes, clock
        self._skew_s = skew_s
        self._known: dict[_Names, _Known] = {}
        self._stopping = False
        self.refused_by: Counter[str] = Counter()
        self._refused = self._refused_ms = 0

    def reload(self) -> None:
        """Forgets which report goes where, since the directory has changed."""
        self._known.clear()

    def stop(self) -> None:
        """Refuses everything from now on; what was taken before is still committed."""
        self._stopping = True

    def take(self, body: bytes, done: Callable[[Exception | None], None]) -> Taken:
        """Takes one report; `done` is called with None once it is on disk, or with Unavailable.

        Raises Refused or Unavailable at once, and then never calls `done`.
        """
        if self._stopping:
            raise Unavailable("the sidecar is stopping", retry_after_s=_STOPPING_RETRY_S)
        now_ms = int(self._clock() * 1000)
        envelope = open_envelope(body)
        names = (envelope.data_id, envelope.token, envelope.stream)
        known = self._known.get(names)
        route = known.route if known else self._directory.resolve(envelope)
        checked = check_items(
            envelope.data,
            route.rules,
            now_ms=now_ms,
            block_bytes=self._block_bytes,
            event_bytes=self._event_bytes,
            skew_ms=int(self._skew_s() * 1000),
        )
        size = sum([len(block.body) for block in checked.blocks])
        self._admit(size, now_ms)
        stream = known.streams.get(checked.kind) if known else None
        if stream is None:  # only now: a report that is refused leaves nothing behind
            stream = self._stream(names, route, checked.kind)
        self._queue.append(stream, checked.blocks, size, now_ms, done)
        return Taken(sum([block.events for block in checked.blocks]), size, envelope.repaired)

    def _stream(self, names: _Names, route: Route, kind: Kind) -> QueueStream:
        key = StreamKey(route.data_id, route.token, kind)
        stream = self._queue.stream(key, configured=route.configured)
        self._known.setdefault(names, _Known(route)).streams[kind] = stream
        return stream

    def _admit(self, size: int, now_ms: int) -> None:
        verdict = admit(
            size,
            used_bytes=self._queue.size_bytes,
            pending_bytes=self._queue.pending_bytes,
            room=self._queue.room,
            when_full=self._settings.when_full,
        )
        if isinstance(verdict, Refuse):
            if not self._refused:
                log.error("reports are refused", reason=verdict.reason)
            self._refused += 1
            self.refused_by[verdict.reason] += 1
            self._refused_ms = now_ms
            raise Unavailable(verdict.reason, retry_after_s=verdict.retry_after_s)
        if self._refused and now_ms - self._refused_ms > _SETTLED_MS:
            log.info("reports are taken again", refused=self._refused)
            self._refused = 0


class _Known:
    """A way to name a stream that worked before; there are as many as streams, times the few ways to name one."""

    __slots__ = ("route", "streams")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.streams: dict[Kind, QueueStream] = {}
