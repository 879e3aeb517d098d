"""What is done to the files of the queue under a running sidecar, and between two of its runs."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.filters import DeadFilter
from sidecar.queue import books_on_disk
from sidecar.queue.inspect import Lookup
from tests.support.process import Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, report


def accept(sidecar: Sidecar, count: int) -> list[str]:
    """Their ids."""
    events = [event() for _ in range(count)]
    for item in events:
        assert sidecar.post(report(item)).status_code == 200
    return [item["dimension"]["id"] for item in events]


def reasons(sidecar: Sidecar) -> str:
    return "\n".join(sidecar.status()["reasons"])


def test_a_damaged_row_holds_up_nothing_else(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("down")
    noise = random.Random(3).randbytes(3000).hex()
    first = accept(sidecar, 2)
    damaged = event(event={"content": noise})
    assert sidecar.post(report(damaged)).status_code == 200
    last = accept(sidecar, 2)
    assert sidecar.stop() == 0
    database = sidecar.state / "queue.db"
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        bodies = [body for (body,) in connection.execute("SELECT body FROM chunk ORDER BY id")]
    connection.close()
    (stored,) = [body for body in bodies if len(body) > 2500]
    whole = bytearray(database.read_bytes())
    whole[whole.index(stored[:100]) + 50] ^= 4
    database.write_bytes(whole)

    proxy.fault("none")
    sidecar.start()
    sidecar.wait_empty()
    new = accept(sidecar, 1)
    wait_until(lambda: set(new) <= set(proxy.ids()), what="what came after it")
    assert proxy.ids() == dict.fromkeys([*first, *last, *new], 1)
    sidecar.wait_empty()  # it has arrived a moment before it is acknowledged
    status = sidecar.status()
    assert status["state"] == "degraded"
    assert "1 events could not be read from the disk" in reasons(sidecar)
    assert status["books"] == {
        "accepted": 6, "queued": 0, "delivered": 5, "dead": 1, "dropped": 0, "balanced": True,
    }  # fmt: skip
    assert sidecar.text().count("unreadable on disk, set aside") == 1
    assert 'sidecar_stream_damaged{data_id="1500006",stream="app-events"} 1.0' in sidecar.get("/metrics").text
    listed = run_command("dead", "list", "--config", str(sidecar.config))
    assert "damaged: " in listed.stdout
    exported = run_command("dead", "export", "--config", str(sidecar.config))
    assert "damaged" in exported.stdout
    purged = run_command("dead", "purge", "--reason", "damaged", "--yes", "--config", str(sidecar.config))
    assert "1 dead letter dropped" in purged.stdout
    wait_until(lambda: sidecar.status()["state"] == "ok", what="no reason any more")


def remove(state: Path) -> None:
    (state / "queue.db").unlink()


def remove_all(state: Path) -> None:
    shutil.rmtree(state)


def rename_directory(state: Path) -> None:
    state.rename(state.with_name("elsewhere"))


def replace(state: Path) -> None:
    (state / "other").write_bytes((state / "queue.db").read_bytes())
    (state / "other").rename(state / "queue.db")


def remove_log(state: Path) -> None:
    (state / "queue.db-wal").unlink()


@pytest.mark.parametrize("attack", [remove, remove_all, rename_directory, replace, remove_log])
def test_nothing_is_acknowledged_into_a_file_without_a_name(
    proxy: Proxy, sidecar: Sidecar, attack: Callable[[Path], None]
) -> None:
    proxy.fault("down")
    before = accept(sidecar, 20)
    attack(sidecar.state)
    wait_until(lambda: sidecar.post(report(event())).status_code == 503, 10, "a refusal")
    refused = sidecar.post(report(event()))
    assert refused.json()["message"].startswith("storage: ")
    assert "while it is in use" in refused.json()["message"]
    status: Any = sidecar.get("/status").json()
    assert status["state"] == "failing"
    assert sidecar.get("/readyz").status_code == 503
    accepted = status["books"]["accepted"]
    assert accepted >= 20

    proxy.fault("none")
    wait_until(lambda: sidecar.get("/status").json()["books"]["queued"] == 0, what="what is open is delivered")
    assert set(before) <= set(proxy.ids())
    assert sidecar.post(report(event())).status_code == 503
    assert sidecar.stop() == 0
    assert sidecar.text().count("nothing more is accepted") == 1
    assert "Traceback" not in sidecar.text()


@pytest.mark.parametrize("attack", [remove, remove_all, rename_directory, replace])
def test_what_waits_in_a_file_without_a_name_is_saved_by_a_stop(
    tmp_path: Path, proxy: Proxy, sidecar: Sidecar, attack: Callable[[Path], None]
) -> None:
    proxy.fault("down")
    before = accept(sidecar, 20)
    attack(sidecar.state)
    wait_until(lambda: sidecar.post(report(event())).status_code == 503, 10, "a refusal")
    assert sidecar.stop() == 0
    saved = Path(sidecar.wait_for(r"events of the lost queue file are saved.*file=(\S+)")[1])
    assert saved.stat().st_mode & 0o777 == 0o600
    assert saved.name == ("queue-saved-1.db" if attack is replace else "queue.db")
    books, wrong = books_on_disk(saved)
    assert books.queued >= 20
    assert wrong == []
    saved.rename(sidecar.state / "queue.db")
    for left in ("queue.db-wal", "queue.db-shm"):
        (sidecar.state / left).unlink(missing_ok=True)

    proxy.fault("none")
    sidecar.start()
    sidecar.wait_empty()
    assert set(before) <= set(proxy.ids())


def test_a_file_that_comes_back_is_used_again(proxy: Proxy, sidecar: Sidecar) -> None:
    accept(sidecar, 1)
    sidecar.state.rename(sidecar.state.with_name("elsewhere"))
    wait_until(lambda: sidecar.post(report(event())).status_code == 503, 10, "a refusal")
    sidecar.state.with_name("elsewhere").rename(sidecar.state)
    wait_until(lambda: sidecar.post(report(event())).status_code == 200, 10, "it is taken again")
    sidecar.wait_for("queue file is back")
    wait_until(lambda: sidecar.status()["state"] == "ok")


def lose_log(state: Path, _: Path) -> None:
    (state / "queue.db-wal").unlink()


def damage_log(state: Path, _: Path) -> None:
    log = state / "queue.db-wal"
    whole = bytearray(log.read_bytes())
    whole[100] ^= 1
    log.write_bytes(whole)


def restore(state: Path, copy: Path) -> None:
    for name in ("queue.db", "queue.db-wal", "queue.db-shm"):
        (state / name).unlink(missing_ok=True)
    shutil.copy(copy, state / "queue.db")


def lose(state: Path, _: Path) -> None:
    for name in ("queue.db", "queue.db-wal", "queue.db-shm"):
        (state / name).unlink(missing_ok=True)


@pytest.mark.parametrize("attack", [lose_log, damage_log, restore, lose])
def test_books_that_went_back_are_noticed_at_the_start(
    tmp_path: Path, proxy: Proxy, sidecar: Sidecar, attack: Callable[[Path, Path], None]
) -> None:
    proxy.fault("down")
    accept(sidecar, 3)
    assert sidecar.stop() == 0
    copy = tmp_path / "copy.db"
    shutil.copy(sidecar.state / "queue.db", copy)
    sidecar.start()
    assert "held less" not in reasons(sidecar)
    accept(sidecar, 5)
    sidecar.kill()
    attack(sidecar.state, copy)
    sidecar.start()
    found = sidecar.wait_for(r"queue.db holds less than when it was last in use.*events_at_least=(\d+)")
    assert int(found[1]) >= 1
    assert "held less at the start than when it was last in use" in reasons(sidecar)
    assert sidecar.get("/metrics").text.count("sidecar_queue_went_back 0.0") == 0
    assert sidecar.stop() == 0
    sidecar.start()
    assert "held less" not in reasons(sidecar)


def test_a_crash_alone_is_no_going_back(proxy: Proxy, sidecar: Sidecar) -> None:
    for _ in range(5):
        accept(sidecar, 3)
        sidecar.kill()
        sidecar.start()
        assert "held less" not in sidecar.text()


def test_a_reader_that_stops_makes_no_log_grow(proxy: Proxy, sidecar: Sidecar) -> None:
    """A pager that nobody leaves, such as less(1): the command waits in the middle of its rows."""

    proxy.fault("400")
    accept(sidecar, 5)
    wait_until(lambda: sidecar.books()["dead"] == 5)
    proxy.fault("none")
    with Lookup(sidecar.state / "queue.db") as lookup:
        rows = lookup.dead(DeadFilter())
        next(rows)
        for _ in range(30):
            big = event(event={"content": os.urandom(450_000).hex()})
            assert sidecar.post(report(big)).status_code in (200, 413)
        status = sidecar.status()
        assert status["queue"]["wal_bytes"] < 30_000_000
        assert len(list(rows)) == 4
