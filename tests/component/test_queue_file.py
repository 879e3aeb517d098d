"""The file of the queue: what is lost with it, saved of it, and left beside it."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.core.model import Books
from sidecar.queue.operations import Acknowledge, Forget, Ping
from sidecar.queue.reader import books_on_disk
from tests.support.queues import KEY, OTHER, DirectQueue, direct_queue


class Broken:
    """An operation that fails, though the disk is well."""

    def apply(self, _: object) -> None:
        raise sqlite3.OperationalError("on purpose")


def fail(queue: DirectQueue) -> None:
    assert "on purpose" in str(queue.do(Broken()))


def files(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()} - {"books"}


def lose(queue: DirectQueue) -> None:
    """Let the writer notice what has happened, as the event loop's look does."""
    queue.writer.lost = queue.writer.watch.look()
    assert queue.writer.lost


def test_forgetting_a_stream_is_no_going_back(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with direct_queue(path) as queue:
        for key in (KEY, OTHER):
            queue.append("1", "2", "3", key=key)
            queue.do(Acknowledge(queue.stream(key).fresh, 1 << 30, 0, keep=False))
        assert queue.do(Forget({queue.stream(OTHER): queue.stream()})) is None
        assert queue.stream().books == Books(accepted=6, delivered=6)
    with direct_queue(path) as queue:
        assert queue.writer.went_back == 0


def test_a_stranger_who_opens_and_closes_the_database_removes_no_log_also_after_a_failure(tmp_path: Path) -> None:
    """When a process closes any descriptor of a file, its locks on it are gone, and SQLite does not know."""
    path = tmp_path / "queue.db"
    with direct_queue(path) as queue:
        queue.append("1")
        assert queue.waiting() == ["1"]  # the reader has it open
        fail(queue)
        queue.append("2")
        code = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT count(*) FROM chunk'); c.close()"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        assert path.with_name("queue.db-wal").exists()
        assert queue.writer.watch.look() is None
        assert queue.append("3") is None


def test_a_database_that_takes_the_place_of_ours_is_left_alone(tmp_path: Path) -> None:
    path, other = tmp_path / "queue.db", tmp_path / "other" / "queue.db"
    other.parent.mkdir()
    with direct_queue(other) as queue:
        queue.append("theirs")
    with direct_queue(path) as queue:
        queue.append("ours", "and ours")
        other.rename(path)
        lose(queue)
        assert "replaced" in str(queue.append("refused"))
    assert files(path) == {"other", "queue.db", "queue-saved-1.db"}
    assert books_on_disk(path)[0] == Books(accepted=1, queued=1)
    assert books_on_disk(tmp_path / "queue-saved-1.db")[0] == Books(accepted=2, queued=2)


@pytest.mark.parametrize("failing", [False, True])
def test_what_waits_in_a_removed_file_is_saved_whatever_fails_meanwhile(tmp_path: Path, *, failing: bool) -> None:
    path = tmp_path / "queue.db"
    with direct_queue(path) as queue:
        queue.append("1", "2")
        assert queue.waiting() == ["1", "2"]  # the reader has it open, as in a running sidecar
        path.unlink()
        if failing:
            fail(queue)
        lose(queue)
        if failing:
            fail(queue)
        assert queue.do(Ping()) is None
        assert queue.waiting() == ["1", "2"]
    assert files(path) == {"queue.db"}
    assert books_on_disk(path) == (Books(accepted=2, queued=2), [])


def test_if_only_the_log_is_gone_the_file_itself_takes_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with direct_queue(path) as queue:
        queue.append("1", "2")
        path.with_name("queue.db-wal").unlink()
        lose(queue)
    assert "queue-saved-1.db" not in files(path)
    assert books_on_disk(path) == (Books(accepted=2, queued=2), [])


def test_a_start_that_fails_later_on_does_not_use_up_the_alarm(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with direct_queue(path) as queue:
        queue.append("1", "2")
    record = path.with_name("books")
    record.write_text(f"accepted={9:020d} delivered={0:020d}\n")
    queue = DirectQueue(path)
    assert queue.writer.went_back == 7
    assert f"{9:020d}" in record.read_text()
    queue.close()
    with direct_queue(path) as queue:
        assert queue.writer.went_back == 0
