"""Sends one lane: reads what waits, posts it, and does what the answer means. `run` is an APScheduler job.

    run ──> may I? (stop, hold, quota, a proxy) ──no──> "again in n seconds"
              │ yes
              read chunks ──none──> "when something is committed"
              │ a bad event is among them? take half, or cut one in two
              write down what the quota loses ──> post ──> outcome ──> delivered: acknowledge, and round again
                                                              ├─ data fault: search for the bad event, and bury it
                                                              └─ else: hold the lane or the proxy; the rows stay

While a batch is on its way the next one is read, if the queue holds more than one.

Invariants. The order is: spend, write down, post, act. A row goes only with the proxy's own word for it, or as a dead
letter. Between the last look at the quota and its spending nothing is awaited, since lanes share it.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from sidecar.core.errors import Unavailable
from sidecar.core.future_window import latest_ms
from sidecar.core.model import BEFORE_ALL, RULES, Chunk, LaneName, StreamKey
from sidecar.core.rate_meter import RateMeter
from sidecar.forward.batch import fitting, room_bytes, splice
from sidecar.forward.byte_limiter import Weight, weigh
from sidecar.forward.client import Client
from sidecar.forward.endpoints import Endpoint, Endpoints
from sidecar.forward.hold import Hold, HoldState
from sidecar.forward.isolation import Isolation, is_single
from sidecar.forward.outcome import (
    Busy,
    DataFault,
    Delivered,
    Looped,
    Misrouted,
    Outcome,
    ProxyDown,
    RefusedUnknown,
    Throttled,
    TooLarge,
    Unauthorized,
)
from sidecar.forward.poster import Poster
from sidecar.forward.quota import LaneQuota, Spent
from sidecar.forward.routing import Routing
from sidecar.forward.source import LaneSource, Settings
from sidecar.status.document import LaneStatus
from sidecar.text.growth import growth_of

_CLOCK_PRECISION_S = 2.0
_TOO_LARGE_IN_A_ROW = 10
_LINGER_FACTOR = 3.0
_LINGER_MAX_S = 0.02

log = structlog.get_logger("forward")


class _Pause(msgspec.Struct, frozen=True):
    """The reason why the lane has to wait for `seconds`.

    `state`: the state to show; None: it is shown already. `weight`: the bytes that the lane waits for; None: no bytes.
    """

    seconds: float
    state: HoldState | None = None
    weight: Weight | None = None


class Forwarder:
    """Forwards one lane. Everything runs on the event loop."""

    def __init__(
        self,
        key: StreamKey,
        lane: LaneName,
        name: str,
        source: LaneSource,
        *,
        client: Client,
        endpoints: Callable[[], Endpoints],
        quota: LaneQuota,
        settings: Settings,
        wake_all: Callable[[], None],
        headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.name, self.lane = name, lane
        self.hold = Hold(name, settings.clock, settings.random, settings.causes)
        self.requests = RateMeter()  # those of the last minute, for the status
        self.next_attempt_s: float | None = None  # when it wants to run; None: it runs, or waits for a commit
        self.quota = quota
        self.isolation = Isolation(name, lane, source, quota, clock=settings.clock, wall_clock=settings.wall_clock)
        self.routing = Routing(endpoints, self.hold, settings.backoff, clock=settings.clock, wake_all=wake_all)
        self._poster = Poster(client, settings, headers, secret=key.token)
        self._key, self._source, self._client, self._settings = key, source, client, settings
        self._lingers_until_s = float("-inf")  # after a small batch: when the next one may be read
        self.waits_for: str | None = None  # which limit of bytes it waits for, in words; None: for none
        self.delivered_through: int | None = None  # accepted by the proxy, not deleted on disk yet; None: no such
        self._next: Weight | None = None  # of the batch that had to wait, until another one is read
        self._sent_seq = BEFORE_ALL  # of the last chunk that was delivered in this run; the next read begins behind it
        self._too_large_in_a_row = 0  # events that alone are too large for every proxy, since the last delivery
        self._stopping = False  # `run` ends after the request that is under way

    def stop(self) -> None:
        """End `run` after the request that is under way."""
        self._stopping = True

    def end(self) -> None:
        """Leave nothing behind; it is not run any more."""
        self.hold.end()

    def go_on(self) -> None:
        """Take `stop` back."""
        self._stopping = False

    def retry(self) -> None:
        """Forget why it waits; only the rate still counts. It must be woken to notice."""
        self.routing.release()
        self.hold.release()

    def status(self, lane: LaneStatus) -> LaneStatus:
        """Return `lane`, which the queue has filled in, with what is known here."""
        wall_less_clock_s = self._settings.wall_clock() - self._settings.clock()
        hold, bisect = self.hold, self.isolation.bisect
        return msgspec.structs.replace(
            lane,
            state=hold.state,
            searching=bisect.attempts if bisect else 0,
            failures=hold.failures,
            failing_since=_wall_ms(hold.failing_since_s, wall_less_clock_s),
            next_attempt_at=_wall_ms(self.next_attempt_s, wall_less_clock_s),
            last_error=hold.last_error,
            waits_for=self.waits_for,
        )

    async def run(self) -> float | None:
        """Send until nothing waits or nothing may be sent.

        Returns the seconds until it wants to run again; None: when something of the lane is committed.
        """
        self.next_attempt_s = None
        try:
            wait_s = await self._send_all()
        except Unavailable as error:
            self.hold.failed(error.message, "storage")
            wait_s = self.hold.back_off("held", self._settings.backoff)
        except Exception as error:  # a lane that fails in a way nobody foresaw must not stop the others
            log.exception("unexpected error in forwarder, will be retried", stream=self.name)
            self.hold.failed(f"{type(error).__name__}: {error}", "internal")
            wait_s = self.hold.back_off("held", self._settings.slow_backoff)
        self.next_attempt_s = None if wait_s is None else self._settings.clock() + wait_s
        return wait_s

    async def _send_all(self) -> float | None:
        if self.delivered_through is not None:
            await self._acknowledge(self.delivered_through)
        ahead: Sequence[Chunk] = ()
        self._sent_seq = BEFORE_ALL
        while not self._stopping and (ahead or self._source.queued):
            await self.isolation.give_up_if_too_many()
            pause = self._pause()
            if pause is not None:
                await self._begin(pause)
                return pause.seconds
            self.waits_for = None
            endpoint = self.routing.pick()
            if endpoint is None:
                continue
            size = min(self._source.queued_bytes, self._room(endpoint))
            async with self._client.turn(endpoint.url, self, size, self._poster.standing) as granted:
                # Only now is anything read or spent: while it waited for its turn, all may have changed.
                if granted and not self._stopping and self.routing.pick() is endpoint and self._pause() is None:
                    chunks = await self._choose(endpoint, ahead)
                    if chunks is None:
                        break
                    ahead = await self._send(endpoint, chunks) if chunks else ()
        self.hold.state = "idle"
        return None

    def _pause(self) -> _Pause | None:
        """Return for how long, and why, nothing may be sent; None: it may."""
        now_s = self._settings.clock()
        if (wait_s := max(self.hold.wait_s(now_s), self._lingers_until_s - now_s)) > 0:
            return _Pause(wait_s)
        requests_s = max(self.isolation.wait_s(), self.quota.requests_wait_s(now_s))
        weight = self._next or self._estimate()
        bytes_s = self.quota.bytes_wait_s(now_s, weight)
        if (wait_s := max(requests_s, bytes_s)) > 0:
            return _Pause(wait_s, "rate_limited", weight if bytes_s > requests_s else None)
        if (wait_s := self.routing.wait_s()) > 0:
            return _Pause(wait_s, "held")
        return None

    async def _begin(self, pause: _Pause) -> None:
        """Show why the lane waits, and have what it waits for kept for it. Raises Unavailable."""
        self.hold.state = pause.state or self.hold.state
        self.waits_for = None
        if pause.weight is not None:
            self.waits_for = f"{self._settings.byte_rate} for data_id {self._key.data_id}"
            self.quota.ask(self._settings.clock(), pause.weight)
            await self._save_quota()  # what a restart took for sent is not to count from the next one on again

    def _room(self, endpoint: Endpoint) -> int:
        room, largest = (
            room_bytes(self._key, endpoint.body.limit_bytes(self._settings.clock())),
            self.quota.largest_bytes,
        )
        return room if largest is None else min(room, largest)

    def _estimate(self) -> Weight:
        """Return what the next batch weighs at least, before it is read."""
        return Weight(min(self._source.queued_bytes, self._settings.max_body_bytes, self.quota.largest_bytes or 0), 0)

    async def _choose(self, endpoint: Endpoint, ahead: Sequence[Chunk]) -> Sequence[Chunk] | None:
        """Return what to send next, `ahead` if that was read already.

        Nothing: look again, since what waits has changed. None: nothing waits. Raises Unavailable.
        """
        if self.isolation.active:  # what to send may first have to be cut, which is no request
            self._sent_seq = BEFORE_ALL
            return await self.isolation.choose(await self._source.read(BEFORE_ALL, self._room(endpoint)))
        chunks = ahead or await self._source.read(self._sent_seq, self._room(endpoint))
        if not chunks and self._sent_seq == BEFORE_ALL:
            return None
        if not chunks:  # whatever still waits stands ahead of what was sent last
            self._sent_seq = BEFORE_ALL
        return chunks

    async def _send(self, endpoint: Endpoint, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Send as much of `chunks` as one request may hold. Returns the next ones, if they were read meanwhile."""
        chunks = [self._by_the_rules(chunk) for chunk in fitting(chunks, self._room(endpoint))]
        chunks, weight = self._weighed(chunks)
        now_s = self._settings.clock()
        if self.quota.wait_s(now_s, weight) > 0:
            self._next = weight
            return ()
        spent = self.quota.spend(now_s, weight, endpoint.url)  # without an await since the quota was looked at
        self._next = None
        self.isolation.spend()
        self.hold.state = "sending"
        try:
            return await self._post_and_act(endpoint, chunks, spent)
        finally:
            spent.landed(self._settings.clock(), accepted=None)  # if nobody knows

    def _by_the_rules(self, chunk: Chunk) -> Chunk:
        if chunk.rules == RULES:
            return chunk
        return Chunk(chunk.seq, self._settings.clean_again(chunk.body), chunk.events)

    def _weighed(self, chunks: Sequence[Chunk]) -> tuple[Sequence[Chunk], Weight]:
        """Return the first of `chunks` that together stay below the weight, at least one; and what they weigh."""
        largest = self.quota.largest_bytes
        while True:
            if largest is None:
                return chunks, Weight(0, 0)
            weight = weigh(
                sum([len(chunk.body) + 1 for chunk in chunks]),
                sum([chunk.events for chunk in chunks]),
                sum([growth_of(chunk.body) if chunk.growth is None else chunk.growth for chunk in chunks]),
            )
            if weight.bytes <= largest or len(chunks) == 1:
                return chunks, weight
            chunks = chunks[: len(chunks) // 2]

    async def _post_and_act(self, endpoint: Endpoint, chunks: Sequence[Chunk], spent: Spent) -> Sequence[Chunk]:
        body = splice(self._key, chunks)
        await self._save_quota()
        # Last, since it may be the one attempt for all lanes.
        if not self.routing.claim(endpoint):
            spent.landed(self._settings.clock(), accepted=False)
            return ()
        started_s = self._settings.clock()
        self.requests.count(started_s)
        reading = self._read_ahead(endpoint, chunks)
        try:
            outcome = await self._poster.post(endpoint, body)
            spent.landed(self._settings.clock(), accepted=_accepted(outcome))
            delivered = await self._act(outcome, endpoint, chunks, len(body), started_s)
            # What was cut in two stands ahead of where it was: look from the beginning.
            self._sent_seq = chunks[-1].seq if delivered and not self.isolation.active else BEFORE_ALL
            return await reading if reading and delivered else ()
        finally:
            if reading and not reading.done():
                reading.cancel()

    async def _acknowledge(self, through_seq: int) -> None:
        """Forget what was delivered. Raises Unavailable; then that is tried again first, and nothing is sent twice."""
        self.delivered_through = through_seq
        await self._source.acknowledge(through_seq)
        self.delivered_through = None

    async def _save_quota(self) -> None:
        await self._source.save_quota(*self.quota.snapshot(self._settings.clock()))

    def _read_ahead(self, endpoint: Endpoint, chunks: Sequence[Chunk]) -> asyncio.Task[list[Chunk]] | None:
        """Read the next batch, if it may leave right after this one; else it is read later, when more has gathered."""
        more = self._source.queued > sum(chunk.events for chunk in chunks)
        if not more or self.isolation.active or self.quota.wait_s(self._settings.clock(), self._estimate()) > 0:
            return None
        if self._client.is_contended(endpoint.url):  # it would be kept in memory while others have their turns
            return None
        return asyncio.create_task(self._source.read(chunks[-1].seq, self._room(endpoint)))

    async def _act(
        self, outcome: Outcome, endpoint: Endpoint, chunks: Sequence[Chunk], size: int, started_s: float
    ) -> bool:
        if isinstance(outcome, ProxyDown | Misrouted):
            self.routing.failed(endpoint, outcome, started_s)
            return False
        self.routing.worked(endpoint)  # it answered; if anything is wrong, it is with this lane, and no other may wait
        match outcome:
            case Delivered():
                self.quota.limiter.accepted(self._settings.clock())
                endpoint.body.fitted(size)
                self._too_large_in_a_row = 0
                await self._acknowledge(chunks[-1].seq)
                self.hold.recovered()
                self._linger(size, started_s)
                return True
            case DataFault(reason, status):
                self.quota.limiter.accepted(self._settings.clock())  # the proxy looks at the rate first
                if not await self._defer(endpoint, chunks):
                    await self.isolation.refused(reason, status, chunks)
            case TooLarge(reason, status):
                await self._too_large(endpoint, reason, status, chunks, size)
            case Unauthorized(reason):
                self.hold.failed(reason, "unauthorized", logging.ERROR)
                self.hold.back_off("unauthorized", self._settings.slow_backoff)
            case RefusedUnknown(reason) | Looped(reason):
                self.hold.failed(reason, "loop" if isinstance(outcome, Looped) else "refused", logging.ERROR)
                self.hold.back_off("held", self._settings.slow_backoff)
            case Throttled(reason, retry_after_s):
                self.hold.failed(reason, "rate_limited")
                self.quota.limiter.refused(self._settings.clock(), started_s, retry_after_s)
                await self._save_quota()
            case Busy(reason, retry_after_s):
                self.hold.failed(reason, "busy")
                self.hold.back_off("held", self._settings.backoff, at_least_s=retry_after_s or 0.0)
        return False

    async def _too_large(
        self, endpoint: Endpoint, reason: str, status: int, chunks: Sequence[Chunk], size: int
    ) -> None:
        """Send less at once; cut a chunk that is too large by itself; bury an event that is. Raises Unavailable."""
        if is_single(chunks):
            if not self.routing.elsewhere(endpoint):
                await self.isolation.bury(reason, status, chunks[0])
                self._brake(reason)
            return
        endpoint.body.too_large(size, self._settings.clock())
        log.warning(
            "body too large for the proxy or a gateway, sending smaller ones",
            stream=self.name,
            proxy=endpoint.url,
            bytes=size,
        )
        if len(chunks) == 1:
            await self._source.split(chunks[0].seq, chunks[0].events // 2)

    async def _defer(self, endpoint: Endpoint, chunks: Sequence[Chunk]) -> bool:
        """Schedule for later the events that the proxy refused only because its clock is behind. They are not bad.

        Returns False if there was nothing of the kind. Raises Unavailable.
        """
        if endpoint.skew_s is None:
            return False
        proxy_ms = int((self._settings.wall_clock() + endpoint.skew_s - _CLOCK_PRECISION_S) * 1000)
        return await self._source.defer(chunks[-1].seq, latest_ms(proxy_ms)) > 0

    def _brake(self, reason: str) -> None:
        """Hold the lane if bodies of every size are refused, so that not all of its events become dead letters."""
        self._too_large_in_a_row += 1
        if self._too_large_in_a_row >= _TOO_LARGE_IN_A_ROW:
            self.hold.failed(reason, "too_large", logging.ERROR)
            self.hold.back_off("held", self._settings.slow_backoff)

    def _linger(self, size: int, started_s: float) -> None:
        """Pause after a small batch, to gather a larger one: most of the time goes into that, not into requests."""
        if size < self._settings.max_body_bytes // 2 and not self.isolation.active:
            now_s = self._settings.clock()
            self._lingers_until_s = now_s + min(_LINGER_MAX_S, _LINGER_FACTOR * (now_s - started_s))


def _wall_ms(at_s: float | None, wall_less_clock_s: float) -> int | None:
    """Return what the wall clock would have said then, if it had been as it is now."""
    return None if at_s is None or math.isinf(at_s) else int((at_s + wall_less_clock_s) * 1000)


def _accepted(outcome: Outcome) -> bool | None:
    """Return whether the proxy has the batch; None: perhaps."""
    return True if isinstance(outcome, Delivered) else None if isinstance(outcome, ProxyDown) else False
