"""Joins queue and forward: a forwarder and a job for each lane, woken when something of it was committed."""

import asyncio
import random
import socket
import time
from collections.abc import Collection, Iterable

import msgspec
import structlog

from sidecar.config import Config, client_certificate_expires_s, tls_context
from sidecar.core.hops import Hops
from sidecar.core.model import Chunk, StreamKey
from sidecar.core.units import Rate
from sidecar.forward import (
    Allowance,
    Backoff,
    Budget,
    ByteLimiter,
    BytesSnapshot,
    Causes,
    Client,
    Endpoint,
    Endpoints,
    Forwarder,
    Limiter,
    Settings,
    Snapshot,
    is_alive,
    token_digest,
)
from sidecar.host import log
from sidecar.host.clock import boot_clock, boot_id, wall_ms
from sidecar.host.scheduler import Schedule
from sidecar.intake import Router
from sidecar.queue import (
    Acknowledge,
    Bury,
    ForgetBudgets,
    PutOff,
    Queue,
    QueueLane,
    QueueStream,
    SetAside,
    SpendBudget,
    Split,
)
from sidecar.report import clean_again

_PROXY_BACKOFF = Backoff(first_s=0.5, cap_s=30.0)
_STREAM_BACKOFF = Backoff(first_s=0.5, cap_s=60.0)
_SLOW_BACKOFF = Backoff(first_s=4.0, cap_s=120.0)
_PATIENCE_S = 5.0
_PROBE_JOB, _PROBE_EVERY_S = "probe", 2.0
_USUAL_RATE = Rate(1000, 60.0)
_LESS_URGENT_SHARE = 0.25
"""Of the rate, for each of the lanes that hold what was sent before: it may not crowd out what is new."""
_SKEW_OF_NOTE_S = 2.0
_SURELY_SECRET = 16
"""Characters of a passed-through token that is masked in logs; a shorter one may be a word, sent to black out lines."""
logger = structlog.get_logger("forward")


class Forwarders:
    """All forwarders, by the queue's lanes."""

    def __init__(self, config: Config, router: Router, queue: Queue, schedule: Schedule, hops: Hops) -> None:
        self.by_lane: dict[QueueLane, Forwarder] = {}
        self._router, self._queue, self._schedule, self._hops = router, queue, schedule, hops
        self._tokens: dict[str, Budget] = {}
        self._data_ids: dict[int, ByteLimiter] = {}
        self._unacknowledged: dict[QueueLane, int] = {}  # across a reload
        self._remembered: dict[str, tuple[str, bytes]] = {}
        self._written: dict[str, bytes] = {}
        self._reloading = False
        self._causes = Causes(boot_clock)
        self._set_up(config)

    def _set_up(self, config: Config) -> None:
        self._config = config
        self.endpoints = self._make_endpoints(config.proxy.urls)
        self._targets: dict[str, Endpoints] = {}
        self._client = Client(
            timeout_s=config.proxy.timeout,
            tls=lambda: tls_context(config.proxy),
            connections=config.proxy.connections,
            via=config.proxy.via,
            certificate_expires_s=lambda: client_certificate_expires_s(config.proxy),
        )
        self._settings = Settings(
            max_body_bytes=config.proxy.max_body,
            byte_rate=config.proxy.bytes_per_data_id,
            clean_again=clean_again,
            backoff=_STREAM_BACKOFF,
            slow_backoff=_SLOW_BACKOFF,
            clock=boot_clock,
            wall_clock=time.time,
            random=random.random,
            causes=self._causes,
        )

    async def start(self) -> None:
        """Take up what the queue holds from before."""
        self._remembered = await self._queue.budgets()
        self._schedule.add_answering(_PROBE_JOB, self._probe)
        self._queue.on_commit = self.committed
        self._take_up_what_waits()

    async def reload(self, config: Config) -> bool:
        """End the requests under way, and go on with `config` and nothing on hold. False: they would not end.

        What the tokens have spent still counts.
        """
        self._reloading = True
        try:
            self.stop()
            if not await self._schedule.drain(self._client.deadline_s + _PATIENCE_S):
                return False
            for lane, forwarder in self.by_lane.items():
                self._schedule.remove(_job(lane))
                forwarder.end()
                if forwarder.delivered_through is not None:
                    self._unacknowledged[lane] = forwarder.delivered_through
            self.by_lane.clear()
            await self._client.close()
            self._keep_budgets(config)
            self._set_up(config)
            return True
        finally:
            self._reloading = False
            for forwarder in self.by_lane.values():
                forwarder.go_on()
            self._take_up_what_waits()

    def _keep_budgets(self, config: Config) -> None:
        """Go on with what was spent: of the rates, which are made anew, and of the bytes."""
        boot = boot_id()
        for digest, budget in self._tokens.items():
            self._remembered[digest] = (boot, msgspec.json.encode(budget.limiter.snapshot()))
        self._tokens.clear()
        for byte_limiter in self._data_ids.values():
            byte_limiter.change(_bytes_per_s(config), boot_clock())

    def _take_up_what_waits(self) -> None:
        self.committed(lane for stream in self._queue.streams() for lane in _sending_lanes(stream) if lane.events)

    def committed(self, lanes: Iterable[QueueLane]) -> None:
        """Something waits in `lanes`. A forwarder that knows its next attempt is left alone until then."""
        for lane in lanes if not self._reloading else ():
            forwarder = self.by_lane.get(lane) or self._add(lane)
            if forwarder.next_attempt_s is None:
                self._schedule.wake(_job(lane))

    def is_idle(self, stream: QueueStream) -> bool:
        """Return True if no request of `stream` is on its way, nor about to be."""
        return not any(self._schedule.is_running(_job(lane)) for lane in stream.lanes)

    async def forget(self, streams: Collection[QueueStream]) -> None:
        """Let go of everything that was kept for streams which are gone, and of the budgets that nobody else uses."""
        for stream in streams:
            for lane in stream.lanes:
                self._unacknowledged.pop(lane, None)
                forwarder = self.by_lane.pop(lane, None)
                if forwarder is not None:
                    forwarder.end()
                    self._schedule.remove(_job(lane))
        left = [self._router.sent_as(stream.key) for stream in self._queue.streams()]
        tokens, data_ids = {key.token for key in left}, {key.data_id for key in left}
        names = []
        for key in {stream.key for stream in streams}:
            if key.token not in tokens:
                log.unmask(key.token)
                names.append(token_digest(key))
                self._tokens.pop(names[-1], None)
            if key.data_id not in data_ids:
                names.append(_data_id(key.data_id))
                self._data_ids.pop(key.data_id, None)
        for name in names:
            self._remembered.pop(name, None)
            self._written.pop(name, None)
        await self._queue.commit(ForgetBudgets(names))

    def retry(self, stream: QueueStream) -> None:
        """Try `stream` at once, whatever it waits for; only the rate still counts."""
        for lane in _sending_lanes(stream):
            forwarder = self.by_lane.get(lane)
            if forwarder is not None:
                forwarder.retry()
                self._schedule.wake(_job(lane))

    @property
    def skew_s(self) -> float:
        """Return by how much the clock of the proxies in use is ahead of ours; of several, the one furthest behind.

        What is hardly noticeable counts as nothing.
        """
        known = [each.skew_s for each in self.endpoints.all if each.skew_s is not None and each.state == "up"]
        skew_s = min(known, default=0.0)
        return skew_s if abs(skew_s) >= _SKEW_OF_NOTE_S else 0.0

    def stop(self) -> None:
        """Let every forwarder end after its present request."""
        for forwarder in self.by_lane.values():
            forwarder.stop()
        self._client.dismiss()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _make_endpoints(self, urls: Iterable[str]) -> Endpoints:
        return Endpoints(
            tuple(urls),
            self._config.proxy.choose,
            host=socket.gethostname(),
            backoff=_PROXY_BACKOFF,
            patience_s=_PATIENCE_S,
            random=random.random,
            max_body_bytes=self._config.proxy.max_body,
            return_after_s=self._config.proxy.return_after,
            on_down=self._went_down,
        )

    def _went_down(self, url: str) -> None:
        self._client.dismiss(url)
        self._schedule.wake(_PROBE_JOB)

    def _endpoints_of(self, lane: QueueLane) -> Endpoints:
        if not lane.target:
            return self.endpoints
        if lane.target not in self._targets:
            self._targets[lane.target] = self._make_endpoints([lane.target])
        return self._targets[lane.target]

    def _add(self, lane: QueueLane) -> Forwarder:
        stream = lane.stream
        key = self._router.sent_as(stream.key)
        if len(key.token) >= _SURELY_SECRET:
            log.mask([key.token])
        forwarder = Forwarder(
            key,
            lane.name,
            self._router.name(stream.key),
            _LaneSource(
                self._queue,
                lane,
                (token_digest(key), _data_id(key.data_id)),
                keep=self._config.queue.keep_delivered > 0 and lane.name != "replay",
                written=self._written,
            ),
            client=self._client,
            endpoints=lambda: self._endpoints_of(lane),
            budget=self._budget(lane, key),
            settings=self._settings,
            wake_all=self._schedule.wake_all,
            headers=lambda: self._hops.header(stream.key, boot_clock()),
        )
        forwarder.delivered_through = self._unacknowledged.pop(lane, None)
        self.by_lane[lane] = forwarder
        self._schedule.add_answering(_job(lane), forwarder.run)
        return forwarder

    def _budget(self, lane: QueueLane, key: StreamKey) -> Budget:
        """Return a limiter for each token, since the rate is the token's, with one for the bytes of each data_id."""
        rate, byte_rate = self._config.proxy.rate, self._config.proxy.bytes_per_data_id
        digest = token_digest(key)
        budget = self._tokens.get(digest)
        if budget is None:
            limiter = Limiter(rate, random=random.random)
            if digest in self._remembered:
                state, same_boot = self._remember(digest)
                limiter.restore(msgspec.json.decode(state, type=Snapshot), boot_clock(), same_boot=same_boot)
            search, refusals = _isolation(rate or _USUAL_RATE, self._config.proxy.isolation)
            byte_limiter = self._byte_limiter(key.data_id)
            budget = Budget(limiter=limiter, byte_limiter=byte_limiter, search=search, refusals=refusals)
            self._tokens[digest] = budget
        budget = msgspec.structs.replace(budget, byte_limiter=self._byte_limiter(key.data_id), lane=lane.id)
        if lane.name not in ("retry", "replay"):
            return budget
        if rate is not None:
            share = Allowance(int(rate.count * _LESS_URGENT_SHARE), rate.window_s)
            budget = msgspec.structs.replace(budget, share=share)
        if byte_rate is not None:
            part = ByteLimiter(byte_rate.bytes_per_s * _LESS_URGENT_SHARE)
            budget = msgspec.structs.replace(budget, byte_share=part)
        return budget

    def _byte_limiter(self, data_id: int) -> ByteLimiter:
        limiter = self._data_ids.get(data_id)
        if limiter is None:
            limiter = self._data_ids[data_id] = ByteLimiter(_bytes_per_s(self._config))
            if _data_id(data_id) in self._remembered:
                state, same_boot = self._remember(_data_id(data_id))
                known = msgspec.json.decode(state, type=BytesSnapshot)
                limiter.restore(known, boot_clock(), same_boot=same_boot)
        return limiter

    def _remember(self, name: str) -> tuple[bytes, bool]:
        """Return what was known of a budget, and whether it was written in this boot."""
        boot, state = self._remembered[name]
        return state, bool(boot) and boot == boot_id()

    async def _probe(self) -> float | None:
        """Look whether proxies that are down have come back, while others do their work."""
        await asyncio.gather(*(self._probe_one(endpoint) for endpoint in self.endpoints.to_probe(boot_clock())))
        return _PROBE_EVERY_S if self.endpoints.any_to_watch else None

    async def _probe_one(self, endpoint: Endpoint) -> None:
        alive = is_alive(await self._client.probe(endpoint.url))
        if self.endpoints.probed(endpoint, alive, boot_clock()):
            logger.info("proxy has been well for a while, and is used again", proxy=endpoint.url)


class _LaneSource:
    """A queue's lane, as the forwarder wants it. `names`: of the budgets of its token and its data_id.

    `written`: what is on disk of each budget, by its name.
    """

    def __init__(
        self, queue: Queue, lane: QueueLane, names: tuple[str, str], *, keep: bool, written: dict[str, bytes]
    ) -> None:
        self._queue, self._lane, self._names = queue, lane, names
        self._keep, self._written = keep, written
        self._boot_id = boot_id()

    @property
    def queued(self) -> int:
        return self._lane.events

    @property
    def queued_bytes(self) -> int:
        return self._lane.bytes

    async def read(self, after_seq: int, budget_bytes: int) -> list[Chunk]:
        return await self._queue.read(self._lane, after_seq, budget_bytes)

    async def acknowledge(self, through_seq: int) -> None:
        await self._queue.commit(Acknowledge(self._lane, through_seq, wall_ms(), self._keep))

    async def split(self, seq: int, events: int) -> None:
        await self._queue.commit(Split(self._lane, seq, events))

    async def bury(self, seq: int, *, reason: str, status: int, attempts: int, first_ms: int) -> None:
        await self._queue.commit(Bury(self._lane, seq, reason, status, attempts, first_ms, wall_ms()))

    async def set_aside(self, through_seq: int) -> None:
        await self._queue.commit(SetAside(self._lane, through_seq))

    async def put_off(self, through_seq: int, latest_ms: int) -> int:
        return await self._queue.commit(PutOff(self._lane, through_seq, latest_ms))

    async def spend(self, token: bytes, data_id: bytes) -> None:
        states = dict(zip(self._names, (token, data_id), strict=True))
        changed = {name: state for name, state in states.items() if self._written.get(name) != state}
        if self._queue.broken:  # what cannot be acknowledged is not sent: first a commit has to succeed
            changed = states
        if changed:
            await self._queue.commit(SpendBudget(changed, self._boot_id))
            self._written.update(changed)


def _bytes_per_s(config: Config) -> float | None:
    return config.proxy.bytes_per_data_id.bytes_per_s if config.proxy.bytes_per_data_id else None


def _data_id(number: int) -> str:
    """Return the name of a data_id's budget; a token's is its digest."""
    return f"data_id {number}"


def _isolation(rate: Rate, share: float) -> tuple[Allowance, Allowance]:
    """Split `share` of the rate: three quarters for the search, the rest evenly spaced for fresh batches beside it."""
    total = max(2, int(rate.count * share))
    search = max(1, total * 3 // 4)
    return Allowance(search, rate.window_s), Allowance(1, rate.window_s / (total - search))


def _sending_lanes(stream: QueueStream) -> Iterable[QueueLane]:
    return (lane for lane in stream.lanes if lane.name != "later")


def _job(lane: QueueLane) -> str:
    return f"forward-{lane.id}"
