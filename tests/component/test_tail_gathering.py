"""What is written within a moment is read, handed over and committed together; and the first line at once."""

from pathlib import Path

import pytest

from sidecar.inputs.tail.arrivals import Change
from tests.support.tails import Tailer, write


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "app.log").touch()
    return tmp_path / "log" / "app.log"


def say(made: Tailer, text: str) -> None:
    log = made.directory / "app.log"
    write(log, text)
    made.worker.changed(str(log), Change.WRITTEN)


def test_what_is_written_while_nothing_may_leave_is_read_together(log: Path) -> None:
    """A line costs little then; who waits longest for its turn is the request."""
    made = Tailer(log.parent)
    made.turn()

    def wait(pass_s: float) -> None:
        made.leaves_in_s -= pass_s
        made.turn(pass_s=pass_s)

    made.leaves_in_s = 0.06
    for number in range(1, 6):
        say(made, f"{number}\n")
        wait(0.01)
    assert made.contents() == []
    wait(0.007)
    assert made.contents() == ["1", "2", "3", "4", "5"]
    assert made.queue.commits == 1
    say(made, "6\n")
    wait(0.001)
    made.leaves_in_s = 0.06  # the request has left
    wait(0.05)
    assert made.queue.commits == 1, "what could not leave with it waits for the next"
    wait(0.007)
    assert made.contents()[-1] == "6"
    assert made.queue.commits == 2


def test_nothing_is_gathered_for_longer_than_a_tenth_of_a_second(log: Path) -> None:
    made = Tailer(log.parent)
    made.turn()
    made.leaves_in_s = 1000.0
    say(made, "1\n")
    made.turn(pass_s=0.001)
    say(made, "2\n")
    made.turn(pass_s=0.09)
    assert made.contents() == []
    made.turn(pass_s=0.02)
    assert made.contents() == ["1", "2"]


def test_what_is_told_while_lines_are_gathered_wakes_nobody(log: Path) -> None:
    made = Tailer(log.parent)
    made.turn()
    made.leaves_in_s = 0.06
    wakes = made.worker._wake
    for number in range(3):
        say(made, f"{number}\n")
        assert wakes.is_set() is (number == 0)
        if number == 0:
            made.turn(pass_s=0.001)
    other = made.directory / "other.log"
    other.write_text("new\n")
    made.worker.changed(str(other), Change.CREATED)
    assert wakes.is_set(), "a new file does"
    made.turn(pass_s=0.11)
    say(made, "3\n")
    assert wakes.is_set(), "so does the first line after they were read"


def test_what_is_read_of_many_files_at_once_is_handed_over_together(log: Path) -> None:
    made = Tailer(log.parent)
    for number in range(50):
        write(log.parent / f"{number}.log", "one\n" * 10)
    write(log.parent / "large.log", "one\n" * 20_000)
    made.turn()
    assert len(made.contents()) == 20_500
    assert sum(made.queue.submitted) == made.queue.commits
    assert len(made.queue.submitted) < 20


def test_a_line_after_a_rest_is_read_at_once(log: Path) -> None:
    made = Tailer(log.parent)
    made.turn()
    say(made, "1\n")
    made.turn(pass_s=0.001)
    assert made.contents() == ["1"]
    say(made, "2\n")
    made.turn(pass_s=0.001)
    assert made.contents() == ["1"]
    made.turn(pass_s=0.01)
    assert made.contents() == ["1", "2"]
