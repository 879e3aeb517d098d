"""Logs of containers through kills, rotations and full queues: each line of the program once."""

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tails import Tailer, write

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from(["stdout", "stderr"]), st.integers(1, 4)),
        st.tuples(st.sampled_from(["kill", "rotate", "turn", "slow", "good", "broken"]), st.just(""), st.just(0)),
    ),
    max_size=30,
)


class Container:
    """A program whose lines its runtime writes; each goes to one of two streams, in some parts."""

    def __init__(self, log: Path) -> None:
        self.log, self.said, self._pending = log, list[str](), dict[str, list[str]]()

    def say(self, stream: str, parts: int) -> None:
        """Begin a line, after the rest of the one before; parts of both streams mix."""
        self.finish(stream)
        text = [f"{stream} line {len(self.said)} part {number};" for number in range(parts)]
        self.said.append("".join(text))
        self._pending[stream] = text
        self._write(stream, last=parts == 1)

    def finish(self, stream: str) -> None:
        while self._pending.get(stream):
            self._write(stream, last=len(self._pending[stream]) == 1)

    def _write(self, stream: str, *, last: bool) -> None:
        write(self.log, f"2026-11-27T10:00:00.1Z {stream} {'F' if last else 'P'} {self._pending[stream].pop(0)}\n")


def test_who_was_killed_finds_the_names_of_the_columns_again(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    log = directory / "w3c.log"
    write(log, "#Fields: a b\n1 2\n#Fields: b a\n")
    made = Tailer(directory, parse="w3c", event={"content": "a={a} b={b}"})
    made.settle()
    made.kill()
    write(log, "3 4\n")
    made.settle()
    made.queue.mode = "broken"
    write(log, "#Fields: a b\n5 6\n")
    made.turn()
    made.queue.mode = "good"
    made.settle()
    log.rename(f"{log}.1")
    write(log, "#Fields: a c\n7 8\n")
    made.settle()
    assert made.contents() == ["a=1 b=2", "a=4 b=3", "a=5 b=6", "a=7 b="]


@settings(max_examples=60)
@given(STEPS)
def test_every_line_of_a_program_once(steps: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "log"
        directory.mkdir()
        pod = Container(directory / "0.log")
        pod.log.touch()
        made = Tailer(directory, parse="cri")
        made.turn(pass_s=2)
        for number, (step, stream, parts) in enumerate(steps):
            match step:
                case "say":
                    pod.say(stream, parts)
                case "rotate":
                    pod.finish("stdout")
                    pod.finish("stderr")
                    made.turn(pass_s=2)
                    pod.log.rename(f"{pod.log}.20261127-10{number:04d}")
                    pod.log.touch()
                case _:
                    made.do(step)
        pod.finish("stdout")
        pod.finish("stderr")
        made.end_well()
        assert Counter(made.contents()) == Counter(pod.said)
        assert made.queue.losses == []
