"""All tails of the configuration, from their start to their stop: joins their threads to the event loop."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, Protocol

import structlog

from sidecar.config import Tail
from sidecar.core.errors import Rejected, Unavailable
from sidecar.core.model import Advance, Block, Checkpoint, Done, Kind
from sidecar.host.clock import boot_clock, boot_id
from sidecar.inputs.tail.counts import TailCounts
from sidecar.inputs.tail.messages import BlockResult, ReadBlock, TailCommand
from sidecar.inputs.tail.reading import ReadingRules
from sidecar.inputs.tail.status import show_files, show_tail, tail_status
from sidecar.inputs.tail.tracker import HostBoot
from sidecar.inputs.tail.watcher import Watcher
from sidecar.inputs.tail.worker import Worker
from sidecar.parsing import EventBuilder
from sidecar.status.document import InputStatus
from sidecar.status.tails import ShownFile, ShownTail

_IN_MEMORY_BYTES = 32_000_000
"""Limit the events of all tails that are on their way to the disk: above that, nothing more is read."""
_SAVE_S = 60.0
_STOP_S = 5.0
_COMMAND_S = 30.0
_BEGIN_S = 10.0
log = structlog.get_logger("inputs.tail")


class TailIntake(Protocol):
    """Says what tails need of the intake."""

    def append_tail(
        self,
        name: str,
        kind: Kind,
        blocks: Sequence[Block],
        size: int,
        advance: Advance,
        done: Done,
        dead: Sequence[tuple[bytes, str]] = (),
    ) -> None:
        """Append events of a file. Raises Unavailable or Rejected."""


class CheckpointStore(Protocol):
    """Says what tails need of the queue beside that."""

    async def load(self, tail: str) -> tuple[int, list[Checkpoint]] | None:
        """Return when it first ran, and how far its files are committed; None if it never did."""

    async def save(self, tail: str, started_ms: int, advances: Sequence[Advance], forget: Sequence[int]) -> None:
        """Put checkpoints on disk. Raises Stale or Unavailable."""


class Tails:
    """Join the tails to the event loop. `host` is what this host is called; `skew_ms`: the proxy's clock is ahead by.

    `expect` raises Unavailable while no events of a tail can be made. `leaves_in_s`: the seconds until a request of a
    stream may leave, from any thread. A tail's builder turns its lines into events.
    """

    def __init__(
        self,
        intake: TailIntake,
        checkpoints: CheckpointStore,
        *,
        host: str,
        skew_ms: Callable[[], int],
        expect: Callable[[str], None] = lambda _: None,
        leaves_in_s: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self._leaves_in_s = leaves_in_s
        self._intake, self._checkpoints = intake, checkpoints
        self._host, self._skew_ms, self._expect = host, skew_ms, expect
        self._loop = asyncio.get_running_loop()
        self._watcher = Watcher()
        # All by the name of the tail, and written on the event loop only. Counts outlive a reload.
        self._workers: dict[str, Worker] = {}
        self._settings: dict[str, Tail] = {}  # of those that run
        self._counts: dict[str, TailCounts] = {}  # of all that ever ran
        self._in_memory = 0  # bytes of events on their way to the disk; under `_lock`
        self._stopped = False  # no reload starts a tail any more
        self._lock = threading.Lock()

    def status(self) -> list[InputStatus]:
        """Return how each tail stands, and what it has counted."""
        return [tail_status(worker, self._settings[name].stream) for name, worker in self._workers.items()]

    async def start(self, tails: Mapping[str, Tail], builders: Mapping[str, EventBuilder]) -> None:
        """Follow the files of `tails`: what comes after this is read from its beginning, if it can be seen in time.

        Raises sqlite3.Error if the queue cannot be read.
        """
        known = await self._load(tails)
        begun = {name: asyncio.Event() for name in tails}
        for name, settings in tails.items():
            rules = ReadingRules(
                builder=builders[name],
                encoding=settings.encoding,
                max_line=settings.max_line,
                host=self._host,
                skew_ms=self._skew_ms,
                expect=partial(self._expect, name),
            )
            self._settings[name] = settings
            self._workers[name] = worker = Worker(
                name,
                settings,
                known[name],
                rules=rules,
                queue=_TailCommitPort(self, name, settings.stream, builders[name].kind),
                watcher=self._watcher,
                counts=self._counts.setdefault(name, TailCounts(name)),
                may_read=self._may_read,
                leaves_in_s=partial(self._leaves_in_s, settings.stream),
                boot=HostBoot(boot_id(), boot_clock),
                begun=partial(self.run, begun[name].set),
            )
            worker.start()
        await self._wait_for(begun)

    async def _load(self, tails: Mapping[str, Tail]) -> dict[str, tuple[int, list[Checkpoint]] | None]:
        return {name: await self._checkpoints.load(name) for name in tails}

    async def stop(self) -> None:
        """Read nothing more; what was handed over is still committed. May be called twice."""
        self._stopped = True
        await self._end(list(self._workers))
        await asyncio.to_thread(self._watcher.stop)

    async def reload(self, tails: Mapping[str, Tail], builders: Mapping[str, EventBuilder]) -> None:
        """Let `tails` count from now on: each goes on where it was."""
        await self._load(tails)  # if that fails, all goes on as it was
        await self._end(list(self._workers))
        if not self._stopped:
            await self.start(tails, builders)

    def shown(self) -> list[ShownTail]:
        """Return how the tails stand."""
        return [show_tail(worker, self._settings[name].stream) for name, worker in self._workers.items()]

    def files(self) -> list[ShownFile]:
        """Return every file of every tail."""
        now_s, now_ms = time.monotonic(), int(time.time() * 1000)
        return [file for worker in self._workers.values() for file in show_files(worker, now_s, now_ms)]

    async def command(self, name: str, action: Literal["reset", "skip"], path: str | None) -> int:
        """Read files of a tail anew (`reset`), or not what is there now (`skip`); how many.

        Raises Rejected (404), or Unavailable.
        """
        worker = self._workers.get(name)
        if worker is None:
            raise Rejected(404, f"no tail is called {name[:80]}; there are: {', '.join(self._workers) or 'none'}")
        future: asyncio.Future[int] = self._loop.create_future()

        def done(count: int) -> None:
            self._loop.call_soon_threadsafe(_settle, future, count)

        worker.tell(TailCommand(action, path, done))
        try:
            moved = await asyncio.wait_for(future, _COMMAND_S)
        except TimeoutError:
            raise Unavailable("the tail is busy; try again", retry_after_s=1) from None
        if moved < 0:
            raise Unavailable("it could not be put on disk; see the log", retry_after_s=1)
        if path is not None and not moved:
            raise Rejected(404, f"no file at {path[:200]} is followed, or it cannot be read; see `sidecar tails`")
        return moved

    async def _wait_for(self, begun: Mapping[str, asyncio.Event]) -> None:
        waiting = {asyncio.create_task(event.wait(), name=name) for name, event in begun.items()}
        if not waiting:
            return
        try:
            _, late = await asyncio.wait(waiting, timeout=_BEGIN_S)
        finally:
            for task in waiting:
                task.cancel()
        for task in late:
            log.warning(
                "initial scan not finished after 10 s; files created before it ends are treated as pre-existing",
                tail=task.get_name(),
            )

    async def _end(self, names: Sequence[str]) -> None:
        workers = [self._workers.pop(name) for name in names]
        for worker in workers:
            worker.stop()
        ended = await asyncio.gather(*(asyncio.to_thread(worker.join, _STOP_S) for worker in workers))
        for worker in (worker for worker, done in zip(workers, ended, strict=True) if not done):
            log.warning("tail did not stop: its file system does not answer", tail=worker.name)

    def _may_read(self) -> bool:
        return self._in_memory < _IN_MEMORY_BYTES

    def reserve(self, size: int) -> None:
        """Count so many bytes more (or less) that are on their way to the disk; from any thread."""
        with self._lock:
            self._in_memory += size

    def run(self, act: Callable[[], None]) -> None:
        """Run `act` on the event loop; from any thread."""
        self._loop.call_soon_threadsafe(act)

    def submit(
        self, stream: str, kind: Kind, blocks: Sequence[ReadBlock], settled: Callable[[BlockResult], None]
    ) -> None:
        """Hand blocks to the intake; on the event loop."""

        def done(block: ReadBlock, error: Exception | None) -> None:
            self.reserve(-block.size)
            settled(BlockResult(block, error))

        for block in blocks:
            try:
                self._intake.append_tail(
                    stream, kind, block.blocks, block.size, block.advance, partial(done, block), block.dead
                )
            except (Unavailable, Rejected) as error:
                done(block, error)

    def save(self, name: str, started_ms: int, advances: Sequence[Advance], forget: Sequence[int]) -> None:
        """Save checkpoints, from another thread, and wait for it. Raises Stale, Unavailable or TimeoutError."""
        saving = self._checkpoints.save(name, started_ms, advances, forget)
        asyncio.run_coroutine_threadsafe(saving, self._loop).result(_SAVE_S)


def _settle(future: asyncio.Future[int], count: int) -> None:
    if not future.done():
        future.set_result(count)


class _TailCommitPort:
    """Shows the thread of one tail what it needs of the rest."""

    def __init__(self, tails: Tails, name: str, stream: str, kind: Kind) -> None:
        self._tails, self._name, self._stream, self._kind = tails, name, stream, kind

    def submit(self, blocks: Sequence[ReadBlock], settled: Callable[[BlockResult], None]) -> None:
        self._tails.reserve(sum([block.size for block in blocks]))
        self._tails.run(partial(self._tails.submit, self._stream, self._kind, blocks, settled))

    def save(self, started_ms: int, advances: Sequence[Advance], forget: Sequence[int]) -> None:
        self._tails.save(self._name, started_ms, advances, forget)
