"""Finds the stream that a report names, or makes it, within the number that one peer may have.

What was resolved once is remembered, so that the thousandth report costs one look into a table.
"""

from collections import Counter
from collections.abc import Callable, Collection

from sidecar.core.errors import Unavailable
from sidecar.core.model import THIS_HOST, Kind, StreamKey
from sidecar.intake.router import Route, Router
from sidecar.queue import Queue, QueueStream
from sidecar.report import Envelope

MAX_STREAMS_OF_A_PEER = 250
"""Pass-through streams of one other host, or of all programs of this one: a quarter of all."""
_CROWDED_S = 120.0
"""Seconds for which the status names a peer that was refused because it has too many streams."""
_FULL_RETRY_S = 60
TOO_MANY_STREAMS = "too many streams"
_Names = tuple[int | None, str, str | None]


class KnownRoute:
    """A way to name a stream that worked; of these there are as many as streams, times the few ways to name one."""

    __slots__ = ("names", "route", "streams")

    def __init__(self, route: Route, names: _Names | None = None) -> None:
        self.route = route
        self.names = names  # by which it is remembered once it led to a stream; None: it is not remembered
        self.streams: dict[Kind, QueueStream] = {}  # that it led to; by the kind of their items


class Streams:
    """The streams as reports name them. On the event loop. `refused_by` counts what is refused for its stream."""

    def __init__(self, router: Router, queue: Queue, boot_clock: Callable[[], float], refused_by: Counter[str]) -> None:
        self._router, self._queue, self._boot_clock, self._refused_by = router, queue, boot_clock, refused_by
        self._known: dict[_Names, KnownRoute] = {}  # routes that led to a stream, until the next reload
        self._crowded: dict[str, float] = {}  # peers with all the streams they may have, and when that was in the way

    @property
    def crowded(self) -> list[str]:
        """Return the peers whose new streams were refused lately, since they have as many as they may."""
        now_s = self._boot_clock()
        return [peer for peer, at_s in self._crowded.items() if now_s - at_s < _CROWDED_S]

    def reload(self) -> None:
        """Forget which report goes where, since the router has changed."""
        self._known.clear()

    def forget(self, streams: Collection[QueueStream]) -> None:
        """Forget which reports go to streams that are gone."""
        gone = set(streams)
        for names, known in list(self._known.items()):
            if not gone.isdisjoint(known.streams.values()):
                del self._known[names]

    def resolve(self, envelope: Envelope, *, hint: bool = True, lend: bool = True) -> KnownRoute:
        """Return where a report goes. `lend`: it may use a configured token; `hint`: say what a wrong name may mean.

        Raises Rejected.
        """
        names = (envelope.data_id, envelope.token, envelope.stream)
        # What is remembered may rest on a token that was lent; other hosts are lent none.
        known = self._known.get(names) if lend else None
        return known or KnownRoute(self._router.resolve(envelope, hint=hint, lend=lend), names)

    def stream(self, known: KnownRoute, kind: Kind, peer: str = THIS_HOST.name) -> QueueStream:
        """Return the stream; make it if need be, so only for good reports: a refused one must leave nothing behind.

        Raises Unavailable.
        """
        stream = known.streams.get(kind)
        if stream is None:
            route = known.route
            key = StreamKey(route.data_id, route.token, kind)
            if not route.configured and not self._queue.has(key):
                self._expect_place(peer)
            stream = self._queue.stream(key, configured=route.configured)
            if not route.configured and not stream.saved:
                stream.peer = peer
            known.streams[kind] = stream
            # Remembered only now: names that lead nowhere would fill the memory.
            if known.names is not None:
                self._known[known.names] = known
        return stream

    def _expect_place(self, peer: str) -> None:
        """Check that `peer` may have one more stream.

        Raises Unavailable if it has as many streams of its own as one peer may.
        """
        mine = sum(stream.peer == peer for stream in self._queue.streams())
        if mine >= MAX_STREAMS_OF_A_PEER:
            self._refused_by[TOO_MANY_STREAMS] += 1
            self._crowded[peer] = self._boot_clock()
            raise Unavailable(
                f"already {mine} streams of {peer} that are not configured; no new data_id or token of it is taken"
                " until some of them have been drained for a while",
                retry_after_s=_FULL_RETRY_S,
            )
