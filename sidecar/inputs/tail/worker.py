"""Runs the thread of one tail: looks at files when something changed, reads a block of each in turn, submits it.

    woken by ─┬─ the watcher      a file was written to, or something came or went
              ├─ the queue        a block is committed, or could not be
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
from sidecar.inputs.tail import losses
from sidecar.inputs.tail.arrivals import Change
from sidecar.inputs.tail.commands import chosen, target
from sidecar.inputs.tail.counts import TailCounts
from sidecar.inputs.tail.end_of_file import EndOfFile
from sidecar.inputs.tail.messages import Action, BlockResult, CommitPort, ReadBlock, TailCommand
from sidecar.inputs.tail.reading import NothingRead, ReadingRules, read_block, read_less
from sidecar.inputs.tail.saver import Saver
from sidecar.inputs.tail.scan import IgnoredFiles
from sidecar.inputs.tail.tracked_file import Changed, TrackedFile
from sidecar.inputs.tail.tracker import HostBoot, Tracker
from sidecar.inputs.tail.watcher import WatchedDirectories, Watcher

_LOOK_EVERY_S = 30.0
_LOOK_PAUSE_S = 0.1
_LOOK_SHARE = 10
"""A look that was asked for begins at the earliest after so many times what the last one took."""
_POLL_S = 1.0
_GATHER_S, _GATHER_MOST_S = 0.01, 0.1
"""Read together what is written within so long after something was read; the most while no request may leave.

A line costs little then: it is reading, committing and waking one another that costs."""
_COMMIT_S = 0.004
"""Read so long before the next request may leave, so that it is committed by then. If it is late, so is the request."""
_AHEAD = 4
"""Blocks of one file that may be on their way to the disk."""
_TOGETHER_BYTES = 256 * 1024
"""Submit what was read of several files together, up to this: each handing over wakes three threads."""
_RETRY_S = 1.0
_CROWDED_S = 0.02
_STARTING_S = 5.0
TOO_LARGE = 413
log = structlog.get_logger("inputs.tail")


class Worker:
    """Follows the files of the tail called `name`.

    `may_read`: whether there is room for another batch in memory. `leaves_in_s`: the seconds until a request with its
    events may leave. `begun` is called once it knows which files there
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
        boot: HostBoot,
        leaves_in_s: Callable[[], float] = lambda: 0.0,
        begun: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.counts = name, counts
        self.waiting: str | None = None  # why nothing is read at present; None: it is
        self.may_read = may_read
        self._leaves_in_s = leaves_in_s
        self._tracker = Tracker(name, settings, known, boot)
        self.registry = self._tracker.registry
        self._settings, self._rules, self._queue = settings, rules, queue
        self._clock, self._wall_clock = clock, wall_clock
        self._saver = Saver(queue, self.registry, counts)
        self._end_of_file = EndOfFile(settings, self._tracker, self._saver, self._look_again)
        self._is_start_saved = not self._tracker.is_first_look
        self._begun, self._has_begun = begun, False
        self._inbox: deque[BlockResult | TailCommand] = deque()  # filled by any thread
        self._written: set[str] = set()  # paths that were written to; filled by the watcher's thread
        self._structure = True  # something came, went or moved; set by the watcher's thread
        self._has_looked = False  # in the present turn
        self._wake = threading.Event()
        self._stopping = threading.Event()
        # Moments of `clock`: when to look though nothing is told, when the last look ended, and how long it took.
        self._next_look_s = self._looked_s = self._look_took_s = 0.0
        self._told_s: float | None = None  # since when what is written is gathered; None: nothing was told
        self._gathered_s = 0.0  # until when it is, as of the last look
        self._read_s = 0.0  # when something that was written was last read
        self._untold_s = 0.0  # when to look at the files of which nobody tells
        self._retry_s = 0.0  # nothing is read before
        self._watched = WatchedDirectories(name, watcher, self.changed, configured=settings.poll is None)
        self._commands: list[TailCommand] = []  # that wait until all in flight is committed
        self._blocks: list[ReadBlock] = []  # read and in flight, but not submitted yet
        self._blocks_bytes = 0  # of all of them
        self._thread = threading.Thread(target=self._run, name=f"tail-{name}", daemon=True)

    @property
    def polling(self) -> str | None:
        """Return why changes are not heard of; None: they are."""
        return self._watched.polling

    @property
    def ignored(self) -> IgnoredFiles:
        """Return what matches the patterns and is not followed."""
        return self._tracker.ignored

    def start(self) -> None:
        """Start the thread; may be called once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; what it handed over is still committed."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end. Returns whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def tell(self, message: BlockResult | TailCommand) -> None:
        """Leave a message for the thread; from any thread."""
        self._inbox.append(message)
        self._wake.set()

    def changed(self, path: str, change: Change) -> None:
        """Note that something happened at `path`; from the watcher's thread."""
        self._tracker.short_lived.arrivals.tell(path, change)
        if change is not Change.WRITTEN:
            self._structure = True
        elif path in self._written:
            return  # it will be read
        else:
            self._written.add(path)
            if self._told_s is not None:
                return  # the thread will wake by itself, when enough is gathered
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
        for file in list(self.registry.files.values()):
            file.close()
        self._watched.stop()

    def turn(self) -> None:
        """Do all there is to do now."""
        self._wake.clear()
        self._take_messages()
        now_s = self._clock()
        if self._written and (now_s >= self._look_due_s() or self._is_gathered(now_s)):
            self._told_s, self._read_s = None, now_s  # first: what is told from now on wakes the thread again
            while self._written:  # before the look, which may find that what was written to is gone
                self._structure |= self._tracker.written(self._written.pop())
        self._has_looked = now_s >= self._look_due_s()
        if self._has_looked:
            self._look(now_s)
        elif self._tracker.untold and now_s >= self._untold_s:
            self._untold_s = now_s + _POLL_S
            self._tracker.look_at_untold(now_s, self._now_ms())
        if now_s >= self._retry_s:
            self.waiting = None
            try:
                self._work(now_s)
            except (Unavailable, TimeoutError) as error:
                self._pause(error)

    def _is_gathered(self, now_s: float) -> bool:
        """Return True if what was written is to be read now; it gathers while nothing could leave anyway."""
        self._told_s = now_s if self._told_s is None else self._told_s
        # Looked at again each time: what was read last may just have left, and taken the next request with it.
        leaves_s = now_s + self._leaves_in_s() - _COMMIT_S
        self._gathered_s = max(self._read_s + _GATHER_S, min(leaves_s, self._told_s + _GATHER_MOST_S))
        return now_s >= self._gathered_s

    def _work(self, now_s: float) -> None:
        if not self._is_start_saved:
            self._saver.save_start(self._now_ms())
            self._is_start_saved = True
        if not self._has_begun:
            self._has_begun = True
            self._begun()
        self._saver.save_unsaved()
        self._run_commands()
        if self.registry.active:
            self._rules.expect()
        self._read_all()
        if self._end_of_file.housekeep(now_s):
            self._wake.set()  # what waited for a file that is finished now can be read

    def _pause(self, error: Exception) -> None:
        self.waiting = str(error)
        self._retry_s = self._clock() + _RETRY_S

    def _pause_s(self) -> float:
        """Return how long to wait if nobody wakes the thread."""
        now_s = self._clock()
        due_s = [self._look_due_s(), self._end_of_file.due_s(now_s)]
        if self._written:
            due_s.append(self._gathered_s)
        if self._tracker.untold:
            due_s.append(self._untold_s)
        if self._retry_s > now_s:
            due_s.append(self._retry_s)
        elif self.registry.active or self._commands:
            due_s.append(now_s + _RETRY_S)
        return min(due_s) - now_s

    def _look_due_s(self) -> float:
        if not self._structure:
            return self._next_look_s
        return min(self._next_look_s, self._looked_s + max(_LOOK_PAUSE_S, _LOOK_SHARE * self._look_took_s))

    def _look(self, now_s: float) -> None:
        self._structure = False
        self._tracker.look(now_s, self._now_ms(), blind=self.polling is not None)
        self._watched.update(self._tracker.directories)
        self._looked_s = self._clock()
        self._look_took_s = self._looked_s - now_s
        self._next_look_s = self._looked_s + (self._settings.poll or (_POLL_S if self.polling else _LOOK_EVERY_S))

    def _take_messages(self) -> None:
        while self._inbox:
            message = self._inbox.popleft()
            if isinstance(message, BlockResult):
                self._settle(message.block, message.error)
            else:
                self._commands.append(message)

    def _settle(self, block: ReadBlock, error: Exception | None) -> None:
        """Note what became of a block; when one has failed and none is in flight any more, read again from the disk."""
        file = block.file
        file.settle(block.advance, error, had_events=bool(block.events), now_ms=self._now_ms())
        if error is None:
            self.counts.committed(block)
        if file.position.failed is not None and not file.in_flight:
            self._read_again(file, file.position.failed)
        elif file.quiet_since_s is None and file.number in self.registry.files:
            self.registry.activate(file)

    def _read_again(self, file: TrackedFile, error: Exception) -> None:
        """Go on from what is on disk, after something could not be put there."""
        file.rewind(error.checkpoint if isinstance(error, Stale) else None)
        if isinstance(error, Rejected) and error.why.status == TOO_LARGE:
            read_less(file, self._rules)
        elif not isinstance(error, Stale):
            self._pause(error)
        self.registry.activate(file)

    def _read_all(self) -> None:
        """A block of each file in turn, as long as there is something to read, and room for it."""
        progress = True
        while progress and not self._stopping.is_set():
            progress = False
            try:
                for file in list(self.registry.active.values()):
                    if self.waiting:
                        return
                    if not self.may_read():
                        self._retry_s = self._clock() + _CROWDED_S
                        return
                    progress |= self._read_one(file)
                    if self._blocks_bytes >= _TOGETHER_BYTES:
                        self._submit()
            finally:
                self._submit()
            if self._inbox:
                self._take_messages()
            self._saver.save_unsaved()

    def _read_one(self, file: TrackedFile) -> bool:
        """Read one block of a file. Returns True if something was read, so that there may be more."""
        if (
            file.is_finished
            or file.position.failed is not None
            or file.in_flight >= _AHEAD
            or self._tracker.is_behind(file)
            or self._may_be_another(file)
        ):
            return False
        now_s, now_ms = self._clock(), self._now_ms()
        file.use(now_s)
        try:
            file.open()
            if file.observed.shrunk_from and not file.reached.offset:
                raise Changed
            if file.reached.finished and file.is_compressed:  # what was left out, or read, does not grow
                self.registry.deactivate(file)
                file.drain()
                return True
            kind = self._tracker.newcomers.first_read(file, now_ms)
            if kind != "original":
                return kind == "copy"
            block = read_block(file, self._rules, now_ms, self._end_of_file.is_complete(file, now_s))
        except Changed:
            return self._end_of_file.changed(file, now_s, now_ms)
        except (OSError, EOFError) as error:
            self._end_of_file.failed(file, error, now_ms)
            return False
        except Exception as error:  # one file that nobody thought of must not keep the others from being read
            self._end_of_file.fail_unexpected(file, error)
            return False
        file.recover()
        if file.reached.boot != self.registry.boot:
            file.confirm_boot(self.registry.boot)
            self.registry.mark_unsaved(file)
        if isinstance(block, NothingRead):
            if not self._end_of_file.reached(file, block, now_s, now_ms):
                return False
            self.registry.deactivate(file)
            return file.is_drained or file.is_finished  # so that what waits for it goes on
        self._blocks.append(block)
        self._blocks_bytes += block.size
        return True

    def _submit(self) -> None:
        blocks, self._blocks, self._blocks_bytes = self._blocks, [], 0
        if blocks:
            self._queue.submit(blocks, self.tell)

    def _may_be_another(self, file: TrackedFile) -> bool:
        """Return True if what is in an empty file now may not be the first that was in it: the next look shows that."""
        return self._structure and not self._has_looked and not file.reached.offset

    def _run_commands(self) -> None:
        for command in list(self._commands):
            files = chosen(self.registry.files.values(), command.action, command.path)
            if any(file.in_flight for file in files):
                continue  # when all is on disk
            self._commands.remove(command)
            try:
                command.done(self._move(files, command.action))
            except (Stale, Unavailable) as error:
                log.error("reset or skip of files failed", tail=self.name, error=str(error))
                command.done(-1)

    def _move(self, files: Sequence[TrackedFile], action: Action) -> int:
        """Read files anew, or not what is there of them now. Returns how many. Raises what `Saver.save` does."""
        moved, there = [], []
        for file in files:
            try:
                goal = target(file, action, self._settings)
            except (OSError, EOFError, Changed) as error:
                why = str(error) or "it is not where it was"
                log.warning("reset or skip of a file failed", tail=self.name, path=file.at, reason=why)
                self._look_again()
                continue
            if action == "skip" and goal != file.committed:
                file.add_loss(losses.skipped(file, goal, self._now_ms()))
            there.append(goal)
            moved.append(file)
        self._saver.save(moved, there)
        for file in moved:
            file.rewind()
            self.registry.activate(file)
        return len(moved)

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)
