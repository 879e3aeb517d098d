"""Joins queue and forward: a forwarder and a job for each stream, woken when something of it was committed."""

import random
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from sidecar import log
from sidecar.clock import boot_clock, boot_id
from sidecar.config import Config
from sidecar.directory import Directory
from sidecar.forward import Client, Endpoints, Forwarder, Limiter, Settings, token_digest
from sidecar.forward.backoff import Backoff
from sidecar.model import Books, Chunk
from sidecar.queue import Queue, QueueStream
from sidecar.schedule import Schedule

_PROXY_BACKOFF = Backoff(first_s=0.5, cap_s=30.0)
_STREAM_BACKOFF = Backoff(first_s=0.5, cap_s=60.0)
_SLOW_BACKOFF = Backoff(first_s=4.0, cap_s=120.0)
_PROBE_EVERY_S = 5.0
_SURELY_SECRET = 16
"""Characters of a passed-through token that is masked in logs; a shorter one may be a word, sent to black out lines."""


class Dispatch:
    """All forwarders, by the queue's streams."""

    def __init__(self, config: Config, directory: Directory, queue: Queue, schedule: Schedule) -> None:
        self.forwarders: dict[QueueStream, Forwarder] = {}
        self.endpoints = Endpoints(
            config.proxy.urls,
            config.proxy.choose,
            host=socket.gethostname(),
            backoff=_PROXY_BACKOFF,
            patience_s=_PROBE_EVERY_S,
            random=random.random,
        )
        self._config, self._directory, self._queue, self._schedule = config, directory, queue, schedule
        tls = any(urlsplit(url).scheme == "https" for url in config.proxy.urls)
        self._client = Client(timeout_s=config.proxy.timeout, tls=tls)
        self._limiters: dict[str, Limiter] = {}
        self._budgets: dict[str, tuple[str, float]] = {}
        self._settings = Settings(
            max_body_bytes=config.proxy.max_body,
            min_body_bytes=max(1, config.proxy.max_body // 16),
            backoff=_STREAM_BACKOFF,
            slow_backoff=_SLOW_BACKOFF,
            clock=boot_clock,
            random=random.random,
        )

    async def start(self) -> None:
        """Takes up what the queue holds from before."""
        self._budgets = await self._queue.budgets()
        self._queue.on_commit = self.committed
        self.committed(stream for stream in self._queue.streams() if stream.books.queued)

    def committed(self, streams: Iterable[QueueStream]) -> None:
        """Something of `streams` waits. A forwarder that knows its next attempt is left alone until then."""
        for stream in streams:
            forwarder = self.forwarders.get(stream) or self._add(stream)
            if forwarder.next_attempt_s is None:
                self._schedule.wake(_job(stream))

    def stop(self) -> None:
        """Lets every forwarder end after its present request."""
        for forwarder in self.forwarders.values():
            forwarder.stop()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def _add(self, stream: QueueStream) -> Forwarder:
        key = self._directory.sent_as(stream.key)
        if len(key.token) >= _SURELY_SECRET:
            log.mask([key.token])
        forwarder = Forwarder(
            key,
            self._directory.names(each.key for each in self._queue.streams())[stream.key],
            _StreamSource(self._queue, stream, keep=self._config.queue.keep_delivered > 0),
            client=self._client,
            endpoints=self.endpoints,
            limiter=self._limiter(token_digest(key)),
            settings=self._settings,
            wake_all=self._schedule.wake_all,
        )
        self.forwarders[stream] = forwarder
        self._schedule.add_answering(_job(stream), forwarder.run)
        return forwarder

    def _limiter(self, digest: str) -> Limiter | None:
        """One for each token, since the rate is the token's."""
        if self._config.proxy.rate is None:
            return None
        limiter = self._limiters.get(digest)
        if limiter is None:
            limiter = self._limiters[digest] = Limiter(self._config.proxy.rate)
            if digest in self._budgets:
                boot, spent_until_s = self._budgets[digest]
                limiter.restore(spent_until_s if boot and boot == boot_id() else None, boot_clock())
        return limiter


class _StreamSource:
    """A queue's stream, as the forwarder wants it."""

    def __init__(self, queue: Queue, stream: QueueStream, *, keep: bool) -> None:
        self._queue, self._stream, self._keep = queue, stream, keep
        self._boot_id = boot_id()

    @property
    def books(self) -> Books:
        return self._stream.books

    async def read(self, after_seq: int, budget_bytes: int) -> list[Chunk]:
        return await self._queue.read(self._stream, after_seq, budget_bytes)

    async def acknowledge(self, through_seq: int) -> None:
        await self._queue.acknowledge(self._stream, through_seq, keep=self._keep)

    async def spend(self, token_digest: str, spent_until_s: float) -> None:
        await self._queue.spend(token_digest, self._boot_id, spent_until_s)


def _job(stream: QueueStream) -> str:
    return f"forward-{stream.id}"
