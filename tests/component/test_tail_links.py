"""Every name that a file is known by counts: links, their targets, hard links; and what the kubelet does with them."""

import gzip
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.tails import Tailer, write


class Pod:
    """A container's log as the kubelet keeps it: `containers/NAME.log` leads over `depth` links to `pods/c/0.log`."""

    def __init__(self, root: Path, depth: int) -> None:
        self.directory = root / "log" / "pods" / "c"
        self.directory.mkdir(parents=True)
        (root / "log" / "containers").mkdir()
        self.log = self.directory / "0.log"
        self.log.touch()
        target = self.log
        for number in range(depth):
            link = root / "log" / (f"via{number}.lnk" if number < depth - 1 else "containers/pod_ns_ctr-abc.log")
            link.symlink_to(target)
            target = link
        self.lines: list[str] = []
        self.generation = 0

    def say(self, count: int) -> None:
        new = [
            f"2026-11-27T10:00:00.{len(self.lines) + number:09d}Z stdout F line of generation {self.generation}"
            for number in range(count)
        ]
        write(self.log, "".join(f"{line}\n" for line in new))
        self.lines += new

    def rotate(self, between: Any = lambda: None) -> None:
        """Rename, make a new one, compress the one before by way of `.tmp`, remove it, and all but five."""
        old = sorted(self.directory.glob("0.log.*[0-9]"))
        self.log.rename(self.directory / f"0.log.20261127-{100000 + self.generation}")
        between()
        self.log.touch()
        between()
        for path in old:
            packing = Path(f"{path}.tmp")
            packing.write_bytes(gzip.compress(path.read_bytes()))
            between()
            packing.rename(f"{path}.gz")
            between()
            path.unlink()
        self.generation += 1


def tailer(tmp_path: Path, **settings: Any) -> Tailer:
    return Tailer(tmp_path / "log", **{"paths": [f"{tmp_path}/log/containers/*.log"], **settings})


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("lines", [3, 50])
@pytest.mark.parametrize("looks", ["seldom", "always"])
def test_a_log_of_kubernetes_through_ten_generations_while_it_runs(
    tmp_path: Path, depth: int, lines: int, looks: str
) -> None:
    pod = Pod(tmp_path, depth)
    made = tailer(tmp_path)
    made.turn()
    for _ in range(10):
        pod.say(lines)
        made.turn(2)
        pod.rotate(made.turn if looks == "always" else lambda: None)
        made.turn(2)
    pod.say(1)
    made.settle()
    assert made.contents() == pod.lines
    assert made.queue.losses == []


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_a_log_of_kubernetes_through_generations_while_it_is_down(tmp_path: Path, depth: int, rounds: int) -> None:
    pod = Pod(tmp_path, depth)
    made = tailer(tmp_path)
    made.turn()
    for _ in range(3):
        pod.say(40)
        made.turn(2)
        made.kill()
        for _ in range(rounds):
            pod.say(40)
            pod.rotate()
        made.turn(3)
    pod.say(1)
    made.settle()
    assert Counter(made.contents()) == Counter(pod.lines)
    assert made.contents() == pod.lines
    assert made.queue.losses == []


def test_a_link_and_its_target_may_both_match(tmp_path: Path) -> None:
    pod = Pod(tmp_path, 1)
    made = tailer(tmp_path, paths=[f"{tmp_path}/log/containers/*.log", f"{tmp_path}/log/pods/*/0.log*"])
    made.turn()
    for _ in range(5):
        pod.say(30)
        made.turn(2)
        pod.rotate(made.turn)
    made.settle()
    assert made.contents() == pod.lines
    assert made.queue.losses == []


def test_a_hard_link_is_another_name_of_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    log = tmp_path / "log" / "app.log"
    made = Tailer(tmp_path / "log")
    write(log, "1\n")
    os.link(log, tmp_path / "log" / "other.log")
    made.turn(2)
    log.unlink()
    write(tmp_path / "log" / "other.log", "2\n")
    made.settle()
    assert made.contents() == ["1", "2"]
    assert made.queue.losses == []


@pytest.mark.parametrize("looks", ["seldom", "always"])
def test_what_a_link_leads_to_is_not_rotated_away_whatever_its_name(tmp_path: Path, looks: str) -> None:
    """`app.log` leads to `app.log.00001`, then to `app.log.00002`: names as those of rotated files."""
    log = tmp_path / "log"
    log.mkdir()
    link, lines = log / "app.log", list[str]()
    made = Tailer(log)
    made.turn()
    for number in range(1, 8):
        target = Path(f"{link}.{number:05d}")
        target.touch()
        fresh = log / "fresh"
        fresh.symlink_to(target.name)
        fresh.rename(link)
        for _ in range(3):
            new = [f"line {len(lines) + count}" for count in range(20)]
            write(target, "".join(f"{line}\n" for line in new))
            lines += new
            if looks == "always" or number % 3 == 0:
                made.turn(2)
    made.settle()
    assert made.contents() == lines
    assert made.queue.losses == []
