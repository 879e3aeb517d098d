"""Throttled and equal events: how many leave, through kills and failures, and what becomes of the rest."""

import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.inputs.tail.arrivals import Change
from tests.support.builders import builder, make
from tests.support.tails import Tailer, write


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "app.log").touch()
    return tmp_path / "log" / "app.log"


def counted(made: Tailer) -> list[tuple[str, int]]:
    return [(event["event"]["content"], int(event["dimension"].get("repeated", 1))) for event in made.queue.events]


def say(made: Tailer, text: str) -> None:
    log = made.directory / "app.log"
    write(log, text)
    made.worker.changed(str(log), Change.WRITTEN)


BY_TIME: dict[str, Any] = {
    "parse": "logfmt",
    "event": {"content": "{m}", "timestamp": {"field": "t", "unit": "s"}, "dimension": {"file": "{path}"}},
}
STEPS = st.lists(
    st.one_of(st.sampled_from("abc"), st.sampled_from(["kill", "turn", "slow", "good", "broken"])), max_size=40
)


@settings(max_examples=60)
@given(STEPS)
def test_a_throttle_counts_on_after_a_kill(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "log"
        directory.mkdir()
        log = directory / "app.log"
        log.touch()
        made = Tailer(directory, throttle={"at_most": 2, "every": "10s", "by": "{m}"}, **BY_TIME)
        said: list[str] = []
        for number, step in enumerate(steps):
            if step in "abc":
                write(log, f"t={1_700_000_000 + number // 10 * 10} m={step}\n")
                said.append(f"{number // 10}{step}")
            else:
                made.do(step)
        made.end_well()
        sent = [f"{(e['timestamp'] - 1_700_000_000_000) // 10_000}{e['event']['content']}" for e in made.queue.events]
        assert sorted(sent) == sorted(each for each in set(said) for _ in range(min(2, said.count(each))))


def test_what_is_throttled_is_counted_and_other_keys_pass() -> None:
    rule = {"at_most": 2, "by": "{a}"}
    made = make(
        builder(parse="json", throttle=rule, event={"content": "{a}"}), '{"a":1}\n' * 5 + '{"a":2}\n' + "odd\n" * 3
    )
    assert [event["event"]["content"] for event in made.events] == ["1", "1", "2", "odd", "odd"]
    assert made.counts.throttled == 4
    many = make(
        builder(throttle={"at_most": 1, "by": "{line}"}), "".join(f"{number} {'x' * 50}\n" for number in range(999))
    )
    assert len(many.events) == 201, "two hundred keys, and one for all others"
    dropped = make(builder(parse="json", unparsed="drop", throttle={"at_most": 1}), 'odd\n{"a":1}\n')
    assert (len(dropped.events), dropped.counts.throttled) == (1, 0)


def test_equal_events_become_one_with_their_number(log: Path) -> None:
    made = Tailer(log.parent, dedupe="10s")
    made.turn()
    say(made, "a\na\na\nb\na\n")
    made.turn(pass_s=1)
    assert counted(made) == [("a", 3), ("b", 1)]
    say(made, "a\n")
    made.turn(pass_s=5)
    assert len(counted(made)) == 2
    made.turn(3, pass_s=5)
    assert counted(made) == [("a", 3), ("b", 1), ("a", 2)]
    assert made.worker.counts.lines["repeated"] == 3


def test_a_run_that_goes_on_and_on_is_sent_as_often_as_its_time_is_over(log: Path) -> None:
    made = Tailer(log.parent, dedupe="10s")
    made.turn()
    for _ in range(40):
        say(made, "a\n")
        made.turn(pass_s=1)
    found = [count for _, count in counted(made)]
    assert 3 <= len(found) <= 4
    made.settle()
    assert sum(count for _, count in counted(made)) == 40


def test_equal_but_for_their_time_are_equal_only_within_it(log: Path) -> None:
    made = Tailer(log.parent, dedupe="10s", **BY_TIME)
    write(log, "".join(f"t={1_700_000_000 + second} m=x\n" for second in (0, 3, 10, 11, 30)))
    made.settle()
    assert counted(made) == [("x", 3), ("x", 1), ("x", 1)]
    assert [event["timestamp"] for event in made.queue.events] == [
        1_700_000_000_000,
        1_700_000_011_000,
        1_700_000_030_000,
    ]


@settings(max_examples=60)
@given(STEPS, st.booleans())
def test_no_kill_changes_how_many_there_were(steps: list[str], filtered: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "log"
        directory.mkdir()
        log = directory / "app.log"
        log.touch()
        more: dict[str, Any] = {"where_not": {"line": ["c"]}} if filtered else {}
        made = Tailer(directory, dedupe="100s", **more)
        said = [step for step in steps if step in "abc"]
        for step in steps:
            if step in "abc":
                write(log, f"{step}\n")
            else:
                made.do(step)
        made.end_well()
        kept = [one for one in said if not filtered or one != "c"]
        assert "".join(text * count for text, count in counted(made)) == "".join(kept)
        pairs = [text for text, _ in counted(made)]
        assert all(one != other for one, other in itertools.pairwise(pairs))


def test_what_is_left_of_a_run_is_not_counted_before_it_is_taken_and_names_its_own_columns(log: Path) -> None:
    made = Tailer(log.parent, dedupe="10s", parse="w3c", event={"content": "a={a}"})
    made.turn()
    say(made, "#Fields: a b\n1 2\n1 2\n\n")
    for _ in range(5):
        say(made, "1 2\n")
        made.turn(pass_s=1)
    say(made, "#Fields: b a\n7 8\n")
    made.turn(3, pass_s=10)
    assert counted(made) == [("a=1", 7), ("a=8", 1)]
    assert made.worker.counts.lines["blank"] == 3


def test_runs_of_containers_mix_and_none_is_sent_twice(log: Path) -> None:
    made = Tailer(log.parent, dedupe="10s", parse="cri", event={"dimension": {"stream": "{stream}"}})
    made.turn()
    line = "2023-11-14T10:00:00Z {} {} {}\n"
    say(made, line.format("stdout", "P", "x") + line.format("stderr", "F", "e") * 2 + line.format("stdout", "F", "y"))
    made.turn(pass_s=1)
    say(made, line.format("stdout", "F", "xy"))
    made.turn(6, pass_s=5)
    assert sorted(counted(made)) == [("e", 2), ("xy", 2)]


def test_a_file_that_is_old_is_read_once_somebody_writes_to_it(log: Path) -> None:
    write(log, "old\n")
    ago = time.time() - 7200
    os.utime(log, (ago, ago))
    made = Tailer(log.parent, ignore_older="1h")
    made.settle()
    assert (made.contents(), list(made.worker.ignored.shown)) == ([], [str(log)])
    say(made, "new\n")
    made.turn(pass_s=1)
    assert made.contents() == ["old", "new"]
    assert not made.worker.ignored.shown
    os.utime(log, (ago, ago))
    made.settle()
    write(log, "more\n")
    made.settle()
    assert made.contents() == ["old", "new", "more"]


def test_where_reading_begins_at_the_end_an_old_file_is_no_exception(log: Path) -> None:
    write(log, "old\n")
    ago = time.time() - 7200
    os.utime(log, (ago, ago))
    made = Tailer(log.parent, ignore_older="1h", start_at="end")
    made.settle()
    say(made, "new\n")
    made.settle()
    assert made.contents() == ["new"]


def test_a_last_line_without_an_end_is_sent_after_a_minute_of_rest(log: Path) -> None:
    made = Tailer(log.parent, partial_after="60s")
    made.turn()
    say(made, "no end")
    made.turn(pass_s=1)
    made.turn(pass_s=58)
    assert made.contents() == []
    made.turn(2, pass_s=2)
    assert made.contents() == ["no end"]


def test_files_whose_lines_end_otherwise(log: Path) -> None:
    write(log, "before\r")
    made = Tailer(log.parent, line_end="\r", start_at="end")
    made.turn()
    say(made, "one\rtwo\nlines\rthr")
    made.turn(pass_s=1)
    made.kill()
    say(made, "ee\r")
    made.settle()
    assert made.contents() == ["one", "two\nlines", "three"]
