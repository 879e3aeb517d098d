"""Numbered lines through every kind of rotation, while the sidecar is killed, paused and reloaded: each is once there.

A campaign of `make soak`: a million lines take a minute (`SIDECAR_CAMPAIGN_LINES=1000000`). Files live for half a
second here, so that it meets faults that a host would meet in years.
"""

import gzip
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_tail_kill_9 import numbers_in_queue
from tests.support.process import Sidecar, run_command, wait_until

LINES = int(os.environ.get("SIDECAR_CAMPAIGN_LINES", "0"))
LINES_PER_S = 4_000
ROTATES = 0.03
"""How likely a rotation is after each write."""
KEPT = 100_000
"""Generations that are kept: all, since one that goes while nobody looks may hold something that was not read."""


class Logger(threading.Thread):
    """Logs numbered lines into `path`, and rotates it now and then; `first` is the number of its first line."""

    def __init__(self, path: Path, rotate: Callable[["Logger"], None], first: int, lines: int) -> None:
        super().__init__(name=f"logger-{path.parent.name}", daemon=True)
        self.path, self.rotations, self.written = path, 0, 0
        self._rotate, self._first, self._lines = rotate, first, lines
        self.random = random.Random(first)
        path.parent.mkdir()
        if rotate is linked:
            path.symlink_to("first.data")
        self.file = self.begin(path)

    @staticmethod
    def begin(path: Path) -> Any:
        return path.open("ab", buffering=0)

    def run(self) -> None:
        due_s = time.monotonic()
        while self.written < self._lines:
            count = min(self.random.choice([1, 5, 50, 200]), self._lines - self.written)
            self.say(count)
            if self.random.random() < ROTATES:
                self.rotations += 1
                self._rotate(self)
            due_s = max(due_s + count / LINES_PER_S, time.monotonic() - 1)
            time.sleep(max(0.0, due_s - time.monotonic()))
        self.file.close()

    def say(self, count: int) -> None:
        if not count:
            return
        first = self._first + self.written
        text = b"".join(b"%09d some text of a line that was logged\n" % (first + number) for number in range(count))
        place = self.random.randrange(len(text))
        self.file.write(text[:place])  # a line may be read before it is whole
        self.file.write(text[place:])
        self.written += count

    def generation(self, back: int = 0) -> Path:
        return Path(f"{self.path}.{self.rotations - back:05d}")


def renamed(logger: Logger) -> None:
    """As logrotate does; the program goes on with the old file for a line or two."""
    logger.path.rename(logger.generation())
    logger.say(logger.random.randrange(2))
    logger.file.close()
    logger.file = logger.begin(logger.path)
    logger.generation(KEPT).unlink(missing_ok=True)


def compressed(logger: Logger) -> None:
    """As logrotate with `compress` and `delaycompress`."""
    renamed(logger)
    old = logger.generation(1)
    if old.exists():
        compress(old, Path(f"{old}.gz"))
    Path(f"{logger.generation(KEPT)}.gz").unlink(missing_ok=True)


def copied(logger: Logger) -> None:
    """As logrotate with `copytruncate`; this program writes nothing meanwhile."""
    shutil.copy2(logger.path, logger.generation())
    os.truncate(logger.path, 0)
    logger.generation(KEPT).unlink(missing_ok=True)


def linked(logger: Logger) -> None:
    """A link that always leads to the newest file."""
    logger.file.close()
    target = Path(f"{logger.generation()}.data")
    logger.file = logger.begin(target)
    fresh = logger.path.with_suffix(".new")
    fresh.symlink_to(target.name)
    fresh.rename(logger.path)


def as_kubelet(logger: Logger) -> None:
    """Rename to a time, new file, compress the one before into a temporary file, rename that, remove the plain one."""
    logger.path.rename(logger.generation())
    logger.file.close()
    logger.file = logger.begin(logger.path)
    old = logger.generation(1)
    if old.exists():
        temporary = Path(f"{old}.tmp")
        with old.open("rb") as plain, gzip.open(temporary, "wb") as packed:
            shutil.copyfileobj(plain, packed)
        temporary.rename(f"{old}.gz")
        old.unlink()
    Path(f"{logger.generation(KEPT)}.gz").unlink(missing_ok=True)


def compress(old: Path, packed: Path) -> None:
    with old.open("rb") as plain, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(plain, target)
    shutil.copystat(old, packed)
    old.unlink()


ROTATIONS = (renamed, compressed, copied, linked, as_kubelet)


def disturb(sidecar: Sidecar, chance: random.Random) -> None:
    match chance.choice(["kill", "kill", "pause", "reload", "stop"]):
        case "kill":
            sidecar.kill()
            time.sleep(chance.choice([0, 0, 0.5, 1.0]))
            sidecar.start()
        case "pause":
            sidecar.signal(signal.SIGSTOP)
            time.sleep(chance.uniform(0.1, 1.5))
            sidecar.signal(signal.SIGCONT)
        case "reload":
            sidecar.signal(signal.SIGUSR1)
        case "stop":
            assert sidecar.stop() == 0
            sidecar.start()


@pytest.mark.skipif(not LINES, reason="a campaign of make soak: SIDECAR_CAMPAIGN_LINES")
@pytest.mark.timeout(0)
def test_every_line_is_once_in_the_queue_whatever_is_done_to_files_and_sidecar(tmp_path: Path) -> None:
    root, each = tmp_path / "logs", LINES // len(ROTATIONS)
    root.mkdir()
    loggers = [
        Logger(root / rotate.__name__ / "app.log", rotate, number * each, each)
        for number, rotate in enumerate(ROTATIONS)
    ]
    settings = {
        "tails": {
            rotate.__name__: {
                "paths": [str(root / rotate.__name__ / "app.log")], "stream": "app-events", "start_at": "beginning",
            }
            for rotate in ROTATIONS
        }
    }  # fmt: skip
    chance, disturbed = random.Random(LINES), 0
    with Sidecar(tmp_path, "http://127.0.0.1:1", settings) as sidecar:
        sidecar.start()
        for logger in loggers:
            logger.start()
        while any(logger.is_alive() for logger in loggers):
            time.sleep(chance.uniform(0.2, 2.0))
            disturb(sidecar, chance)
            disturbed += 1
        written = sum(logger.written for logger in loggers)
        wait_until(lambda: sidecar.books()["accepted"] >= written, 120, "all lines in the queue")
        time.sleep(1)
        accepted, balanced = sidecar.books()["accepted"], sidecar.books()["balanced"]
        shown = json.loads(run_command("tails", "--json", "--config", str(sidecar.config)).stdout)
        assert sidecar.stop() == 0
    found = numbers_in_queue(sidecar.state)
    lost = [number for number in range(written) if not found[number]]
    repeated = [number for number, count in found.items() if count > 1]
    rotations = {logger.path.parent.name: logger.rotations for logger in loggers}
    print(f"{written} lines, {rotations}, {disturbed} times disturbed: {len(lost)} lost, {len(repeated)} repeated")
    assert (lost[:10], repeated[:10]) == ([], [])
    assert (accepted, balanced) == (written, True)
    assert [loss for loss in shown["losses"] if loss["reason"] == "unread"] == []
