"""What comes to a path and is gone before anybody looks is read where it can be, else it is a loss; nothing else is."""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.inputs.tail import arrivals
from sidecar.inputs.tail.arrivals import Change
from tests.support.tails import Tailer, write


class Told:
    """A directory whose changes a tail is told of, at once or late."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        self.directory = tmp_path / "log"
        self.directory.mkdir()
        self.log = self.directory / "app.log"
        self.made = Tailer(self.directory, **settings)
        self.made.turn()

    def tell(self, path: Path, *changes: Change) -> None:
        for change in changes:
            self.made.worker.changed(str(path), change)

    def make(self, text: str, path: Path | None = None) -> None:
        path = path or self.log
        path.touch()
        self.tell(path, Change.CREATED)
        if text:
            write(path, text)
            self.tell(path, Change.WRITTEN)

    def remove(self, path: Path | None = None) -> None:
        path = path or self.log
        path.unlink()
        self.tell(path, Change.REMOVED)

    def point(self, target: Path) -> None:
        """As `ln -sfn` does."""
        new = self.directory / "new"
        new.symlink_to(target)
        new.rename(self.log)
        self.tell(self.log, Change.MOVED_HERE)

    def losses(self) -> list[tuple[str, int]]:
        return [(loss.path, loss.offset) for loss in self.made.queue.losses]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def test_a_file_that_was_made_again_before_anybody_looked_is_a_loss(told: Told) -> None:
    told.make("1\n")
    told.made.settle()
    told.remove()
    told.make("2\n")
    told.remove()
    told.make("3\n")
    told.made.settle()
    assert told.made.contents() == ["1", "3"]
    assert told.losses() == [(str(told.log), 0)]
    assert "gone before it could be read" in told.made.queue.losses[0].why


def test_a_file_that_came_and_went_where_none_was_is_a_loss(told: Told) -> None:
    told.make("1\n")
    told.remove()
    told.made.settle()
    assert told.losses() == [(str(told.log), 0)]
    assert not told.made.worker.registry.files
    told.made.kill()
    told.make("2\n")
    told.made.settle()
    assert told.made.contents() == ["2"]
    assert len(told.losses()) == 1


def test_it_is_a_loss_too_where_all_was_over_when_it_was_told(told: Told) -> None:
    told.make("1\n")
    told.made.settle()
    told.log.unlink()
    told.tell(told.log, Change.REMOVED, Change.CREATED, Change.WRITTEN, Change.REMOVED)
    told.made.settle()
    assert told.losses() == [(str(told.log), 0)]


def test_what_the_last_look_saw_is_no_loss_where_it_is_told_after_it(told: Told) -> None:
    write(told.log, "1\n")
    told.made.turn(pass_s=40)
    assert told.made.contents() == ["1"]
    told.tell(told.log, Change.CREATED, Change.WRITTEN)
    told.remove()
    told.made.settle()
    assert told.losses() == []
    write(told.log, "2\n")
    told.made.turn(pass_s=40)
    told.log.unlink()
    told.tell(told.log, Change.CREATED, Change.WRITTEN, Change.REMOVED)
    told.made.settle()
    assert told.made.contents() == ["1", "2"]
    assert told.losses() == []


@pytest.mark.parametrize("again", [False, True])
def test_each_file_that_a_link_led_to_is_read(told: Told, again: bool) -> None:
    """Also of one that was pointed back to where it was."""
    files = [told.directory / f"app-{number}.txt" for number in range(4)]
    for number, path in enumerate(files):
        write(path, f"{number}\n")
    told.point(files[0])
    told.made.settle()
    for path in [*files[1:], *(files[:1] if again else ())]:
        told.point(path)
    told.made.settle()
    assert told.made.contents() == ["0", "1", "2", "3"]
    assert told.losses() == []


def test_a_link_that_led_to_what_is_gone_is_a_loss(told: Told) -> None:
    files = [told.directory / f"app-{number}.txt" for number in range(3)]
    for number, path in enumerate(files):
        write(path, f"{number}\n")
    for path in files:
        told.point(path)
    files[0].unlink()
    told.made.settle()
    assert told.made.contents() == ["1", "2"]
    assert told.losses() == [(str(told.log), 0)]


def test_a_link_that_was_pointed_elsewhere_too_fast_to_be_seen_is_a_loss(told: Told) -> None:
    path = told.directory / "app-0.txt"
    write(path, "0\n")
    told.tell(told.log, Change.MOVED_HERE)
    told.point(path)
    told.made.settle()
    assert told.made.contents() == ["0"]
    assert told.losses() == [(str(told.log), 0)]


def test_a_planted_link_is_not_followed_by_way_of_what_is_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, path = told.directory / "secret", told.directory / "app-0.txt"
    write(secret, "secret\n")
    write(path, "0\n")
    told.directory.chmod(0o1777)
    glance = arrivals.glance

    def of_another(at: str) -> Any:
        seen = glance(at)
        return seen and msgspec.structs.replace(seen, link_owner=12345)

    monkeypatch.setattr(arrivals, "glance", of_another)
    told.point(secret)
    told.point(path)
    told.made.settle()
    assert "secret" not in told.made.contents()
    assert told.losses() == [(str(told.log), 0)]


@pytest.mark.parametrize("matched", ["app.log", "app*"])
def test_rotating_and_compressing_at_once_loses_nothing(tmp_path: Path, matched: str) -> None:
    told = Told(tmp_path, paths=[f"{tmp_path}/log/{matched}"])
    told.make("a line that is long enough, the first one\n" * 40)
    told.made.settle()
    lines = list(told.made.contents())
    rotated, packed = Path(f"{told.log}.1"), Path(f"{told.log}.1.gz")
    write(told.log, "2\n")
    told.tell(told.log, Change.WRITTEN)
    told.log.rename(rotated)
    told.tell(told.log, Change.MOVED_AWAY)
    told.tell(rotated, Change.MOVED_HERE)
    told.make("3\n")
    packed.write_bytes(gzip.compress(rotated.read_bytes()))
    told.tell(packed, Change.CREATED, Change.WRITTEN)
    told.remove(rotated)
    told.made.settle()
    assert told.made.contents() == [*lines, "2", "3"]
    assert told.losses() == []


def test_an_editor_makes_no_loss(told: Told) -> None:
    told.make("1\n")
    told.made.settle()
    for _ in range(3):
        new = told.directory / "new"
        new.write_bytes(b"1\n")
        new.replace(told.log)
        told.tell(told.log, Change.MOVED_HERE)
    told.made.settle()
    assert told.losses() == []


def test_what_other_paths_are_told_of_costs_no_memory(told: Told) -> None:
    for number in range(3):
        told.make("x\n", told.directory / f"other{number}.txt")
        told.remove(told.directory / f"other{number}.txt")
    told.made.settle()
    assert told.losses() == []
    for _ in range(20_000):
        told.tell(told.log, Change.CREATED)
    assert len(told.made.worker._tracker.short_lived.arrivals.take()) <= 10_000


def test_a_link_of_which_is_told_when_the_next_one_is_there_already_is_a_loss(told: Told) -> None:
    path = told.directory / "app-0.txt"
    write(path, "0\n")
    told.log.symlink_to(path)
    told.tell(told.log, Change.MOVED_HERE, Change.MOVED_HERE, Change.MOVED_HERE)
    told.made.settle()
    assert told.made.contents() == ["0"]
    assert told.losses() == [(str(told.log), 0)] * 2
