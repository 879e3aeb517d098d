"""Whatever is written, rotated, looked at and killed, in any order: each line is once there.

A rotation takes no time here, and several may come between two looks; so the same inode is soon used again.
"""

import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.arrivals import Change
from sidecar.inputs.tail.scan import ScanResult, discover
from sidecar.inputs.tail.start_position import seen_beginning
from tests.support.tails import Tailer, write


class Application:
    """Writes numbered lines into `app.log`, and rotates it; `made` hears of each step."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.log = directory / "app.log"
        self.kind, self.lines, self.rotations = kind, list[str](), 0
        if kind == "linked":
            self.log.symlink_to("first.data")
        self.log.touch()
        self.made = Tailer(directory)
        self.made.turn(pass_s=0.1)

    def say(self, count: int) -> None:
        new = [f"{len(self.lines) + number:09d} some text of a line" for number in range(count)]
        write(self.log, "".join(f"{line}\n" for line in new))
        self.lines += new
        self.tell(self.log, Change.WRITTEN)

    def tell(self, path: Path, change: Change) -> None:
        self.made.worker.changed(str(path), change)

    def rotate(self) -> None:
        self.rotations += 1
        old = Path(f"{self.log}.{self.rotations:03d}")
        if self.kind == "copied":
            shutil.copy2(self.log, old)
            self.tell(old, Change.CREATED)
            os.truncate(self.log, 0)
            self.tell(self.log, Change.WRITTEN)
        elif self.kind == "linked":
            target, fresh = Path(f"{old}.data"), self.log.with_name("fresh")
            target.touch()
            self.tell(target, Change.CREATED)
            fresh.symlink_to(target.name)
            fresh.rename(self.log)
            self.tell(self.log, Change.MOVED_HERE)
        else:
            self.log.rename(old)
            self.tell(self.log, Change.MOVED_AWAY)
            self.tell(old, Change.MOVED_HERE)
            self.log.touch()
            self.tell(self.log, Change.CREATED)
            before = Path(f"{self.log}.{self.rotations - 1:03d}")
            if self.kind == "compressed at once":
                self.compress(old)
            elif self.kind == "compressed" and before.exists():
                self.compress(before)

    def compress(self, old: Path) -> None:
        packed = Path(f"{old}.gz")
        packed.write_bytes(gzip.compress(old.read_bytes()))
        shutil.copystat(old, packed)
        self.tell(packed, Change.CREATED)
        old.unlink()
        self.tell(old, Change.REMOVED)


STEPS = st.lists(
    st.sampled_from(["line", "lines", "lines", "rotate", "rotate", "turn", "wait", "kill", "slow", "good"]), max_size=25
)


def play(kind: str, steps: list[str]) -> Application:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "log").mkdir()
        application = Application(Path(directory) / "log", kind)
        for step in steps:
            match step:
                case "line":
                    application.say(1)
                case "lines":
                    application.say(100)
                case "rotate":
                    application.rotate()
                case "turn":
                    application.made.turn(pass_s=0.05)
                case "wait":
                    application.made.turn(pass_s=3)
                case "kill":
                    application.made.kill()
                case "slow":
                    application.made.queue.mode = "slow"  # nothing is committed
                case "good":
                    application.made.queue.mode = "good"
                    application.made.queue.release()
        application.made.end_well()
        return application


@pytest.mark.property
@pytest.mark.parametrize("kind", ["renamed", "compressed", "compressed at once", "copied", "linked"])
@given(STEPS)
@example(["lines", "rotate", "line", "lines", "turn"])  # copied and truncated before anybody knew that it had content
@example(["wait", "kill", "lines", "lines", "rotate"])
@example(["line", "rotate", "lines", "kill", "line", "rotate", "turn", "lines", "kill", "rotate", "lines"])
@example(["rotate", "lines", "line", "rotate", "line", "turn", "line", "rotate", "rotate"])
@example(
    [
        "rotate",
        "rotate",
        "slow",
        "lines",
        "turn",
        "rotate",
        "lines",
        "rotate",
        "lines",
        "turn",
        "rotate",
        "good",
        "rotate",
        "turn",
        "rotate",
    ]
)
@example(
    [
        "slow",
        "line",
        "turn",
        "lines",
        "rotate",
        "turn",
        "lines",
        "rotate",
        "lines",
        "turn",
        "kill",
        "good",
        "rotate",
        "rotate",
        "turn",
        "kill",
        "rotate",
    ]
)
def test_each_line_is_once_there_however_the_log_is_rotated(kind: str, steps: list[str]) -> None:
    application = play(kind, steps)
    assert sorted(application.made.contents()) == application.lines
    if kind in ("renamed", "linked"):
        assert application.made.queue.losses == []


@pytest.mark.parametrize("lines", [1, 100])
def test_a_file_that_is_copied_and_truncated_in_the_moment_it_is_met_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    (tmp_path / "log").mkdir()
    application = Application(tmp_path / "log", "copied")
    application.say(50)
    application.made.settle()
    application.rotate()
    application.say(lines)
    raced: list[str] = []

    def race(blank: Checkpoint) -> Checkpoint:
        if not raced and blank.path == blank.at == str(application.log):
            raced.append(blank.path)
            shutil.copy2(application.log, f"{application.log}.002")
            os.truncate(application.log, 0)
        return seen_beginning(blank)

    monkeypatch.setattr("sidecar.inputs.tail.newcomers.seen_beginning", race)
    application.made.queue.mode = "slow"  # what was there before it keeps it waiting
    application.made.turn(pass_s=1)
    assert raced
    application.say(60)
    application.made.queue.mode = "good"
    application.made.queue.release()
    application.made.turn(3, pass_s=0.02)  # it is read before the next look
    application.made.settle()
    application.made.settle()
    assert sorted(application.made.contents()) == application.lines


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("read_before", [False, True])
def test_a_link_that_is_pointed_elsewhere_in_the_midst_of_a_look_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, read_before: bool
) -> None:
    (tmp_path / "log").mkdir()
    application = Application(tmp_path / "log", "linked")
    application.say(20)
    if read_before:
        application.made.settle()
    application.rotate()
    application.say(100)
    raced: list[str] = []

    def race(*given: Any, **more: Any) -> ScanResult:
        found = discover(*given, **more)
        for _ in range(0 if raced else times):
            application.rotate()
            application.say(10)
        raced.append("")
        return found

    monkeypatch.setattr("sidecar.inputs.tail.tracker.discover", race)
    application.made.turn(pass_s=1)
    application.made.settle()
    application.made.settle()
    assert sorted(application.made.contents()) == application.lines
    assert application.made.queue.losses == []


def test_what_came_and_was_rotated_away_is_known_after_two_crashes(tmp_path: Path) -> None:
    """The run between the two knew what waits to be read; and it saved where a file is that is newer than that."""
    (tmp_path / "log").mkdir()
    application = Application(tmp_path / "log", "compressed")
    application.say(100)
    application.made.turn(pass_s=3)
    application.made.kill()
    for _ in range(4):
        application.say(100)
        application.rotate()
    application.made.queue.mode = "slow"
    application.made.turn(pass_s=3)
    for _ in range(3):
        application.say(100)
        application.rotate()
        application.made.turn(pass_s=3)
    application.made.kill()
    application.made.queue.mode = "good"
    application.made.settle()
    application.made.settle()
    assert sorted(application.made.contents()) == application.lines


def test_an_inode_that_the_next_file_has_again_is_not_the_file_that_was_not_read_yet(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    application = Application(tmp_path / "log", "renamed")
    made, log = application.made, application.log
    made.queue.mode = "slow"  # so that what comes later waits
    application.say(100)
    made.turn(pass_s=3)
    application.rotate()
    application.say(100)
    application.rotate()
    made.turn(pass_s=3)
    waiting = Path(f"{log}.002")
    packed = Path(f"{waiting}.gz")
    packed.write_bytes(gzip.compress(waiting.read_bytes()))
    shutil.copystat(waiting, packed)
    os.truncate(waiting, 0)  # as if its inode were free, and the next file got it
    waiting.replace(log)
    application.tell(packed, Change.CREATED)
    application.tell(log, Change.CREATED)
    made.turn(pass_s=3)
    application.rotate()
    application.say(50)
    made.end_well()
    assert sorted(made.contents()) == application.lines
    assert made.queue.losses == []


def test_a_copy_of_what_is_not_on_disk_yet_is_not_left_out_for_good(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    application = Application(tmp_path / "log", "compressed at once")
    application.made.queue.mode = "slow"
    application.say(1)
    application.made.turn(pass_s=3)
    application.say(100)
    application.rotate()
    application.made.turn(2, pass_s=3)
    application.made.kill()
    application.made.end_well()
    assert sorted(application.made.contents()) == application.lines
