"""Sends one stream: reads what waits, posts it, and deletes it when the proxy has it. `run` is an APScheduler job.

    run ──> may I? (stop, hold, budget, a proxy) ──no──> "again in n seconds"
              │ yes
              read chunks ──none──> "when something is committed"
              │
              write down what the budget loses ──> post ──> outcome ──> delivered: acknowledge, and round again
                                                              └─ else: hold the stream or the proxy; the rows stay

While a batch is on its way the next one is read, if the queue holds more than one.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec
import structlog

from sidecar.errors import Unavailable
from sidecar.forward.backoff import Backoff
from sidecar.forward.batch import room_bytes, splice
from sidecar.forward.client import Client
from sidecar.forward.endpoints import Endpoint, Endpoints
from sidecar.forward.limiter import Limiter
from sidecar.forward.outcome import (
    Delivered,
    Misrouted,
    Outcome,
    Rejected,
    Retry,
    Throttled,
    TooLarge,
    Unauthorized,
    judge,
)
from sidecar.meter import Meter
from sidecar.model import Books, Chunk, StreamKey

_GO_LAST_S = 0.1
"""So much later than all others a stream tries a proxy again that failed it."""
_LINGER_FACTOR = 3.0
_LINGER_MAX_S = 0.02

State = Literal["idle", "sending", "held", "unauthorized", "rate_limited"]
log = structlog.get_logger("forward")


class Source(Protocol):
    """One stream of the queue, as the forwarder needs it. `acknowledge` and `spend` raise Unavailable."""

    @property
    def books(self) -> Books:
        """What waits."""

    async def read(self, after_seq: int, budget_bytes: int) -> list[Chunk]:
        """The next chunks that fit."""

    async def acknowledge(self, through_seq: int) -> None:
        """Forget them."""

    async def spend(self, token_digest: str, spent_until_s: float) -> None:
        """Write the budget down."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What all forwarders have in common. `clock` is in seconds and never jumps."""

    max_body_bytes: int
    min_body_bytes: int
    backoff: Backoff
    slow_backoff: Backoff
    clock: Callable[[], float]
    random: Callable[[], float]


class Forwarder:
    """The forwarding of one stream."""

    def __init__(
        self,
        key: StreamKey,
        name: str,
        source: Source,
        *,
        client: Client,
        endpoints: Endpoints,
        limiter: Limiter | None,
        settings: Settings,
        wake_all: Callable[[], None],
    ) -> None:
        self.name = name
        self.state: State = "idle"
        self.last_error: str | None = None
        self.requests = Meter()
        self.next_attempt_s: float | None = None
        self._key, self._source = key, source
        self._client, self._endpoints, self._limiter = client, endpoints, limiter
        self._settings, self._wake_all = settings, wake_all
        self._digest = token_digest(key)
        self._room = room_bytes(key, settings.max_body_bytes)
        self._failures = 0
        self._failing_since_s = 0.0
        self._held_until_s = self._lingers_until_s = float("-inf")
        self._failed_at: dict[str, float] = {}
        self._stopping = False

    def stop(self) -> None:
        """Ends `run` after the request that is under way."""
        self._stopping = True

    async def run(self) -> float | None:
        """Sends until nothing waits or nothing may be sent. Seconds until it wants to run again; None: on commit."""
        self.next_attempt_s = None
        try:
            wait_s = await self._send_all()
        except Unavailable as error:
            self._failed(error.message)
            wait_s = self._hold("held", self._settings.backoff)
        except Exception as error:  # a stream that fails in a way nobody foresaw must not stop the others
            log.exception("forwarding failed", stream=self.name)
            self._failed(f"{type(error).__name__}: {error}")
            wait_s = self._hold("held", self._settings.slow_backoff)
        self.next_attempt_s = None if wait_s is None else self._settings.clock() + wait_s
        return wait_s

    async def _send_all(self) -> float | None:
        sent_seq = -1
        ahead: Sequence[Chunk] | None = None
        while not self._stopping and (ahead or self._source.books.queued):
            wait_s = self._wait_s()
            if wait_s > 0:
                return wait_s
            chunks = ahead or await self._source.read(sent_seq, self._room)
            if not chunks:
                break
            self.state = "sending"
            delivered, ahead = await self._send(chunks)
            if delivered:
                sent_seq = chunks[-1].seq
        self.state = "idle"
        return None

    def _wait_s(self) -> float:
        """Seconds until something may be sent; 0: now."""
        now_s = self._settings.clock()
        if self._held_until_s > now_s:
            return self._held_until_s - now_s
        if self._lingers_until_s > now_s:
            return self._lingers_until_s - now_s
        if self._limiter and (wait_s := self._limiter.wait_s(now_s)) > 0:
            self.state = "rate_limited"
            return wait_s
        wait_s = self._endpoints.wait_s(now_s, self._failed_at)
        if wait_s > 0:
            self.state = "held"
        return wait_s

    async def _send(self, chunks: Sequence[Chunk]) -> tuple[bool, Sequence[Chunk] | None]:
        body = splice(self._key, chunks)
        if self._limiter:
            self._limiter.spend(self._settings.clock())
            await self._source.spend(self._digest, self._limiter.spent_until_s)
        # Last, since it may be the one attempt for all streams.
        endpoint = self._endpoints.pick(self._settings.clock(), self._failed_at)
        if endpoint is None:
            return False, None
        started_s = self._settings.clock()
        self.requests.count(started_s)
        more = self._source.books.queued > sum(chunk.events for chunk in chunks)
        reading = asyncio.create_task(self._source.read(chunks[-1].seq, self._room)) if more and self._fast() else None
        try:
            answer = await self._client.post(endpoint.url, body)
            outcome = judge(answer, datetime.now(UTC), secret=self._key.token)
            delivered = await self._act(outcome, endpoint, chunks, len(body), started_s)
            return delivered, await reading if reading and delivered else None
        finally:
            if reading and not reading.done():
                reading.cancel()

    def _fast(self) -> bool:
        """Whether the next batch may leave right after this one; if not, it had better be read later and be fuller."""
        return self._limiter is None or self._limiter.wait_s(self._settings.clock()) == 0

    async def _act(
        self, outcome: Outcome, endpoint: Endpoint, chunks: Sequence[Chunk], size: int, started_s: float
    ) -> bool:
        match outcome:
            case Delivered():
                self._proxy_worked(endpoint)
                await self._source.acknowledge(chunks[-1].seq)
                self._recovered()
                self._linger(size, started_s)
                return True
            case Retry(reason, proxy_down=True):
                if self._proxy_failed(endpoint, reason, started_s):
                    log.warning("proxy is down, events wait in the queue", proxy=endpoint.url, error=reason)
            case Misrouted(reason):
                if self._proxy_failed(endpoint, reason, started_s):
                    log.error("not a proxy's address, events wait", proxy=endpoint.url, error=reason)
            case Retry(reason):
                self._refused(endpoint, reason)
                self._hold("held", self._settings.backoff)
            case Throttled(reason, retry_after_s):
                self._refused(endpoint, reason)
                self._hold("rate_limited", self._settings.backoff, at_least_s=retry_after_s or 0.0)
            case TooLarge(reason):
                self._refused(endpoint, reason)
                self._shrink(size, chunks)
            case Unauthorized(reason):
                self._refused(endpoint, reason, logging.ERROR)
                self._hold("unauthorized", self._settings.slow_backoff)
            case Rejected(reason):
                self._refused(endpoint, reason, logging.ERROR)
                self._hold("held", self._settings.slow_backoff)
        return False

    def _linger(self, size: int, started_s: float) -> None:
        """After a small batch: spends most of the time gathering the next one, not on sending ever so many."""
        if size < self._settings.max_body_bytes // 2:
            now_s = self._settings.clock()
            self._lingers_until_s = now_s + min(_LINGER_MAX_S, _LINGER_FACTOR * (now_s - started_s))

    def _proxy_failed(self, endpoint: Endpoint, reason: str, started_s: float) -> bool:
        """Blames the proxy, and says whether that is new; or this stream alone, if others got through meanwhile."""
        now_s = self._settings.clock()
        failed_before_s = self._failed_at.get(endpoint.url, float("inf"))
        self._failed_at[endpoint.url] = now_s
        self._failed(reason)
        if failed_before_s < endpoint.worked_at_s:
            self._hold("held", self._settings.backoff)
            return False
        news = self._endpoints.failed(endpoint, reason, started_s=started_s, now_s=now_s)
        wait_s = self._endpoints.wait_s(now_s, self._failed_at)
        if wait_s > 0:
            self.state, self._held_until_s = "held", now_s + wait_s + _GO_LAST_S
        return news

    def _refused(self, endpoint: Endpoint, reason: str, level: int = logging.WARNING) -> None:
        """The proxy answered, and so it is up; it is this stream that has a problem, and no other may wait for it."""
        self._proxy_worked(endpoint)
        self._failed(reason, level)

    def _proxy_worked(self, endpoint: Endpoint) -> None:
        self._failed_at.pop(endpoint.url, None)
        if self._endpoints.worked(endpoint, self._settings.clock()):
            log.info("proxy is back", proxy=endpoint.url)
            self._wake_all()

    def _shrink(self, size: int, chunks: Sequence[Chunk]) -> None:
        """Sends half as much from now on; a single chunk that is too large can only be tried again, slowly."""
        if len(chunks) > 1:
            self._room = max(self._settings.min_body_bytes, size // 2)
            log.warning("body too large for the way to the proxy", stream=self.name, bytes=size, now_at_most=self._room)
        else:
            self._hold("held", self._settings.slow_backoff)

    def _hold(self, state: State, backoff: Backoff, *, at_least_s: float = 0.0) -> float:
        self.state = state
        wait_s = at_least_s + backoff.delay_s(self._failures, self._settings.random)
        self._held_until_s = self._settings.clock() + wait_s
        return wait_s

    def _failed(self, reason: str, level: int = logging.WARNING) -> None:
        """Counts a failure; the first of a row is logged, unless it is the proxy's, which is logged as such."""
        self.last_error = reason
        if not self._failures:
            self._failing_since_s = self._settings.clock()
            log.log(level, "not delivered, will be tried again", stream=self.name, error=self.last_error)
        self._failures += 1

    def _recovered(self) -> None:
        if self._failures:
            seconds = round(self._settings.clock() - self._failing_since_s, 1)
            log.info("delivering again", stream=self.name, failures=self._failures, after_s=seconds)
        self._failures, self.last_error = 0, None
        self._held_until_s = float("-inf")


def token_digest(key: StreamKey) -> str:
    """Names a token where the token itself has no business."""
    return hashlib.sha256(key.token.encode()).hexdigest()
