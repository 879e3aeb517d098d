"""Every line once into the queue: whatever happens to files, queue and process, held against a model in memory.

A line can be missing only if its bytes were destroyed before anybody had read them. Of a file that came, was rotated
and left no other at its path, all between two looks, nobody can know: the model leaves that out.
"""

import gzip
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sidecar.inputs.tail.fingerprint import HEAD_BYTES, digest
from tests.support.tails import Tailer, write

FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
NAMES = st.sampled_from(["a", "b"])
COUNTS = st.sampled_from([1, 1, 2, 5, 40, 3000])


class Model(RuleBasedStateMachine):
    """What was written, and what of it may be lost; `partial` is the line without an end of each file, if any."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="tail-model-"))
        self.directory = self.root / "log"
        self.directory.mkdir()
        self.written = 0
        self.lines: list[str] = []
        self.may_be_lost: set[str] = set()
        self.partial: dict[str, str] = {}
        self.rotations = 0
        self.tailer = Tailer(self.directory)
        self.tailer.turn()  # so that the tail has run before

    def teardown(self) -> None:
        self.check()
        shutil.rmtree(self.root)

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def is_known(self, path: Path) -> bool:
        """Whether its checkpoint is on disk, and not that of another file that had its inode before."""
        state = path.stat()
        beginning = path.read_bytes()[:HEAD_BYTES]
        return any(
            row.offset
            and (row.device, row.inode) == (state.st_dev, state.st_ino)
            and digest(beginning[: row.head_bytes]) == row.head
            for row in (self.tailer.queue.rows or {}).values()
        )

    def line(self, name: str) -> str:
        """The first of a file is so long that the file is known by it; of those that begin alike, others tell."""
        self.written += 1
        path = self.path(name)
        length = self.written * 7919 % 90 if path.exists() and path.stat().st_size else 1200
        return f"{name} {self.written:07d} {'x' * length}"

    @rule(name=NAMES, count=COUNTS)
    def write_lines(self, name: str, count: int) -> None:
        lines = [self.line(name) for _ in range(count)]
        write(self.path(name), self._completing(name) + "".join(f"{line}\n" for line in lines))
        self.lines += lines

    def part_of(self, line: str) -> int:
        return 1100 if len(line) > 1100 else 9

    @rule(name=NAMES)
    def write_part_of_a_line(self, name: str) -> None:
        if name not in self.partial:
            line = self.line(name)
            self.partial[name] = line
            write(self.path(name), line[: self.part_of(line)])

    @rule(name=NAMES, create=st.booleans(), late=st.integers(0, 3))
    def rename(self, name: str, create: bool, late: int) -> None:
        """As logrotate does, with writers that notice later."""
        path = self.path(name)
        if not path.exists():
            return
        self._complete(name)
        target = self._rotated(name)
        known = self.is_known(path)
        path.rename(target)
        if create or not known:  # a file that came and went between two looks is found beside the one that came next
            path.touch()
        lines = [self.line(name) for _ in range(late)]
        write(target, "".join(f"{line}\n" for line in lines))
        self.lines += lines

    @rule(name=NAMES)
    def copytruncate(self, name: str) -> None:
        path = self.path(name)
        if path.exists():
            self._complete(name)
            shutil.copy(path, self._rotated(name))
            os.truncate(path, 0)

    @rule(name=NAMES)
    def compress_the_oldest(self, name: str) -> None:
        plain = sorted(self.directory.glob(f"{name}.log.*[0-9]"))
        if plain:
            state = plain[0].stat()
            target = Path(f"{plain[0]}.gz")
            target.write_bytes(gzip.compress(plain[0].read_bytes()))
            os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))
            plain[0].unlink()

    @rule(name=NAMES, how=st.sampled_from(["truncate", "delete", "recreate", "delete_rotated"]))
    def destroy(self, name: str, how: str) -> None:
        """What was in it and is not in the queue may be lost."""
        path = self.path(name)
        victims = sorted(self.directory.glob(f"{name}.log.*")) if how == "delete_rotated" else [path]
        for victim in victims[:1]:
            if not victim.exists():
                return
            data = gzip.decompress(victim.read_bytes()) if victim.suffix == ".gz" else victim.read_bytes()
            lines = set(data.decode().splitlines())
            if victim == path and name in self.partial:
                lines.add(self.partial.pop(name))
            self.may_be_lost |= lines
            if how == "delete" and not self.is_known(victim):
                self.forget_what_was_before(name)
            if how == "truncate":
                os.truncate(victim, 0)
            else:
                victim.unlink()
            if how == "recreate":
                self.write_lines(name, 3)

    def forget_what_was_before(self, name: str) -> None:
        """Of a file that nobody saw what was rotated away is found only if there is one at its path."""
        for path in self.directory.glob(f"{name}.log.*"):
            if not self.is_known(path):
                data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                self.may_be_lost |= set(data.decode().splitlines())

    @rule(mode=st.sampled_from(["good", "good", "full", "broken", "torn", "slow"]))
    def queue_becomes(self, mode: str) -> None:
        self.tailer.queue.mode = mode

    @rule()
    def queue_catches_up(self) -> None:
        self.tailer.queue.release()

    @rule(times=st.integers(1, 4), pass_s=st.sampled_from([0.1, 0.6, 2.0, 40.0]))
    def work(self, times: int, pass_s: float) -> None:
        self.tailer.turn(times, pass_s)

    @rule(flush=st.booleans())
    def kill_9(self, flush: bool) -> None:
        if flush:
            self.tailer.queue.release()
        self.tailer.kill()

    @invariant()
    def no_line_twice(self) -> None:
        twice = [line for line, count in Counter(self.tailer.contents()).items() if count > 1]
        assert not twice, twice[:5]

    def check(self) -> None:
        for name in list(self.partial):
            self._complete(name)
        self.tailer.queue.mode = "good"
        self.tailer.queue.release()
        self.tailer.settle()
        self.tailer.settle()
        self.no_line_twice()
        got = set(self.tailer.contents())
        parts = got - set(self.lines)
        missing = [line for line in self.lines if line not in got]
        for line in list(missing):
            pieces = [part for part in parts if part and (line.startswith(part) or line.endswith(part))]
            if "".join(sorted(pieces, key=lambda part: not line.startswith(part))) == line:
                missing.remove(line)  # its end came after the file was rotated away, and it was taken in two parts
        assert not [line for line in missing if line not in self.may_be_lost], missing[:5]

    def _completing(self, name: str) -> str:
        line = self.partial.pop(name, None)
        if line is None:
            return ""
        self.lines.append(line)
        return line[self.part_of(line) :] + "\n"

    def _complete(self, name: str) -> None:
        text = self._completing(name)
        if text:
            write(self.path(name), text)

    def _rotated(self, name: str) -> Path:
        self.rotations += 1
        return self.directory / f"{name}.log.{self.rotations:04d}"


@pytest.mark.property
class TestModel(Model.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=10_000 if FUZZ else 40, stateful_step_count=25)
