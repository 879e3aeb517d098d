"""Sends one lane: reads what waits, posts it, and does what the answer means. `run` is an APScheduler job.

    run ──> may I? (stop, hold, budget, a proxy) ──no──> "again in n seconds"
              │ yes
              read chunks ──none──> "when something is committed"
              │ a bad event is among them? take half, or cut one in two
              write down what the budget loses ──> post ──> outcome ──> delivered: acknowledge, and round again
                                                              ├─ data fault: search for the bad event, and bury it
                                                              └─ else: hold the lane or the proxy; the rows stay

While a batch is on its way the next one is read, if the queue holds more than one.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import structlog

from sidecar.core.errors import Unavailable
from sidecar.core.future_window import latest_ms
from sidecar.core.model import BEFORE_ALL, RULES, Chunk, LaneName, StreamKey
from sidecar.core.rate_meter import RateMeter
from sidecar.forward.batch import fitting, room_bytes, splice
from sidecar.forward.budget import Budget, Spent
from sidecar.forward.byte_limiter import Weight, weigh
from sidecar.forward.client import Client
from sidecar.forward.endpoints import Endpoint, Endpoints
from sidecar.forward.fair_queue import Standing
from sidecar.forward.hold import Hold
from sidecar.forward.isolation import Isolation, is_single
from sidecar.forward.outcome import (
    Busy,
    DataFault,
    Delivered,
    Failure,
    Looped,
    Misrouted,
    Outcome,
    ProxyDown,
    RefusedUnknown,
    Reply,
    Throttled,
    TooLarge,
    Unauthorized,
    is_own,
    judge,
    skew_s,
)
from sidecar.forward.routing import Routing
from sidecar.forward.source import LaneSource, Settings

_NOTHING_LEFT: Sequence[Chunk] = []  # known by its identity
_CLOCK_PRECISION_S = 2.0
_TOO_LARGE_IN_A_ROW = 10
_LINGER_FACTOR = 3.0
_LINGER_MAX_S = 0.02

log = structlog.get_logger("forward")


class Forwarder:
    """The forwarding of one lane."""

    def __init__(
        self,
        key: StreamKey,
        lane: LaneName,
        name: str,
        source: LaneSource,
        *,
        client: Client,
        endpoints: Callable[[], Endpoints],
        budget: Budget,
        settings: Settings,
        wake_all: Callable[[], None],
        headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.name, self.lane = name, lane
        self.hold = Hold(name, settings.clock, settings.random, settings.causes)
        self.requests = RateMeter()
        self.next_attempt_s: float | None = None
        self.budget = budget
        self.isolation = Isolation(name, lane, source, budget, clock=settings.clock, wall_clock=settings.wall_clock)
        self.way = Routing(endpoints, self.hold, settings.backoff, clock=settings.clock, wake_all=wake_all)
        self._headers = headers  # what is said beside the usual ones, of the way that the events came
        self._key, self._source, self._client, self._settings = key, source, client, settings
        self._lingers_until_s = float("-inf")
        self.waits_for: str | None = None  # what of the budget it waits for, in words
        self.delivered_through: int | None = None  # what the proxy has taken, and the disk would not let us forget
        self._next: Weight | None = None  # of the batch that had to wait, until another one is read
        self._sent_seq = BEFORE_ALL
        self._too_large_in_a_row = 0
        self._stopping = False
        self._standing: Standing = "new"  # how its last request ended

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
        self.way.release()
        self.hold.release()

    async def run(self) -> float | None:
        """Send until nothing waits or nothing may be sent. Seconds until it wants to run again; None: on commit."""
        self.next_attempt_s = None
        try:
            wait_s = await self._send_all()
        except Unavailable as error:
            self.hold.failed(error.message, "storage")
            wait_s = self.hold.back_off("held", self._settings.backoff)
        except Exception as error:  # a lane that fails in a way nobody foresaw must not stop the others
            log.exception("forwarding failed", stream=self.name)
            self.hold.failed(f"{type(error).__name__}: {error}", "internal")
            wait_s = self.hold.back_off("held", self._settings.slow_backoff)
        self.next_attempt_s = None if wait_s is None else self._settings.clock() + wait_s
        return wait_s

    async def _send_all(self) -> float | None:
        if self.delivered_through is not None:
            await self._acknowledge(self.delivered_through)
        ahead: Sequence[Chunk] | None = None
        self._sent_seq = BEFORE_ALL
        while not self._stopping and (ahead or self._source.queued):
            wait_s = await self._wait_s()
            if wait_s > 0:
                return wait_s
            endpoint = self.way.pick()
            if endpoint is None:
                continue
            size = min(self._source.queued_bytes, self._room(endpoint))
            async with self._client.turn(endpoint.url, self, size, self._standing) as granted:
                # Only now is anything read or spent: while it waited for its turn, all may have changed.
                if granted and not self._stopping and self.way.pick() is endpoint and await self._wait_s() == 0:
                    ahead = await self._send_one(endpoint, ahead)
                    if ahead is _NOTHING_LEFT:
                        break
        self.hold.state = "idle"
        return None

    async def _wait_s(self) -> float:
        """Seconds until something may be sent; 0: now."""
        now_s = self._settings.clock()
        if (wait_s := max(self.hold.wait_s(now_s), self._lingers_until_s - now_s)) > 0:
            return wait_s
        requests_s = max(await self.isolation.wait_s(), self.budget.requests_wait_s(now_s))
        weight = self._next or self._estimate()
        bytes_s = self.budget.bytes_wait_s(now_s, weight)
        self.waits_for = None
        if (wait_s := max(requests_s, bytes_s)) > 0:
            self.hold.state = "rate_limited"
            if bytes_s > requests_s:
                self.waits_for = f"{self._settings.byte_rate} for data_id {self._key.data_id}"
                self.budget.ask(now_s, weight)
                await self._write_budget()  # what a restart took for sent is not to count from the next one on again
            return wait_s
        if (wait_s := self.way.wait_s()) > 0:
            self.hold.state = "held"
        return wait_s

    def _room(self, endpoint: Endpoint) -> int:
        room, largest = room_bytes(self._key, endpoint.body.bytes(self._settings.clock())), self.budget.largest_bytes
        return room if largest is None else min(room, largest)

    def _estimate(self) -> Weight:
        """Return what the next batch weighs at least, before it is read."""
        return Weight(min(self._source.queued_bytes, self._settings.max_body_bytes, self.budget.largest_bytes or 0), 0)

    async def _send_one(self, endpoint: Endpoint, ahead: Sequence[Chunk] | None) -> Sequence[Chunk] | None:
        """Send one batch, `ahead` if it was read already. The next one, if that was read meanwhile."""
        searching = self.isolation.active
        chunks: Sequence[Chunk] = ()
        if searching:  # what to send may first have to be cut, which is no request
            self._sent_seq = BEFORE_ALL
            chunks = await self.isolation.choose(await self._source.read(BEFORE_ALL, self._room(endpoint)))
            if not chunks:
                return None
        else:
            chunks = ahead or await self._source.read(self._sent_seq, self._room(endpoint))
            if not chunks and self._sent_seq == BEFORE_ALL:
                return _NOTHING_LEFT
            if not chunks:  # whatever still waits stands ahead of what was sent last
                self._sent_seq = BEFORE_ALL
                return None
        chunks = [self._by_the_rules(chunk) for chunk in fitting(chunks, self._room(endpoint))]
        chunks, weight = self._weighed(chunks)
        now_s = self._settings.clock()
        if self.budget.wait_s(now_s, weight) > 0:
            self._next = weight
            return None
        spent = self.budget.spend(now_s, weight, endpoint.url)  # without an await since the budget was looked at
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
        largest = self.budget.largest_bytes
        while True:
            if largest is None:
                return chunks, Weight(0, 0)
            weight = weigh(b",".join([chunk.body for chunk in chunks]), sum([chunk.events for chunk in chunks]))
            if weight.bytes <= largest or len(chunks) == 1:
                return chunks, weight
            chunks = chunks[: len(chunks) // 2]

    async def _post_and_act(self, endpoint: Endpoint, chunks: Sequence[Chunk], spent: Spent) -> Sequence[Chunk] | None:
        body = splice(self._key, chunks)
        await self._write_budget()
        # Last, since it may be the one attempt for all lanes.
        if not self.way.claim(endpoint):
            spent.landed(self._settings.clock(), accepted=False)
            return None
        started_s = self._settings.clock()
        self.requests.count(started_s)
        reading = self._read_ahead(endpoint, chunks)
        try:
            outcome = await self._post(endpoint, body)
            spent.landed(self._settings.clock(), accepted=_accepted(outcome))
            delivered = await self._act(outcome, endpoint, chunks, len(body), started_s)
            # What was cut in two stands ahead of where it was: look from the beginning.
            self._sent_seq = chunks[-1].seq if delivered and not self.isolation.active else BEFORE_ALL
            return await reading if reading and delivered else None
        finally:
            if reading and not reading.done():
                reading.cancel()

    async def _acknowledge(self, through_seq: int) -> None:
        """Forget what was delivered. Raises Unavailable; then that is tried again first, and nothing is sent twice."""
        self.delivered_through = through_seq
        await self._source.acknowledge(through_seq)
        self.delivered_through = None

    async def _write_budget(self) -> None:
        await self._source.spend(*self.budget.snapshot(self._settings.clock()))

    def _read_ahead(self, endpoint: Endpoint, chunks: Sequence[Chunk]) -> asyncio.Task[list[Chunk]] | None:
        """The next batch, if it may leave right after this one; else it is read later, when more has gathered."""
        more = self._source.queued > sum(chunk.events for chunk in chunks)
        if not more or self.isolation.active or self.budget.wait_s(self._settings.clock(), self._estimate()) > 0:
            return None
        if self._client.is_contended(endpoint.url):  # it would be kept in memory while others have their turns
            return None
        return asyncio.create_task(self._source.read(chunks[-1].seq, self._room(endpoint)))

    async def _post(self, endpoint: Endpoint, body: bytes) -> Outcome:
        sent_s = self._settings.wall_clock()
        answer = await self._patiently(endpoint, self._client.post(endpoint.url, body, self._headers()))
        if isinstance(answer, Reply):
            self._standing = "proven"
            endpoint.answered(self._settings.wall_clock() - sent_s)
        elif answer.hung:
            self._standing = "hung"
        if isinstance(answer, Reply) and is_own(answer):
            learned = skew_s(answer, sent_s, self._settings.wall_clock())
            endpoint.skew_s = endpoint.skew_s if learned is None else learned
        return judge(answer, datetime.now(UTC), secret=self._key.token)

    async def _patiently(self, endpoint: Endpoint, post: Awaitable[Reply | Failure]) -> Reply | Failure:
        """Wait for the answer; a stream that was never answered lets others have its connection if that takes long.

        How long that is, the answers to other streams say. A slow proxy that answers is no hanging one.
        """
        patience_s = endpoint.patience_s(self._settings.clock())
        if self._standing != "new" or patience_s is None:
            return await post
        asking = asyncio.ensure_future(post)
        try:
            await asyncio.wait((asking,), timeout=patience_s)
            if not asking.done() and self._client.is_contended(endpoint.url):
                why = f"no answer within {patience_s:.1f} s, while other streams wait to be sent"
                return Failure(why, hung=True, gave_way=True)
            return await asking
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait((asking,))

    async def _act(
        self, outcome: Outcome, endpoint: Endpoint, chunks: Sequence[Chunk], size: int, started_s: float
    ) -> bool:
        if isinstance(outcome, ProxyDown | Misrouted):
            self.way.failed(endpoint, outcome, started_s)
            return False
        self.way.worked(endpoint)  # it answered; if anything is wrong, it is with this lane, and no other may wait
        match outcome:
            case Delivered():
                self.budget.limiter.accepted(self._settings.clock())
                endpoint.body.fitted(size)
                self._too_large_in_a_row = 0
                await self._acknowledge(chunks[-1].seq)
                self.hold.recovered()
                self._linger(size, started_s)
                return True
            case DataFault(reason, status):
                self.budget.limiter.accepted(self._settings.clock())  # the proxy looks at the rate first
                if not await self._put_off(endpoint, chunks):
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
                self.budget.limiter.refused(self._settings.clock(), started_s, retry_after_s)
                await self._write_budget()
            case Busy(reason, retry_after_s):
                self.hold.failed(reason, "busy")
                self.hold.back_off("held", self._settings.backoff, at_least_s=retry_after_s or 0.0)
        return False

    async def _too_large(
        self, endpoint: Endpoint, reason: str, status: int, chunks: Sequence[Chunk], size: int
    ) -> None:
        """Send less at once; cuts a chunk that is too large by itself; buries an event that is."""
        if is_single(chunks):
            if not self.way.elsewhere(endpoint):
                await self.isolation.bury(reason, status, chunks[0])
                self._brake(reason)
            return
        endpoint.body.too_large(size, self._settings.clock())
        log.warning("body too large for the way to the proxy", stream=self.name, proxy=endpoint.url, bytes=size)
        if len(chunks) == 1:
            await self._source.split(chunks[0].seq, chunks[0].events // 2)

    async def _put_off(self, endpoint: Endpoint, chunks: Sequence[Chunk]) -> bool:
        """What the proxy refuses only since its clock is behind is no bad event, and waits until it will take it."""
        if endpoint.skew_s is None:
            return False
        proxy_ms = int((self._settings.wall_clock() + endpoint.skew_s - _CLOCK_PRECISION_S) * 1000)
        return await self._source.put_off(chunks[-1].seq, latest_ms(proxy_ms)) > 0

    def _brake(self, reason: str) -> None:
        """Something that takes no size at all is out of order: it shall not make dead letters of everything."""
        self._too_large_in_a_row += 1
        if self._too_large_in_a_row >= _TOO_LARGE_IN_A_ROW:
            self.hold.failed(reason, "too_large", logging.ERROR)
            self.hold.back_off("held", self._settings.slow_backoff)

    def _linger(self, size: int, started_s: float) -> None:
        """After a small batch: spends most of the time gathering the next one, not on sending ever so many."""
        if size < self._settings.max_body_bytes // 2 and not self.isolation.active:
            now_s = self._settings.clock()
            self._lingers_until_s = now_s + min(_LINGER_MAX_S, _LINGER_FACTOR * (now_s - started_s))


def token_digest(key: StreamKey) -> str:
    """Name a token where the token itself has no business."""
    return hashlib.sha256(key.token.encode()).hexdigest()


def _accepted(outcome: Outcome) -> bool | None:
    """Return whether the proxy has the batch; None: perhaps."""
    return True if isinstance(outcome, Delivered) else None if isinstance(outcome, ProxyDown) else False
