"""The parts of the running sidecar without their sockets: a real queue, and a client that answers from a script."""

import asyncio
from pathlib import Path

import pytest

from sidecar.config import Config, Proxy
from sidecar.config.model import DataId, Secret, Stream, Url
from sidecar.core.hops import Hops
from sidecar.core.model import Block, StreamKey
from sidecar.host.scheduler import Schedule
from sidecar.host.systemd import Notifier
from sidecar.intake import Router
from sidecar.queue import Queue, QueueStream, books_on_disk
from sidecar.service import proxies
from sidecar.service.forwarders import Forwarders
from sidecar.service.maintenance import Maintenance
from tests.support.fakes import FakeClient
from tests.support.queues import ENOUGH

CONFIGURED = StreamKey(7, "new", "event")
HOPS = "0" * 16


class ServiceParts:
    """`client` is what the forwarders post with, if `script` was called before."""

    def __init__(self, directory: Path, **changes: object) -> None:
        stream = Stream(data_id=DataId(7), access_token=Secret("new"), kind="event")
        settings = {"proxy": Proxy(urls=(Url("http://127.0.0.1:1"),)), "streams": {"app": stream}}
        self.config = Config(state=directory, **(settings | changes))  # type: ignore[arg-type]
        self.path = directory / "queue.db"
        self.client = FakeClient()

    def script(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the forwarders post to the script of `client`."""
        monkeypatch.setattr(proxies, "Client", lambda **_: self.client)

    async def __aenter__(self) -> "ServiceParts":
        self.queue = Queue(self.path, durability="full", chunk_bytes=1000, capacity=ENOUGH)
        self.queue.open()
        self.router = Router(self.config)
        self.schedule = Schedule()
        self.schedule.start()
        self.forwarders = Forwarders(self.config, self.router, self.queue, self.schedule, Hops(HOPS))
        self.maintenance = Maintenance(self.config, self.router, self.queue, self.forwarders, Notifier({}))
        self.gone: list[QueueStream] = []
        self.maintenance.on_forgotten = self.gone.extend
        self.queue.stream(CONFIGURED, configured=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.forwarders.stop()
        await self.schedule.drain(5)
        self.schedule.stop()
        await self.queue.close(5)
        books, wrong = books_on_disk(self.path)
        assert books.balanced
        assert wrong == []

    async def accept(self, key: StreamKey, events: int = 1, *, due_ms: int | None = None) -> QueueStream:
        """Append so many events, and wait until they are committed."""
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        stream = self.queue.stream(key)
        block = Block(b"1" + b",1" * (events - 1), events, due_ms)
        self.queue.append(stream, [block], 2 * events, 1000, done.set_result)
        assert await done is None
        return stream

    async def wait_delivered(self, events: int) -> None:
        """Wait until so many events in all are delivered, and nothing of them is left."""
        async with asyncio.timeout(20):
            while self.queue.books().delivered < events:  # no other part of the queue tells
                await asyncio.sleep(0.01)
