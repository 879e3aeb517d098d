"""Rows grow old by what boot clocks saw, whatever the wall clock says."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core.model import Books
from sidecar.queue.operations import Expire, Tidy
from sidecar.queue.steady import SteadyClock
from tests.support.queues import DirectQueue

_DAY_S, _YEAR_S = 86_400.0, 365 * 86_400.0
_NOW_S = 1_795_000_000.0


class Host:
    """A host with its clocks, and a file that outlives it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.boot_id, self.boot_s, self.wall_s = "first", 100.0, _NOW_S

    def pass_(self, seconds: float) -> None:
        self.boot_s += seconds
        self.wall_s += seconds

    def reboot(self, boot_id: str, wall_s: float) -> None:
        self.boot_id, self.boot_s, self.wall_s = boot_id, 10.0, wall_s

    @contextlib.contextmanager
    def runs(self) -> Iterator[DirectQueue]:
        queue = DirectQueue(self.path, steady=SteadyClock(lambda: self.boot_s, self.boot_id, lambda: self.wall_s))
        try:
            yield queue
        finally:
            queue.close()

    def accept(self, queue: DirectQueue, event: str) -> None:
        assert queue.append(event, at_ms=int(self.wall_s * 1000)) is None

    def expire(self, queue: DirectQueue, max_age_s: float) -> list[str]:
        """Drop what is older; what is left."""
        before_ms = queue.writer._steady.now_ms() - int(max_age_s * 1000)
        assert queue.do(Expire(before_ms)) is None
        return queue.waiting()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "queue.db")


def test_a_clock_that_is_set_makes_nothing_older(host: Host) -> None:
    host.wall_s = 30.0  # 1970
    with host.runs() as queue:
        host.accept(queue, "1")
        host.wall_s = _NOW_S
        host.pass_(60)
        host.accept(queue, "2")
        host.wall_s -= 10 * _YEAR_S
        assert host.expire(queue, 61) == ["1", "2"]
        host.pass_(2)
        assert host.expire(queue, 61) == ["2"]
        assert queue.stream().books == Books(accepted=2, queued=1, dropped=1)


def test_time_goes_on_across_a_restart_of_the_process_and_a_suspended_host(host: Host) -> None:
    with host.runs() as queue:
        host.accept(queue, "1")
    host.pass_(3 * _DAY_S)
    with host.runs() as queue:
        assert host.expire(queue, 3 * _DAY_S + 1) == ["1"]
        assert host.expire(queue, 3 * _DAY_S - 1) == []


@pytest.mark.parametrize("wall_s", [50.0, _NOW_S, _NOW_S + 20 * _YEAR_S])
def test_across_boots_only_what_clocks_saw_counts_whatever_time_the_host_starts_with(host: Host, wall_s: float) -> None:
    host.wall_s = 30.0
    with host.runs() as queue:
        host.accept(queue, "1")
    host.reboot("second", wall_s)
    with host.runs() as queue:
        host.accept(queue, "2")
        host.wall_s = _NOW_S + _YEAR_S
        assert host.expire(queue, 60) == ["1", "2"]
        host.pass_(3600)
        assert host.expire(queue, 3605) == ["1", "2"]
        assert host.expire(queue, 3599) == []


def test_another_host_that_has_been_up_for_long_takes_the_files_over(host: Host) -> None:
    with host.runs() as queue:
        host.accept(queue, "1")
    host.boot_id, host.boot_s = "other host", 500 * _DAY_S
    with host.runs() as queue:
        assert host.expire(queue, 60) == ["1"]


def test_a_host_that_does_not_name_its_boots_counts_only_while_the_sidecar_runs(host: Host) -> None:
    host.boot_id = ""
    for _ in range(5):
        with host.runs() as queue:
            host.accept(queue, "1")
        host.pass_(_DAY_S)
    with host.runs() as queue:
        assert host.expire(queue, 60) == ["1"] * 5


def test_how_far_the_clock_is_goes_to_disk_with_what_is_committed(host: Host) -> None:
    with host.runs() as queue:
        host.accept(queue, "1")
        host.pass_(_DAY_S)
        host.accept(queue, "2")
    host.reboot("second", 0.0)
    with host.runs() as queue:
        assert host.expire(queue, _DAY_S - 1) == ["2"]


def test_rows_of_older_versions_grow_old_by_the_time_they_have(host: Host) -> None:
    with host.runs() as queue:
        host.accept(queue, "old")
        host.pass_(_DAY_S)
        host.accept(queue, "young")
    with sqlite3.connect(host.path) as connection:
        connection.execute("UPDATE chunk SET steady_ms = NULL")
        connection.execute("DELETE FROM clock")
    connection.close()
    with host.runs() as queue:
        assert host.expire(queue, _DAY_S - 1) == ["young"]


def test_kept_deliveries_grow_old_by_the_steady_clock_too(host: Host) -> None:
    def kept() -> list[bytes]:
        with contextlib.closing(sqlite3.connect(host.path)) as connection:
            return [
                body
                for (body,) in connection.execute("SELECT CAST(substr(body, 1, bytes) AS BLOB) FROM kept ORDER BY id")
            ]

    with host.runs() as queue:
        for event in ("1", "2"):
            host.accept(queue, event)
            queue.acknowledge(1 << 30, keep=True, now_ms=int(host.wall_s * 1000))
            host.wall_s += _YEAR_S
            host.pass_(100)
        before_ms = queue.writer._steady.now_ms() - 150_000
        assert queue.do(Tidy(before_ms, 0, 10**9, 0)) is None
        assert kept() == [b"2"]
