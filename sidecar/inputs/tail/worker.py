"""The thread of one tail: looks at files when something changed, reads a block of each in turn, hands it over.

    woken by ─┬─ the watcher      a file was written to, or something came or went
              ├─ the queue        a batch is on disk, or could not be put there
              └─ its own clock    the slow look, a line that waits for its end, a queue that was full

Nothing here remembers what was read: the position in the file is the only state, and it moves with the events. What
could not be put on disk is read again.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from sidecar.config import Tail
from sidecar.core.errors import Rejected, Stale, Unavailable
from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.commands import chosen
from sidecar.inputs.tail.counts import TailCounts
from sidecar.inputs.tail.end_of_file import EndOfFile
from sidecar.inputs.tail.messages import Batch, CommitPort, Landed, TailCommand
from sidecar.inputs.tail.open_file import SUFFIXES
from sidecar.inputs.tail.reading import NothingRead, ReadingRules, read_batch, read_less
from sidecar.inputs.tail.tracked_file import Changed, TailedFile
from sidecar.inputs.tail.tracker import Tracker
from sidecar.inputs.tail.watcher import Watcher
from sidecar.inputs.tail.watching import Watching

_LOOK_EVERY_S = 30.0
_LOOK_PAUSE_S = 0.1
_LOOK_SHARE = 10
"""A look that was asked for begins at the earliest after so many times what the last one took."""
_POLL_S = 1.0
_AHEAD = 4
"""Batches of one file that may be on their way to the disk."""
_RETRY_S = 1.0
_CROWDED_S = 0.02
_STARTING_S = 5.0
TOO_LARGE = 413
log = structlog.get_logger("inputs.tail")


class Worker:
    """Follows the files of the tail called `name`.

    `may_read`: whether there is room for another batch in memory. `begun` is called once it knows which files there
    are, and has put on disk which of them were there before its first run.
    """

    def __init__(
        self,
        name: str,
        settings: Tail,
        known: tuple[int, Sequence[Checkpoint]] | None,
        *,
        rules: ReadingRules,
        queue: CommitPort,
        watcher: Watcher,
        counts: TailCounts,
        may_read: Callable[[], bool],
        begun: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.counts = name, counts
        self.following = Tracker(name, settings, known)
        self.register = self.following.register
        self.waiting: str | None = None
        self._settings, self._rules, self._queue = settings, rules, queue
        self.may_read, self._clock, self._wall_clock = may_read, clock, wall_clock
        self._ending = EndOfFile(settings, self.following, queue, counts, self._look_again)
        self._started = not self.following.first
        self._begun, self._has_begun = begun, False
        self._inbox: deque[Landed | TailCommand] = deque()
        self._written: set[str] = set()
        self._structure = True
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._next_look_s = self._looked_s = self._look_took_s = 0.0
        self._retry_s = 0.0
        self._watching = Watching(name, watcher, self.changed, configured=settings.poll is None)
        self._commands: list[TailCommand] = []
        self._thread = threading.Thread(target=self._run, name=f"tail-{name}", daemon=True)

    @property
    def polling(self) -> str | None:
        """Return why changes are not heard of."""
        return self._watching.polling

    def start(self) -> None:
        """May be called once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; what it handed over is still committed."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Return whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def tell(self, message: Landed | TailCommand) -> None:
        """From any thread."""
        self._inbox.append(message)
        self._wake.set()

    def changed(self, path: str, written: bool) -> None:
        """From the watcher's thread."""
        if written:
            self._written.add(path)
        else:
            self._structure = True
        self._wake.set()

    def _look_again(self) -> None:
        self._structure = True

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._wake.wait(max(0.0, self._pause_s()))
                self.turn()
            except Exception as error:  # a thread must not die silently, and the next look may be luckier
                log.exception("unexpected error in tail, rescanning", tail=self.name, error=str(error))
                self._stopping.wait(_STARTING_S)
                self._structure = True
        for file in list(self.register.files.values()):
            file.close()
        self._watching.stop()

    def turn(self) -> None:
        """Does all there is to do now."""
        self._wake.clear()
        self._take_messages()
        now_s = self._clock()
        while self._written:  # before the look, which may find that what was written to is gone
            self.register.touched(self._written.pop())
        if now_s >= self._look_due_s():
            self._look(now_s)
        if now_s >= self._retry_s:
            self.waiting = None
            try:
                self._work(now_s)
            except (Unavailable, TimeoutError) as error:
                self._pause(error)

    def _work(self, now_s: float) -> None:
        if not self._started:
            self._ending.save_start(self._now_ms())
            self._started = True
        if not self._has_begun:
            self._has_begun = True
            self._begun()
        self._ending.save_unsaved()
        self._run_commands()
        if self.register.active:
            self._rules.expect()
        self._read_all()
        if self._ending.tend(now_s):
            self._wake.set()  # what waited for a file that is finished now can be read

    def _pause(self, error: Exception) -> None:
        self.waiting = str(error)
        self._retry_s = self._clock() + _RETRY_S

    def _pause_s(self) -> float:
        """Until something is to be done without being woken."""
        now_s = self._clock()
        due_s = [self._look_due_s(), self._ending.due_s(now_s)]
        if self._retry_s > now_s:
            due_s.append(self._retry_s)
        elif self.register.active or self._commands:
            due_s.append(now_s + _RETRY_S)
        return min(due_s) - now_s

    def _look_due_s(self) -> float:
        if not self._structure:
            return self._next_look_s
        return min(self._next_look_s, self._looked_s + max(_LOOK_PAUSE_S, _LOOK_SHARE * self._look_took_s))

    def _look(self, now_s: float) -> None:
        self._structure = False
        self.following.look(now_s, self._now_ms())
        self._watching.update(self.following.directories)
        self.following.blind = self.polling is not None
        self._looked_s = self._clock()
        self._look_took_s = self._looked_s - now_s
        self._next_look_s = self._looked_s + (self._settings.poll or (_POLL_S if self.polling else _LOOK_EVERY_S))

    def _take_messages(self) -> None:
        while self._inbox:
            message = self._inbox.popleft()
            if isinstance(message, Landed):
                self._landed(message.batch, message.error)
            else:
                self._commands.append(message)

    def _landed(self, batch: Batch, error: Exception | None) -> None:
        file = batch.file
        file.in_flight -= 1
        if error is None:
            file.committed, file.saved = batch.advance.checkpoint, True
            file.last_event_ms = self._now_ms() if batch.events else file.last_event_ms
            self.counts.landed(batch)
        elif file.failed is None or not isinstance(error, Stale):
            file.failed = error
        if file.failed is not None and not file.in_flight:
            self._again(file, file.failed)
        elif file.number in self.register.files:
            self.register.active[file.number] = file

    def _again(self, file: TailedFile, error: Exception) -> None:
        """Something could not be put on disk: goes on from what is there."""
        file.rewind(error.checkpoint if isinstance(error, Stale) else None)
        if isinstance(error, Rejected) and error.why.status == TOO_LARGE:
            read_less(file, self._rules)
        elif not isinstance(error, Stale):
            self._pause(error)
        self.register.active[file.number] = file

    def _read_all(self) -> None:
        """A block of each file in turn, as long as there is something to read, and room for it."""
        progress = True
        while progress and not self._stopping.is_set():
            progress = False
            for file in list(self.register.active.values()):
                if self.waiting:
                    return
                if not self.may_read():
                    self._retry_s = self._clock() + _CROWDED_S
                    return
                progress |= self._read_one(file)
            if self._inbox:
                self._take_messages()
            self._ending.save_unsaved()

    def _read_one(self, file: TailedFile) -> bool:
        """Return whether something was read of it, so that there may be more."""
        if file.ended or file.failed is not None or file.in_flight >= _AHEAD or self.register.is_behind(file):
            return False
        now_s, now_ms = self._clock(), self._now_ms()
        file.used_s = now_s
        try:
            file.open()
            if file.shrunk_from and not file.reached.offset:
                raise Changed
            if file.reached.finished and file.at.endswith(SUFFIXES):
                self.register.active.pop(file.number, None)  # what was left out, or read, does not grow
                file.drained = True
                return True
            match self.register.copied(file, now_ms):
                case "perhaps":
                    return False
                case "yes":
                    self.register.leave_out(file)
                    return True
            batch = read_batch(file, self._rules, now_ms, self._ending.final(file, now_s))
        except Changed:
            return self._ending.changed(file, now_s, now_ms)
        except (OSError, EOFError) as error:
            self._ending.failed(file, error, now_ms)
            return False
        except Exception as error:  # one file that nobody thought of must not keep the others from being read
            self._ending.puzzled(file, error)
            return False
        file.why, file.unreadable = None, False
        if isinstance(batch, NothingRead):
            if not self._ending.at_end(file, batch, now_s, now_ms):
                return False
            self.register.active.pop(file.number, None)
            return file.drained or file.ended  # so that what waits for it goes on
        file.held_since_s = file.quiet_since_s = None
        file.drained = False
        file.in_flight += 1
        self._queue.hand_over(batch, self.tell)
        return True

    def _run_commands(self) -> None:
        for command in list(self._commands):
            files = chosen(self.register.files.values(), command.action, command.path)
            if any(file.in_flight for file in files):
                continue  # when all is on disk
            self._commands.remove(command)
            try:
                command.done(self._ending.move(files, command.action, self._now_ms()))
            except (Stale, Unavailable) as error:
                log.error("reset or skip of files failed", tail=self.name, error=str(error))
                command.done(-1)

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)
