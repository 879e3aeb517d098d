"""Jobs that answer when they want to run next; wakes are neither lost nor doubled."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, tzinfo
from typing import Self

import pytest
from apscheduler.job import Job

from sidecar.host import scheduler as scheduler_module
from sidecar.host.scheduler import Schedule


def play(scenario: Callable[[Schedule], Awaitable[None]]) -> None:
    async def run() -> None:
        schedule = Schedule()
        schedule.start()
        try:
            await scenario(schedule)
        finally:
            schedule.stop()
            await asyncio.sleep(0)

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def test_a_job_runs_when_woken_and_again_when_its_answer_says() -> None:
    async def scenario(schedule: Schedule) -> None:
        runs: list[float] = []

        async def job() -> float | None:
            runs.append(time.monotonic())
            return 0.1 if len(runs) == 1 else None

        schedule.add_answering("job", job)
        await asyncio.sleep(0.05)
        assert runs == []
        schedule.wake("job")
        await until(lambda: len(runs) == 2)
        assert runs[1] - runs[0] >= 0.09
        await asyncio.sleep(0.15)
        assert len(runs) == 2

    play(scenario)


def test_a_wake_during_a_run_makes_one_more_run_and_never_two_at_once() -> None:
    async def scenario(schedule: Schedule) -> None:
        runs = inside = most = 0

        async def job() -> float | None:
            nonlocal runs, inside, most
            runs, inside = runs + 1, inside + 1
            most = max(most, inside)
            await asyncio.sleep(0.03)
            inside -= 1
            return None

        schedule.add_answering("job", job)
        schedule.wake("job")
        await until(lambda: inside == 1)
        for _ in range(20):
            schedule.wake("job")
        await until(lambda: runs == 2 and inside == 0)
        await asyncio.sleep(0.1)
        assert (runs, most) == (2, 1)

    play(scenario)


def test_many_wakes_are_never_lost() -> None:
    async def scenario(schedule: Schedule) -> None:
        made = taken = 0

        async def job() -> float | None:
            nonlocal taken
            taken = made
            await asyncio.sleep(0)
            return None

        schedule.add_answering("job", job)
        for n in range(500):
            made += 1
            schedule.wake("job")
            if n % 7 == 0:
                await asyncio.sleep(0)
        await until(lambda: taken == made)

    play(scenario)


def test_a_job_that_raises_can_be_woken_again() -> None:
    async def scenario(schedule: Schedule) -> None:
        runs = 0

        async def job() -> float | None:
            nonlocal runs
            runs += 1
            if runs == 1:
                raise RuntimeError("on purpose")
            return None

        schedule.add_answering("job", job)
        schedule.wake("job")
        await until(lambda: runs == 1)
        await asyncio.sleep(0.02)
        schedule.wake("job")
        await until(lambda: runs == 2)

    play(scenario)


def test_draining_waits_for_the_present_run_but_not_for_ever() -> None:
    async def scenario(schedule: Schedule) -> None:
        release, started = asyncio.Event(), asyncio.Event()

        async def job() -> float | None:
            started.set()
            await release.wait()
            return None

        schedule.add_answering("job", job)
        schedule.wake("job")
        await started.wait()
        before = time.monotonic()
        await schedule.drain(0.1)
        assert time.monotonic() - before >= 0.09
        asyncio.get_running_loop().call_later(0.02, release.set)
        await schedule.drain(5)
        assert release.is_set()

    play(scenario)


def test_a_job_every_so_often() -> None:
    async def scenario(schedule: Schedule) -> None:
        runs = 0

        async def job() -> None:
            nonlocal runs
            runs += 1

        schedule.add_every("often", 0.02, job)
        await until(lambda: runs >= 3)

    play(scenario)


def test_when_the_clock_is_set_held_jobs_look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "_CLOCK_EVERY_S", 0.02)

    async def scenario(schedule: Schedule) -> None:
        runs = 0

        async def job() -> float | None:
            nonlocal runs
            runs += 1
            return 3600.0

        schedule.add_answering("job", job)
        schedule.wake("job")
        await until(lambda: runs == 1)
        real = time.time
        monkeypatch.setattr(scheduler_module.time, "time", lambda: real() - 7200)  # type: ignore[attr-defined]
        await until(lambda: runs == 2)

    play(scenario)


def test_a_job_that_is_stopped_late_ends_without_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def slow() -> None:
        await asyncio.sleep(0.05)

    async def answering() -> float | None:
        await asyncio.sleep(0.05)
        return 0.0

    async def stop_in_the_middle() -> None:
        schedule = Schedule()
        schedule.start()
        schedule.add_answering("answering", answering)
        schedule.add_every("slow", 0.01, slow)
        schedule.wake("answering")
        await asyncio.sleep(0.03)
        schedule.stop()
        await asyncio.sleep(0.1)

    with caplog.at_level("ERROR"):
        asyncio.run(stop_in_the_middle())
    assert not caplog.records


def test_a_wake_is_heard_after_one_that_came_during_a_run_with_an_answer() -> None:
    runs: list[float] = []

    async def scenario(schedule: Schedule) -> None:
        async def job() -> float | None:
            runs.append(time.monotonic())
            await asyncio.sleep(0.02)
            return 60.0

        schedule.add_answering("job", job)
        schedule.wake("job")
        await asyncio.sleep(0.01)
        schedule.wake("job")  # while it runs; its answer, to come again in a minute, is younger
        await asyncio.sleep(0.05)
        assert len(runs) == 1
        schedule.wake("job")
        await asyncio.sleep(0.05)
        assert len(runs) == 2

    play(scenario)


@pytest.mark.parametrize("by_s", [3600.0, -3600.0])
def test_jobs_with_an_interval_go_on_when_the_clock_is_set_and_missed_runs_are_not_listed(
    by_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "_CLOCK_EVERY_S", 0.02)
    listed: list[int] = []
    get_run_times = Job._get_run_times

    def counted(job: Job, now: datetime) -> list[datetime]:
        found: list[datetime] = get_run_times(job, now)
        listed.append(len(found))
        return found

    monkeypatch.setattr(Job, "_get_run_times", counted)

    async def scenario(schedule: Schedule) -> None:
        runs = 0

        async def job() -> None:
            nonlocal runs
            runs += 1

        async def answering() -> float | None:
            return None

        schedule.add_answering("woken", answering)
        schedule.add_every("often", 0.05, job)
        await until(lambda: runs >= 1)
        set_clock(monkeypatch, by_s)
        before = runs
        await until(lambda: runs >= before + 5)

    play(scenario)
    assert max(listed) == 1


def test_a_clock_that_is_set_again_and_again_keeps_no_job_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "_CLOCK_EVERY_S", 0.01)

    async def scenario(schedule: Schedule) -> None:
        runs = 0

        async def job() -> None:
            nonlocal runs
            runs += 1

        schedule.add_every("seldom", 0.3, job)
        steps = 0
        real = time.time
        while not runs and steps < 200:
            steps += 1
            monkeypatch.setattr(scheduler_module.time, "time", lambda ahead_s=3600.0 * (steps % 2): real() + ahead_s)  # type: ignore[attr-defined]
            await asyncio.sleep(0.05)
        assert runs

    play(scenario)


def set_clock(monkeypatch: pytest.MonkeyPatch, by_s: float) -> None:
    """Let the wall clock be `by_s` seconds ahead, for the schedule and for APScheduler."""
    wall = time.time

    class Set(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(wall() + by_s, tz)

    monkeypatch.setattr(scheduler_module.time, "time", lambda: wall() + by_s)  # type: ignore[attr-defined]
    monkeypatch.setattr(scheduler_module, "datetime", Set)
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Set)
