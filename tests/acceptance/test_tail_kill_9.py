"""Promise 2, broken on purpose: kill -9 at random moments while ten thousand lines a second are logged and rotated."""

import gzip
import json
import os
import random
import shutil
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from sidecar.queue.codec import Codec
from tests.support.process import Sidecar, run_command, wait_until

ROUNDS = int(os.environ.get("SIDECAR_TEST_ROUNDS", "200")) // 20
LINES_PER_S = 10_000


class Logger(threading.Thread):
    """Logs numbered lines, and rotates as logrotate does: renamed, the oldest compressed; now and then it is late."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="logger", daemon=True)
        self.written = 0
        self.ended = threading.Event()
        self._path = path
        self._random = random.Random(7)
        self._rotations = 0

    def run(self) -> None:
        file = self._path.open("ab", buffering=0)
        due_s = time.monotonic()
        while not self.ended.is_set():
            count = self._random.choice([1, 20, 100, 300])
            lines = b"".join(b"%09d some text of a line that was logged\n" % (self.written + n) for n in range(count))
            place = self._random.randrange(len(lines))
            file.write(lines[:place])  # a line may be read before it is whole
            file.write(lines[place:])
            self.written += count
            if self._random.random() < 0.01:
                file = self._rotate(file)  # type: ignore[assignment]
            due_s = max(due_s + count / LINES_PER_S, time.monotonic() - 1)
            self.ended.wait(max(0.0, due_s - time.monotonic()))
        file.close()

    def _rotate(self, file: object) -> object:
        self._rotations += 1
        self._path.rename(f"{self._path}.{self._rotations:04d}")
        if self._random.random() < 0.5:
            file.write(b"%09d late\n" % self.written)  # type: ignore[attr-defined]
            self.written += 1
        file.close()  # type: ignore[attr-defined]
        old = Path(f"{self._path}.{self._rotations - 3:04d}")
        if old.exists():
            with old.open("rb") as plain, gzip.open(f"{old}.gz", "wb") as packed:
                shutil.copyfileobj(plain, packed)
            shutil.copystat(old, f"{old}.gz")
            old.unlink()
        return self._path.open("ab", buffering=0)


def numbers_in_queue(state: Path) -> Counter[int]:
    """How often each number is in the queue."""
    found: Counter[int] = Counter()
    codec = Codec()
    with sqlite3.connect(f"{(state / 'queue.db').as_uri()}?mode=ro", uri=True) as connection:
        for kind, size, body in connection.execute("SELECT codec, bytes, body FROM chunk"):
            parts = codec.unpack(kind, body, size).split(b'"content":"')[1:]
            found.update(int(part[:9]) for part in parts)
    connection.close()
    return found


@pytest.mark.timeout(0 if ROUNDS > 100 else 300)
def test_every_line_is_once_in_the_queue_after_kill_9(tmp_path: Path) -> None:
    log = tmp_path / "log" / "app.log"
    log.parent.mkdir()
    settings = {"tails": {"app": {"paths": [str(log)], "stream": "app-events", "start_at": "beginning"}}}
    chance = random.Random(11)
    logger = Logger(log)
    with Sidecar(tmp_path, "http://127.0.0.1:1", settings) as sidecar:
        sidecar.start()
        logger.start()
        for _ in range(ROUNDS):
            time.sleep(chance.uniform(0.05, 1.5))
            sidecar.kill()
            time.sleep(chance.choice([0, 0, 0.5, 2.0]))  # sometimes it is rotated several times meanwhile
            sidecar.start()
        logger.ended.set()
        logger.join()
        wait_until(lambda: sidecar.books()["accepted"] >= logger.written, 60, "all lines in the queue")
        time.sleep(1)
        assert sidecar.books()["accepted"] == logger.written
        assert sidecar.books()["balanced"]
        shown = json.loads(run_command("tails", "--json", "--config", str(sidecar.config)).stdout)
        assert [loss for loss in shown["losses"] if "its inode used again" not in loss["why"]] == []
        assert sidecar.stop() == 0
    found = numbers_in_queue(sidecar.state)
    assert [number for number in range(logger.written) if not found[number]] == []
    assert [number for number, count in found.items() if count > 1] == []
