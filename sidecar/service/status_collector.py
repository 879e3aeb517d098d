"""Gathers the status document from the running parts."""

import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import msgspec

from sidecar import __version__
from sidecar.config import Config
from sidecar.core.model import LANES, Books
from sidecar.forward import Forwarder
from sidecar.host.clock import boot_clock
from sidecar.inputs import InputCounts
from sidecar.inputs.tail import AS_CONFIGURED, TailCounts
from sidecar.intake import Intake, Router
from sidecar.queue import Queue, QueueLane, QueueStream
from sidecar.service.forwarders import Forwarders
from sidecar.service.maintenance import Maintenance
from sidecar.service.run_state import RunState
from sidecar.status import prometheus
from sidecar.status.document import (
    ConfigStatus,
    Health,
    InputStatus,
    LaneStatus,
    ProxyStatus,
    QueueStatus,
    Status,
    StreamState,
    StreamStatus,
    TokenStatus,
    books_status,
    failures,
    full_in_s,
    worries,
)
from sidecar.status.tails import ShownTail

_GROWTH_FROM_S, _GROWTH_OVER_S = 5.0, 30.0
_WORST = ("unauthorized", "held", "rate_limited", "sending", "idle")


class StatusCollector:
    """Implements what the HTTP routes show."""

    def __init__(
        self,
        config: Config,
        router: Router,
        queue: Queue,
        forwarders: Forwarders,
        maintenance: Maintenance,
        intake: Intake,
        run: RunState,
    ) -> None:
        self._config, self._router, self._queue = config, router, queue
        self._forwarders, self._maintenance, self._intake, self._run = forwarders, maintenance, intake, run
        self._growth = _Growth()

    def reload(self, config: Config) -> None:
        """Let `config` count from now on."""
        self._config = config

    def note_growth(self) -> None:
        """Note how the queue stands; once a second."""
        self._growth.note(boot_clock(), self._queue.size_bytes, self._queue.books().queued)

    async def status(self) -> Status:
        """Return the whole document."""
        ages_s, dropped = await self._queue.oldest_age_s(), await self._queue.dropped()
        due_ms, damaged = await self._queue.due_ms(), await self._queue.damaged()
        unseen, last_dead = await self._queue.unseen_dead()
        # From here on nothing is waited for, so that all the counters are of one moment.
        books = books_status(self._queue.books(), self._maintenance.mismatches)
        queue = self._queue_status(max(ages_s.values(), default=0.0), last_dead)
        by_data_id: dict[int, list[QueueStream]] = {}
        for stream in self._queue.streams():
            by_data_id.setdefault(stream.key.data_id, []).append(stream)
        streams = [self._stream(parts, ages_s, due_ms, dropped, damaged, unseen) for parts in by_data_id.values()]
        proxies = self._proxies()
        inputs = self._inputs()
        broken = failures(books=books, queue=queue, broken=self._queue.broken, refusing=self._intake.capacity.refusing)
        reasons = broken + worries(
            queue=queue,
            streams=streams,
            proxies=proxies,
            inputs=inputs,
            sockets_wait=self._run.sockets_wait,
            sockets_lost=self._run.sockets_lost,
            crowded=self._intake.streams.crowded,
            nameless=self._run.nameless,
            now_ms=int(time.time() * 1000),
        )
        config = self._run.config_state
        return Status(
            version=__version__,
            pid=self._run.pid,
            started_at=_wall_ms(self._run.started_s, boot_clock()),
            state="failing" if broken else "degraded" if reasons else "ok",
            reasons=reasons,
            books=books,
            queue=queue,
            streams=streams,
            proxies=proxies,
            inputs=inputs,
            config=ConfigStatus(config.generation, _wall_ms(config.loaded_s, boot_clock()), config.error),
            sockets_lost=self._run.sockets_lost,
        )

    async def alive(self) -> Health:
        """Return whether the process makes progress."""
        good = await self._maintenance.alive() or bool(self._queue.broken)
        return Health(good, [] if good else ["the queue's writer does not answer"])

    async def ready(self) -> Health:
        """Return whether a report, or a line of a file, would be taken now."""
        reasons = []
        if self._run.starting:
            reasons.append("starting: the tails look for their files")
        if self._run.stopping:
            reasons.append("stopping")
        if self._queue.broken:
            reasons.append(f"storage: {self._queue.broken}")
        if refusing := self._intake.capacity.refusing:
            reasons.append(refusing)
        return Health(not reasons, reasons)

    async def metrics(self) -> bytes:
        """Prometheus text."""
        return prometheus.render(await self.status())

    def _inputs(self) -> list[InputStatus]:
        tails = {tail.name: tail for tail in self._run.shown_tails}
        return [_tail(counts, tails[counts.name]) if isinstance(counts, TailCounts) and counts.name in tails
                else _input(counts) for counts in self._run.inputs]  # fmt: skip

    def _queue_status(self, oldest_age_s: float, last_dead: int) -> QueueStatus:
        size, capacity = self._queue.size_bytes, self._queue.capacity
        fill_per_s, fewer_per_s = self._growth.rates()
        queued = self._queue.books().queued
        return QueueStatus(
            bytes=size,
            max_bytes=capacity.bytes,
            limit=capacity.limit,
            oldest_age_s=round(oldest_age_s, 3),
            fill_per_s=round(fill_per_s, 1),
            full_in_s=full_in_s(capacity.bytes - size, fill_per_s) if fewer_per_s <= 0 else None,
            through_in_s=queued / fewer_per_s if fewer_per_s > 0 and queued else None,
            refused_by=dict(self._intake.capacity.refused_by),
            wal_bytes=self._queue.wal_bytes,
            went_back=self._queue.went_back,
            last_dead=last_dead,
        )

    def _stream(
        self,
        parts: Sequence[QueueStream],
        ages_s: Mapping[int, float],
        due_ms: Mapping[int, int],
        dropped: Mapping[int, dict[str, int]],
        damaged: Mapping[int, int],
        unseen: Mapping[int, int],
    ) -> StreamStatus:
        """Return one row for all streams of a data_id: what came with one token or another, of either kind."""
        lanes = [
            lane
            for number, part in enumerate(parts, start=1)
            for lane in self._lanes(number, part, ages_s, due_ms.get(part.id))
        ]
        forwarders = [found for part in parts for lane in part.lanes if (found := self._forwarders.by_lane.get(lane))]
        books, now_s = sum((part.books for part in parts), Books()), boot_clock()
        dropped_by: Counter[str] = Counter()
        for part in parts:
            dropped_by.update(dropped.get(part.id, {}))
        return StreamStatus(
            name=self._router.name(parts[0].key),
            data_id=parts[0].key.data_id,
            state=_state(lanes),
            accepted=books.accepted,
            queued=books.queued,
            delivered=books.delivered,
            dead=books.dead,
            dropped=books.dropped,
            queued_bytes=sum(part.queued_bytes for part in parts),
            oldest_age_s=max((lane.oldest_age_s for lane in lanes), default=0.0),
            rate_per_min=sum(forwarder.requests.per_minute(now_s) for forwarder in forwarders),
            next_attempt_at=min((lane.next_attempt_at for lane in lanes if lane.next_attempt_at), default=None),
            last_error=next((forwarder.hold.last_error for forwarder in forwarders if forwarder.hold.last_error), None),
            last_delivered_at=max(part.last_delivered_ms or 0 for part in parts) or None,
            dropped_by=dict(dropped_by),
            damaged=sum(damaged.get(part.id, 0) for part in parts),
            dead_unseen=sum(unseen.get(part.id, 0) for part in parts),
            dead_bytes=sum(part.dead_bytes for part in parts),
            replayed=sum(part.replayed for part in parts),
            lanes=lanes,
            tokens=[self._token(number, part) for number, part in enumerate(parts, start=1)],
            waits_for=next((lane.waits_for for lane in lanes if lane.waits_for), None),
        )

    def _token(self, number: int, part: QueueStream) -> TokenStatus:
        return TokenStatus(
            token=number,
            kind=part.key.kind,
            configured=self._router.is_configured(part.key),
            accepted=part.books.accepted,
            queued=part.books.queued,
            delivered=part.books.delivered,
            dead=part.books.dead,
            dropped=part.books.dropped,
            last_delivered_at=part.last_delivered_ms,
        )

    def _lanes(
        self, token: int, stream: QueueStream, ages_s: Mapping[int, float], due_ms: int | None
    ) -> list[LaneStatus]:
        return [
            self._lane(token, lane, self._forwarders.by_lane.get(lane), ages_s.get(lane.id, 0.0), due_ms)
            for lane in stream.lanes
            if lane.events
        ]

    def _lane(
        self, token: int, lane: QueueLane, forwarder: Forwarder | None, age_s: float, due_ms: int | None
    ) -> LaneStatus:
        now_s = boot_clock()
        hold = forwarder.hold if forwarder else None
        suspicion = forwarder.isolation.bisect if forwarder else None
        return LaneStatus(
            name=lane.name,
            queued=lane.events,
            queued_bytes=lane.bytes,
            oldest_age_s=round(age_s, 3),
            state=hold.state if hold else "idle",
            searching=suspicion.attempts if suspicion else 0,
            failures=hold.failures if hold else 0,
            failing_since=_wall_ms_or_none(hold.failing_since_s if hold else None, now_s),
            next_attempt_at=_wall_ms_or_none(forwarder.next_attempt_s if forwarder else None, now_s),
            last_error=hold.last_error if hold else None,
            due_at=due_ms - int(self._forwarders.skew_s * 1000) if lane.name == LANES[-1] and due_ms else None,
            target=lane.target or None,
            token=token,
            waits_for=forwarder.waits_for if forwarder else None,
        )

    def _proxies(self) -> list[ProxyStatus]:
        now_s = boot_clock()
        return [
            ProxyStatus(
                endpoint.url,
                endpoint.state,
                endpoint.last_error,
                retry_at=_wall_ms_or_none(endpoint.retry_at_s, now_s) if endpoint.state == "down" else None,
                down_since=_wall_ms_or_none(endpoint.down_since_s, now_s) if endpoint.state == "down" else None,
                clock_ahead_s=None if endpoint.skew_s is None else round(endpoint.skew_s, 1),
                max_body=endpoint.body.limit_bytes(now_s),
            )
            for endpoint in self._forwarders.proxies.endpoints.all
        ]


def _input(counts: InputCounts) -> InputStatus:
    return InputStatus(
        name=counts.name,
        kind=counts.kind,
        events=counts.events,
        rejected=counts.rejected,
        repaired=counts.repaired,
        bytes=counts.bytes,
        connections=counts.connections,
        connections_refused=counts.connections_refused,
        dropped_by=dict(counts.dropped),
        hops_ignored=counts.hops_ignored,
    )


def _tail(counts: TailCounts, shown: ShownTail) -> InputStatus:
    return msgspec.structs.replace(
        _input(counts),
        stream=shown.stream,
        files=shown.files,
        lag_bytes=shown.lag_bytes,
        lines=dict(counts.lines),
        recent=counts.recent.counts(boot_clock()),
        losses=counts.losses,
        polling=shown.polling if shown.polling != AS_CONFIGURED else None,
        waiting=shown.waiting,
        unreadable=shown.unreadable,
        unreadable_first=shown.unreadable_first,
    )


def _state(lanes: Sequence[LaneStatus]) -> StreamState:
    """Return the state of the first lane of each token; of several tokens the worst."""
    first: dict[int, StreamState] = {}
    for lane in lanes:
        if lane.name != "scheduled":
            first.setdefault(lane.token, lane.state)
    return min(first.values(), key=_WORST.index, default="idle")


class _Growth:
    """How fast the queue grows, in bytes, and becomes shorter, in events: over the last half minute or so.

    It is told each second how the queue stands, whether anybody asks or not.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def note(self, now_s: float, size: int, queued: int) -> None:
        """Note that the queue has `size` bytes and `queued` events now."""
        self._seen.append((now_s, size, queued))
        while len(self._seen) > 1 and now_s - self._seen[1][0] >= _GROWTH_OVER_S:
            self._seen.popleft()

    def rates(self) -> tuple[float, float]:
        """Return bytes more, and events less, in a second; nothing before there is something to compare."""
        if not self._seen:
            return 0.0, 0.0
        (then_s, then_size, then_queued), (now_s, size, queued) = self._seen[0], self._seen[-1]
        passed_s = now_s - then_s
        if passed_s < _GROWTH_FROM_S:
            return 0.0, 0.0
        return (size - then_size) / passed_s, (then_queued - queued) / passed_s


def _wall_ms(at_s: float, now_s: float) -> int:
    """Return what the wall clock would have said then, if it had been as it is now."""
    return int((time.time() + at_s - now_s) * 1000)


def _wall_ms_or_none(at_s: float | None, now_s: float) -> int | None:
    return None if at_s is None or math.isinf(at_s) else _wall_ms(at_s, now_s)
