"""After a power cut the checkpoint is there and the end of the application's log may not be: nothing is sent again."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inputs.tail.fingerprint import MARK_BYTES, extend_trail, mark_digest, shorten_trail, trail_of
from tests.support.tails import Tailer, write


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log" / "app.log"


def numbered(first: int, count: int) -> list[str]:
    return [f"2026-11-27 10:00:00.{number:06d} a line of the application" for number in range(first, first + count)]


def text_of(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def read(log: Path, lines: list[str], at_once: int, **settings: Any) -> Tailer:
    """A tail that has read `lines`, so many in each block."""
    made = Tailer(log.parent, **settings)
    made.turn()
    for first in range(0, len(lines), at_once):
        write(log, text_of(lines[first : first + at_once]))
        made.turn()
    made.settle()
    assert made.contents() == lines
    return made


def cut(log: Path, size: int, *, hours_ago: float = 1.0) -> None:
    """Let only the first `size` bytes be there, last written to before the power went."""
    seen = log.stat().st_mtime
    os.truncate(log, size)
    os.utime(log, (seen - hours_ago * 3600, seen - hours_ago * 3600))


@pytest.mark.parametrize("at_once", [1, 100, 10_000])
@pytest.mark.parametrize("missing", [1, 20, 57, 5000, 500_000])
def test_a_log_that_comes_back_shorter_is_not_sent_again(log: Path, at_once: int, missing: int) -> None:
    lines = numbered(0, 10_000 if at_once > 1 else 300)
    made = read(log, lines, at_once)
    cut(log, max(2000, log.stat().st_size - missing))
    made.cut_power()
    made.settle()
    assert made.contents() == lines
    write(log, "and on\n")
    made.settle()
    assert made.contents() == [*lines, "and on"]
    assert made.queue.losses == []


@pytest.mark.parametrize("missing", [1, 57, 300, 5000, 100_000])
def test_a_log_whose_end_was_never_written_is_not_sent_again(log: Path, missing: int) -> None:
    """The file system knows the size, and nothing of the content."""
    lines = numbered(0, 10_000)
    made = read(log, lines, 100)
    size = log.stat().st_size
    with log.open("r+b") as file:
        file.seek(size - missing)
        file.write(bytes(missing))
    made.cut_power()
    made.settle()
    write(log, "\nand on\n")
    made.settle()
    assert made.contents() == [*lines, "and on"]
    assert made.queue.losses == []


@pytest.mark.parametrize("at_once", [1, 100])
@pytest.mark.parametrize("missing", [60, 3000])
@pytest.mark.parametrize("new", [1, 5, 2000])
def test_where_the_writer_has_gone_on_meanwhile_nothing_new_is_left_out_and_little_is_sent_again(
    log: Path, at_once: int, missing: int, new: int
) -> None:
    lines = numbered(0, 1000)
    made = read(log, lines, at_once)
    size = log.stat().st_size
    os.truncate(log, size - missing)
    more = [f"after the power cut {number}" for number in range(new)]
    write(log, "\n" + text_of(more))
    made.cut_power()
    made.settle()
    got = made.contents()
    assert got[:1000] == lines
    assert got[-new:] == more
    again = got[1000:-new]
    assert len(again) <= 4 + 3 * missing // 50, "no more than some times what was lost"
    assert made.queue.losses == []


def test_a_log_that_was_truncated_without_a_power_cut_is_read_from_its_beginning(log: Path) -> None:
    lines = numbered(0, 1000)
    made = read(log, lines, 100)
    cut(log, 5000)
    made.kill()
    made.settle()
    assert len(made.contents()) > 1000
    assert [loss.why for loss in made.queue.losses] == ["the file was truncated"]


def test_another_log_that_is_written_after_a_power_cut_is_read_from_its_beginning(log: Path) -> None:
    lines = numbered(0, 1000)
    made = read(log, lines, 100)
    log.write_text(text_of(numbered(5000, 100)))
    made.cut_power()
    made.settle()
    assert made.contents() == lines + numbered(5000, 100)


@pytest.mark.parametrize("banner", [1, 10, 40])
def test_a_log_that_each_boot_begins_alike_is_read_from_its_beginning(log: Path, banner: int) -> None:
    """Only a long beginning that is the same to the byte is taken for the file of before."""
    lines = ["[  OK  ] Started a service of the system."] * banner + numbered(0, 300)
    made = read(log, lines, 1)
    again = lines[:banner] + numbered(700, 3)
    log.write_text(text_of(again))
    made.cut_power()
    made.settle()
    assert [line for line in again if line not in made.contents()] == []
    assert made.contents()[-3:] == again[-3:]


def test_a_restart_in_the_same_boot_as_the_look_before_takes_a_truncation_for_one(log: Path) -> None:
    """What was compared in this boot is noted at once, also of a file that nobody writes to."""
    lines = numbered(0, 1000)
    made = read(log, lines, 100)
    made.cut_power()
    made.settle()
    made.kill()
    cut(log, 5000)
    made.settle()
    assert [loss.why for loss in made.queue.losses] == ["the file was truncated"]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_a_trail_leads_back_in_steps_that_grow_with_the_distance(sizes: list[int]) -> None:
    content = bytes(number * 7919 % 251 for number in range(sum(sizes)))
    trail, at = b"", 0
    for size in sizes:
        trail = extend_trail(trail, content[max(0, at - MARK_BYTES) : at], at, content[at : at + size])
        at += size
    places = [place for place, _ in trail_of(trail)]
    assert places[0] == at
    assert len(places) <= 64
    for place, seen in trail_of(trail):
        assert seen == mark_digest(content[:place])
    for near, far in itertools.pairwise(places):
        assert near - far <= 2 * (at - near) + 512, "a block of which nothing is known is the least"
    half = [place for place, _ in trail_of(shorten_trail(trail, at // 2))]
    assert half == [place for place in places if place <= at // 2]
