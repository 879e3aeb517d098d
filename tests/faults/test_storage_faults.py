"""A disk that is full or fails, and a queue that is full: refused with 503, nothing acknowledged is lost."""

import os
import random
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import Proxy, Sidecar, wait_until
from tests.support.queues import damage_pages
from tests.support.reports import event, report


def limit_files(sidecar: Sidecar, size: int) -> None:
    """From now on the process cannot write a file beyond `size` bytes: write(2) fails with EFBIG."""
    resource.prlimit(sidecar.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_disk_that_takes_no_more(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("down")
    taken = [event() for _ in range(50)]
    for item in taken:
        assert sidecar.post(report(item)).status_code == 200
    limit_files(sidecar, 20_000)  # more than its log needs, less than its database
    for _ in range(5):
        answer = sidecar.post(report(event()))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["message"].startswith("storage: ")
    status = sidecar.status()
    assert status["state"] == "failing"
    assert status["reasons"][0].startswith("storage: ")
    assert status["books"]["accepted"] == 50
    assert sidecar.get("/readyz").status_code == 503
    assert sidecar.get("/readyz").json()["reasons"][0].startswith("storage: ")
    assert sidecar.get("/healthz").status_code == 200  # a restart would not mend the disk
    limit_files(sidecar, resource.RLIM_INFINITY)
    last = event()
    assert sidecar.post(report(last)).status_code == 200
    assert sidecar.get("/readyz").status_code == 200
    assert sidecar.text().count("commit failed: nothing is acknowledged until one succeeds") == 1
    sidecar.wait_for("commits succeed again")
    proxy.fault("none")
    sidecar.wait_empty()
    assert [item["dimension"]["id"] for item in proxy.items()] == [i["dimension"]["id"] for i in [*taken, last]]


def test_what_cannot_be_acknowledged_is_not_sent_again_and_again(proxy: Proxy, sidecar: Sidecar) -> None:
    """Without a rate there is no commit before a request; the acknowledgement must not be tried by sending."""
    proxy.fault("down")
    for _ in range(20):
        assert sidecar.post(report(event())).status_code == 200
    limit_files(sidecar, 20_000)
    proxy.fault("none")
    wait_until(lambda: sidecar.status()["state"] == "failing" or proxy.summary()["documents"], 20)
    time.sleep(3)
    assert sidecar.post(report(event())).status_code == 503
    assert proxy.summary()["documents"] <= 1
    limit_files(sidecar, resource.RLIM_INFINITY)
    sidecar.wait_empty()
    assert set(proxy.ids().values()) == {1}
    assert sidecar.books()["delivered"] == 20


def fill(sidecar: Sidecar) -> list[Any]:
    """Events of which one tenth would fill the queue; the answers."""
    return [sidecar.post(report(event(event={"content": os.urandom(40_000).hex()}))) for _ in range(60)]


@pytest.fixture
def small(tmp_path: Path, proxy: Proxy, request: pytest.FixtureRequest) -> Any:
    with Sidecar(tmp_path, proxy.url, {"queue": {"max_size": "1MB", "when_full": request.param}}) as sidecar:
        yield sidecar.start()


@pytest.mark.parametrize("small", ["refuse"], indirect=True)
def test_a_full_queue_refuses_and_says_when_to_come_again(proxy: Proxy, small: Sidecar) -> None:
    proxy.fault("down")
    answers = fill(small)
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 503
    assert (answers[-1].headers["retry-after"], answers[-1].json()["message"]) == ("30", "the queue is full")
    status = small.status()
    assert status["state"] == "failing"
    assert status["books"]["accepted"] == [answer.status_code for answer in answers].count(200)
    assert status["queue"]["bytes"] < 1_300_000
    assert status["inputs"][0]["rejected"] == [answer.status_code for answer in answers].count(503)
    assert small.get("/readyz").status_code == 503
    assert small.text().count('level=error logger=intake event="refusing reports" reason="the queue is full"') == 1
    proxy.fault("none")
    small.wait_empty()
    wait_until(lambda: small.get("/readyz").status_code == 200)
    assert small.post(report(event())).status_code == 200

    def settled() -> bool:
        small.post(report(event()))
        return 'level=info logger=intake event="accepting reports again"' in small.text()

    wait_until(settled, 20)
    assert small.text().count("logger=intake") == 2


@pytest.mark.parametrize("small", ["drop_oldest"], indirect=True)
def test_a_full_queue_may_drop_its_oldest_and_counts_what_it_lost(proxy: Proxy, small: Sidecar) -> None:
    proxy.fault("down")
    answers = fill(small)
    assert {answer.status_code for answer in answers} == {200}
    status = small.status()
    books = status["books"]
    assert books["accepted"] == 60
    assert books["dropped"] > 20
    assert books["balanced"]
    assert status["queue"]["bytes"] < 1_300_000
    assert small.stream()["dropped_by"] == {"max_size": books["dropped"]}
    proxy.fault("none")
    small.wait_empty()
    assert len(proxy.items()) == 60 - books["dropped"]


def test_what_is_too_old_is_dropped_and_counted(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault("down")
    with Sidecar(tmp_path, proxy.url, {"queue": {"max_age": "2s"}}) as sidecar:
        sidecar.start()
        sidecar.post(report(event()))
        sidecar.stop()
        time.sleep(1.5)
        sidecar.start()
        wait_until(lambda: sidecar.books()["dropped"] == 1, 10, "the maintenance jobs")
        sidecar.wait_for(
            'level=error logger=maintenance event="events dropped by the configured limits" reason=max_age events=1'
        )
        assert sidecar.books()["balanced"]
        assert sidecar.stream()["dropped_by"] == {"max_age": 1}


FAKE_DISK = '''
import os
from pathlib import Path

real = os.statvfs
said = Path(os.environ["TEST_DISK_FREE"])


def statvfs(path):
    """A disk of 10 GB with as much free space as the file says."""
    found = list(real(path))
    found[1], found[2], found[4] = 4096, 10_000_000_000 // 4096, int(said.read_text()) // 4096
    return os.statvfs_result(found)


os.statvfs = statvfs
'''


class Disk:
    """Tells a sidecar how much space there is left, whatever the real disk has."""

    def __init__(self, directory: Path) -> None:
        (directory / "site").mkdir()
        (directory / "site" / "sitecustomize.py").write_text(FAKE_DISK)
        self.file = directory / "free"
        self.env = {"PYTHONPATH": str(directory / "site"), "TEST_DISK_FREE": str(self.file)}
        self.set_free(5_000_000_000)

    def set_free(self, size: int) -> None:
        self.file.with_suffix(".new").write_text(str(size))
        self.file.with_suffix(".new").rename(self.file)


@pytest.mark.parametrize("policy", ["refuse", "drop_oldest"])
def test_some_of_the_disk_is_kept_free(tmp_path: Path, proxy: Proxy, policy: str) -> None:
    disk = Disk(tmp_path)
    with Sidecar(tmp_path, proxy.url, {"queue": {"when_full": policy}}, env=disk.env) as sidecar:
        sidecar.start()
        proxy.fault("down")
        for answer in fill(sidecar)[:30]:
            assert answer.status_code == 200
        assert sidecar.status()["queue"]["limit"] == "max_size"
        used = sidecar.status()["queue"]["bytes"]
        disk.set_free(267_000_000)  # a megabyte and a half short of 256 MiB
        wait_until(lambda: sidecar.status()["queue"]["limit"] == "min_free", 20, "a look at the disk")
        answers = [answer.status_code for answer in fill(sidecar)]
        status = sidecar.status()
        if policy == "refuse":
            assert set(answers) == {503}
            assert "the disk is nearly full" in status["reasons"][0]
            assert sidecar.get("/readyz").json()["reasons"] == ["the disk is nearly full"]
            assert status["queue"]["refused_by"] == {"the disk is nearly full": 60}
        else:
            assert set(answers) == {200}
            assert status["queue"]["bytes"] <= used
            assert sidecar.stream()["dropped_by"].keys() == {"min_free"}
        disk.set_free(5_000_000_000)
        wait_until(lambda: sidecar.status()["queue"]["limit"] == "max_size", 20, "a look at the disk")
        assert sidecar.post(report(event())).status_code == 200
        proxy.fault("none")
        sidecar.wait_empty()
        assert sidecar.books()["balanced"]


def test_it_is_said_when_the_queue_will_be_full(tmp_path: Path, proxy: Proxy) -> None:
    with Sidecar(tmp_path, proxy.url, {"queue": {"max_size": "200MB"}}) as sidecar:
        sidecar.start()
        proxy.fault("down")
        sidecar.status()
        until_s = time.monotonic() + 11
        while time.monotonic() < until_s:
            sidecar.post(report(event(event={"content": os.urandom(20_000).hex()})))
            time.sleep(0.02)
        queue = sidecar.status()["queue"]
        assert queue["fill_per_s"] > 100_000
        assert queue["full_in_s"] == pytest.approx(
            (queue["max_bytes"] - queue["bytes"]) / queue["fill_per_s"], rel=0.01
        )
        assert "the queue will be full in" in "\n".join(sidecar.status()["reasons"])


def test_kept_deliveries_give_way_to_events_that_wait(tmp_path: Path, proxy: Proxy) -> None:
    with Sidecar(tmp_path, proxy.url, {"queue": {"max_size": "4MB", "keep_delivered": "1h"}}) as sidecar:
        sidecar.start()
        for answer in fill(sidecar):
            assert answer.status_code == 200
        sidecar.wait_empty()
        proxy.fault("down")
        kept = sidecar.status()["queue"]["bytes"]
        assert kept > 2_000_000
        answers = [answer.status_code for answer in fill(sidecar)]
        assert answers.count(200) >= 30  # far more than was free
        assert sidecar.books()["dropped"] == 0


def test_a_row_whose_pages_lead_nowhere_holds_nothing_up(tmp_path: Path, proxy: Proxy) -> None:
    """The other events are delivered, before and after it, and new ones; its own count as dead."""
    bodies = [random.Random(number).randbytes(20_000).hex() for number in range(3)]
    proxy.fault("down")
    with Sidecar(tmp_path, proxy.url) as sidecar:
        sidecar.start()
        for body in bodies:
            assert sidecar.post(report(event(event={"content": body}))).status_code == 200
        assert sidecar.stop() == 0
        damage_pages(sidecar.state / "queue.db", "chunk", 1)
        sidecar.start()
        assert sidecar.post(report(event(event={"content": "new"}))).status_code == 200
        proxy.fault("none")
        wait_until(lambda: sidecar.books()["queued"] == 0)
        assert [item["event"]["content"] for item in proxy.items()] == [bodies[0], bodies[2], "new"]
        assert sidecar.books() == {
            "accepted": 4,
            "queued": 0,
            "delivered": 3,
            "dead": 1,
            "dropped": 0,
            "balanced": True,
        }
        (reason,) = sidecar.status()["reasons"]
        assert "1 events could not be read from the disk" in reason
