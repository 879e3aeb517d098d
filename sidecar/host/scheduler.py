"""Runs the forward jobs and the maintenance jobs. The only module that knows APScheduler.

A forward job's own answer sets its next run: seconds, or None for "when woken". The schedule is the backoff, so a held
stream is a job whose next run lies in the future. A wake that comes while the job runs is remembered until it ends.

APScheduler keeps its times by the wall clock, which may be set by years in either direction. So its own triggers, which
list every run that a jump passed over, are not used; and after a jump every job is given a new time.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

_LOOK_AGAIN_S = 300
"""Seconds after which a job runs even if nobody wakes it. So a lost wake-up delays it by at most this time."""
_CLOCK_EVERY_S = 1.0
"""Seconds, on the event loop's own clock, between two looks at the wall clock."""
_CLOCK_JUMP_S = 1.0

T = TypeVar("T")
log = structlog.get_logger("schedule")


class _Every(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """A trigger that fires `seconds` after now, however long ago it fired last: a run that was missed is missed."""

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime:
        """Return the time of the next run; the last one may lie years ahead, or behind."""
        return now + self._interval


class _Executor(AsyncIOExecutor):  # type: ignore[misc]  # the library has no types
    """Runs jobs on the event loop; one that is cancelled by a stop, perhaps before it began, is no error."""

    def _run_job_error(self, job_id: str, exc: BaseException, traceback: object = None) -> None:
        if not isinstance(exc, asyncio.CancelledError):
            super()._run_job_error(job_id, exc, traceback)


class Schedule:
    """An AsyncIOScheduler with jobs that answer when they want to run next."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            executors={"default": _Executor()},
            # The default misfire_grace_time skips a run that begins more than one second late.
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._ended, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
        self._woken: dict[str, bool] = {}  # jobs that answer: whether a wake came while they ran
        self._due_s: dict[str, float] = {}  # when jobs with an interval are to run next, on the monotonic clock
        self._running: set[str] = set()  # names of jobs
        self._idle = asyncio.Event()
        self._idle.set()
        self._offset_s = 0.0  # of the wall clock from the monotonic one; a jump shows in it
        self._clock_watch: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start it; this needs the running loop."""
        self._scheduler.start()
        self._offset_s = time.time() - time.monotonic()
        self._watch_clock()

    def stop(self) -> None:
        """Start no job any more, and cancel those that run."""
        if self._clock_watch is not None:
            self._clock_watch.cancel()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def add_answering(self, name: str, job: Callable[[], Awaitable[float | None]]) -> None:
        """Add a job that runs when woken, and then when its own answer says."""

        async def run() -> float | None:
            self._woken[name] = False
            self._running.add(name)
            self._idle.clear()
            return await self._quietly(job)

        self._woken[name] = False
        # With next_run_time=None the job is paused: nothing runs before the first wake.
        self._scheduler.add_job(run, _Every(_LOOK_AGAIN_S), id=name, next_run_time=None)

    def add_every(self, name: str, seconds: float, job: Callable[[], Awaitable[None]]) -> None:
        """Add a job that runs every `seconds`."""

        async def run() -> None:
            self._due_s[name] = time.monotonic() + seconds
            await self._quietly(job)

        self._due_s[name] = time.monotonic() + seconds
        self._scheduler.add_job(run, _Every(seconds), id=name)

    def is_running(self, name: str) -> bool:
        """Return True if the answering job runs at the moment."""
        return name in self._running

    def remove(self, name: str) -> None:
        """Forget an answering job that does not run now."""
        del self._woken[name]
        self._scheduler.remove_job(name)

    def wake(self, name: str) -> None:
        """Run an answering job now, or once more after its present run."""
        if not self._woken[name]:
            self._woken[name] = True
            # APScheduler skips a run that is due while the job runs (max_instances=1); `_ended` makes up for it.
            if name not in self._running:
                self._run_in(name, 0.0)

    def wake_all(self) -> None:
        """Run every answering job now."""
        for name in self._woken:
            self.wake(name)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until no answering job runs, but not longer than `timeout_s`; whether that is so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        return not self._running

    async def _quietly(self, job: Callable[[], Awaitable[T]]) -> T | None:
        """Run `job`; None if it was stopped, which APScheduler would log as an error."""
        try:
            return await job()
        except asyncio.CancelledError:
            if self._scheduler.running:
                raise
            return None

    def _run_in(self, name: str, seconds: float) -> None:
        self._scheduler.modify_job(name, next_run_time=datetime.now(UTC) + timedelta(seconds=seconds))

    def _ended(self, event: JobExecutionEvent) -> None:
        """Only now may the job be started again: APScheduler counts it as running until this event."""
        if event.job_id not in self._running:
            return
        self._running.discard(event.job_id)
        if not self._running:
            self._idle.set()
        if not self._scheduler.running:
            return
        seconds = getattr(event, "retval", None)
        if seconds is not None:  # an answer weighs more than a wake from before it was given
            self._woken[event.job_id] = False
            self._run_in(event.job_id, seconds)
        elif self._woken[event.job_id]:
            self._run_in(event.job_id, 0.0)

    def _watch_clock(self) -> None:
        """Give every job a new time when the wall clock was set; else one due in a second might wait for hours."""
        offset_s = time.time() - time.monotonic()
        if abs(offset_s - self._offset_s) > _CLOCK_JUMP_S:
            log.info("wall clock was set", by_s=round(offset_s - self._offset_s, 1))
            self._offset_s = offset_s
            for name, due_s in self._due_s.items():
                self._run_in(name, max(0.0, due_s - time.monotonic()))
            # These have no due time here: each job runs once, and its answer sets the next time by the new clock.
            self.wake_all()
        self._clock_watch = asyncio.get_running_loop().call_later(_CLOCK_EVERY_S, self._watch_clock)
