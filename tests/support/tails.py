"""A tail's worker without its thread: its queue is in memory and fails on demand, its clock is moved by hand."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sidecar.config import Options, load_config
from sidecar.core.errors import Stale, Unavailable
from sidecar.core.model import Advance, Checkpoint, Loss
from sidecar.inputs.tail.counts import TailCounts
from sidecar.inputs.tail.event_builders import make_event_builder
from sidecar.inputs.tail.messages import BlockResult, ReadBlock, TailCommand
from sidecar.inputs.tail.reading import ReadingRules
from sidecar.inputs.tail.tracker import HostBoot
from sidecar.inputs.tail.watcher import Listener, Watcher
from sidecar.inputs.tail.worker import Worker
from tests.support.fakes import Clock


class TailQueue:
    """The queue's table of checkpoints, and its events, with the same comparing and setting as the real one.

    `mode`: `good`; `full` refuses at once; `broken` cannot commit; `torn` commits and says that it did not; `slow`
    keeps what is handed over until `release` is called.
    """

    def __init__(self) -> None:
        self.started_ms = 0
        self.rows: dict[int, Checkpoint] | None = None
        self.events: list[Any] = []
        self.dead: list[tuple[Any, str]] = []
        self.losses: list[Loss] = []
        self.mode = "good"
        self.commits = 0  # of events
        self.submitted: list[int] = []  # how many blocks were handed over together, each time
        self._kept: list[tuple[ReadBlock, Callable[[BlockResult], None]]] = []

    def submit(self, blocks: Sequence[ReadBlock], settled: Callable[[BlockResult], None]) -> None:
        self.submitted.append(len(blocks))
        for block in blocks:
            if self.mode == "slow":
                self._kept.append((block, settled))
            else:
                settled(BlockResult(block, self._take(block)))

    def release(self) -> None:
        kept, self._kept = self._kept, []
        for block, settled in kept:
            settled(BlockResult(block, self._take(block)))

    def take_first(self) -> ReadBlock:
        """The first block that is kept."""
        return self._kept[0][0]

    def fail(self, block: ReadBlock) -> None:
        """Of those that are kept, this one cannot be committed."""
        _, settled = self._kept.pop(next(number for number, (kept, _) in enumerate(self._kept) if kept is block))
        settled(BlockResult(block, Unavailable("no", retry_after_s=1)))

    def forget(self) -> None:
        """What was on its way is lost with the process."""
        self._kept.clear()

    def save(self, started_ms: int, advances: Sequence[Advance], forget: Sequence[int]) -> None:
        if self.mode in ("full", "broken", "torn"):
            if self.mode == "torn":
                self._advance_all(advances)
            raise Unavailable("storage: no", retry_after_s=1)
        self.started_ms = self.started_ms or started_ms
        self._advance_all(advances)
        for number in forget:
            (self.rows or {}).pop(number, None)

    def _take(self, block: ReadBlock) -> Exception | None:
        if self.mode in ("full", "broken"):
            return Unavailable("no", retry_after_s=1)
        try:
            self._advance_all([block.advance])
        except Stale as stale:
            return stale
        self.commits += 1
        for part in block.blocks:
            self.events += json.loads(b"[" + part.body + b"]")
        self.dead += [(json.loads(body), reason) for body, reason in block.dead]
        return Unavailable("torn", retry_after_s=1) if self.mode == "torn" else None

    def _advance_all(self, advances: Sequence[Advance]) -> None:
        rows = dict(self.rows or {})
        losses: list[Loss] = []
        for advance in advances:
            now = rows.get(advance.checkpoint.number)
            if (None if now is None else now.offset) != advance.before:
                raise Stale(now)
            rows[advance.checkpoint.number] = advance.checkpoint
            losses += advance.losses
        self.rows = rows
        self.losses += losses


class NoWatcher(Watcher):
    """Nothing is ever heard of; whoever tests says when to look."""

    def watch(self, directory: str, listener: Listener) -> str | None:
        return None

    def unwatch(self, directory: str, listener: Listener) -> None:
        return None


class Tailer:
    """A tail called `app`, as of `settings`, over the files in `directory`."""

    def __init__(self, directory: Path, watcher: Watcher | None = None, **settings: Any) -> None:
        self.queue = TailQueue()
        self.watcher = watcher or NoWatcher()
        self.clock = Clock()
        self.boot, self.booted_s = "first boot", 0.0
        self.leaves_in_s = 0.0
        self.directory = directory
        usual = {"start_at": "beginning", "partial_after": "0s"}  # a turn may be forty seconds
        document = {
            "proxy": {"urls": ["http://127.0.0.1:1"]},
            "streams": {"app": {"data_id": 1, "access_token": "t"}},
            "tails": {"app": {"paths": [f"{directory}/*.log"], "stream": "app", **usual, **settings}},
        }
        path = directory.parent / f"{directory.name}.yml"
        path.write_text(json.dumps(document))
        self.config = load_config(Options(config=path, state=directory), {"HOST_IP": "10.0.0.9"}).config
        self.worker = self._make()

    def turn(self, times: int = 1, pass_s: float = 40.0) -> None:
        """Lets time pass, and the worker do what there is to do."""
        for _ in range(times):
            self.clock.now_s += pass_s
            self.worker.turn()

    def do(self, step: str) -> None:
        """One step of a story that a property test makes up: `kill`, `turn`, or a mode of the queue."""
        if step == "kill":
            self.kill()
        elif step == "turn":
            self.turn(pass_s=2)  # so short that what is open does not wait in vain
            self.queue.release()
        else:
            self.queue.release()
            self.queue.mode = step

    def end_well(self) -> None:
        """Until all is read, whatever failed before."""
        self.queue.release()
        self.queue.mode = "good"
        self.settle()
        self.settle()

    def settle(self) -> None:
        """Until everything is read that can be read, and every grace has passed."""
        self.turn(6)

    def kill(self) -> None:
        """As kill -9: what is on its way is lost, and so is all that was remembered."""
        self.queue.forget()
        for file in self.worker.registry.files.values():
            file.close()
        self.worker = self._make()

    def cut_power(self) -> None:
        """End as in a power cut, and begin in another boot of the host."""
        self.boot, self.booted_s = f"{self.boot} again", time.time()
        self.kill()

    def contents(self) -> list[str]:
        return [event["event"]["content"] for event in self.queue.events]

    def command(self, action: Any, path: str | None = None) -> list[int]:
        moved: list[int] = []
        self.worker.tell(TailCommand(action, path, moved.append))
        self.turn(2)
        return moved

    def _make(self) -> Worker:
        settings = self.config.tails["app"]
        rules = ReadingRules(
            builder=make_event_builder(self.config, "app"),
            encoding=settings.encoding,
            max_line=settings.max_line,
            host="host",
            skew_ms=lambda: 0,
        )
        rows = None if self.queue.rows is None else (self.queue.started_ms, list(self.queue.rows.values()))
        return Worker(
            "app",
            settings,
            rows,
            rules=rules,
            queue=self.queue,
            watcher=self.watcher,
            counts=TailCounts("app"),
            may_read=lambda: True,
            leaves_in_s=lambda: self.leaves_in_s,
            clock=self.clock,
            boot=HostBoot(self.boot, lambda: time.time() - self.booted_s),
        )


def write(path: Path, text: str | bytes) -> None:
    """Appends, as a program that logs."""
    with path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
