"""What is used of watchdog: its reader of inotify, read by a thread of our own, which lets the kernel join events."""

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.inputs.tail import watcher as watcher_module
from sidecar.inputs.tail.arrivals import Change
from sidecar.inputs.tail.watcher import Watcher
from tests.support.process import wait_until


class Heard:
    def __init__(self) -> None:
        self.events: Counter[tuple[str, Change]] = Counter()

    def __call__(self, path: str, change: Change) -> None:
        self.events[path, change] += 1


@pytest.fixture
def heard() -> Heard:
    return Heard()


def until(condition: Callable[[], object]) -> None:
    wait_until(lambda: bool(condition()), 5, "an event")


def test_writing_and_coming_and_going_are_told_apart(tmp_path: Path, heard: Heard) -> None:
    watcher = Watcher()
    try:
        assert watcher.watch(str(tmp_path), heard) is None
        assert watcher.watch(str(tmp_path), heard) is None
        path = tmp_path / "a.log"
        path.write_bytes(b"one\n")
        until(lambda: heard.events[str(path), Change.WRITTEN])
        until(lambda: heard.events[str(path), Change.CREATED])
        heard.events.clear()
        path.rename(tmp_path / "b.log")
        until(lambda: heard.events[str(tmp_path / "b.log"), Change.MOVED_HERE])
        heard.events.clear()
        (tmp_path / "b.log").unlink()
        until(lambda: heard.events[str(tmp_path / "b.log"), Change.REMOVED])
    finally:
        watcher.stop()
        watcher.stop()


def test_it_is_said_that_nothing_was_heard_before(tmp_path: Path, heard: Heard) -> None:
    watcher = Watcher()
    try:
        watcher.watch(str(tmp_path), heard)
        assert heard.events == {(str(tmp_path), Change.OTHER): 1}
        watcher.watch(str(tmp_path), heard)
        assert heard.events == {(str(tmp_path), Change.OTHER): 1}
    finally:
        watcher.stop()


def test_a_thousand_writes_are_far_fewer_events(tmp_path: Path, heard: Heard) -> None:
    watcher = Watcher()
    path = tmp_path / "a.log"
    try:
        watcher.watch(str(tmp_path), heard)
        with path.open("ab", buffering=0) as file:
            for _ in range(1000):
                file.write(b"x\n")
                time.sleep(0.0002)
        until(lambda: heard.events[str(path), Change.WRITTEN])
        assert heard.events[str(path), Change.WRITTEN] < 200
    finally:
        watcher.stop()


def test_a_directory_that_goes_is_told_and_can_be_watched_again(tmp_path: Path, heard: Heard) -> None:
    watcher = Watcher()
    directory = tmp_path / "d"
    directory.mkdir()
    try:
        watcher.watch(str(directory), heard)
        heard.events.clear()
        directory.rmdir()
        until(lambda: heard.events[str(directory), Change.OTHER])
        directory.mkdir()
        heard.events.clear()
        until(lambda: watcher.watch(str(directory), heard) is None)
        (directory / "x").touch()
        until(lambda: heard.events[str(directory / "x"), Change.CREATED])
        heard.events.clear()
        assert watcher.watch(str(tmp_path / "none"), heard) is None, "it lived too short, which is no fault of inotify"
        assert heard.events[str(tmp_path / "none"), Change.OTHER], "so look again"
    finally:
        watcher.stop()


def test_a_directory_can_be_watched_again_as_soon_as_it_is_told_that_it_went(tmp_path: Path, heard: Heard) -> None:
    watcher = Watcher()
    directory = tmp_path / "d"
    directory.mkdir()

    def make_it_again(path: str, change: Change) -> None:
        if path == str(directory) and not directory.exists():
            directory.mkdir()
            assert watcher.watch(path, make_it_again) is None
        heard(path, change)

    try:
        watcher.watch(str(directory), make_it_again)
        heard.events.clear()
        directory.rmdir()
        until(lambda: heard.events[str(directory), Change.OTHER])
        (directory / "x").touch()
        until(lambda: heard.events[str(directory / "x"), Change.CREATED])
    finally:
        watcher.stop()


def test_nothing_is_heard_of_what_is_not_watched_any_more(tmp_path: Path, heard: Heard) -> None:
    watcher = Watcher()
    other = Heard()
    try:
        watcher.watch(str(tmp_path), heard)
        watcher.watch(str(tmp_path), other)
        watcher.unwatch(str(tmp_path), heard)
        heard.events.clear()
        (tmp_path / "x").touch()
        until(lambda: other.events[str(tmp_path / "x"), Change.CREATED])
        assert not heard.events
        assert [thread.name for thread in threading.enumerate()].count("tail-watch") == 1
    finally:
        watcher.stop()


def test_a_limit_is_named_with_what_to_raise(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(watcher_module.InotifyFD, "add_callback", refuse)  # type: ignore[attr-defined]
    watcher = Watcher()
    try:
        assert "fs.inotify.max_user_watches" in str(watcher.watch(str(tmp_path), heard))
    finally:
        watcher.stop()
