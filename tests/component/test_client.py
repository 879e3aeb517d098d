"""The handler for Python's logging: what it sends, and what becomes of it with a sidecar that is well, ill or away."""

import json
import logging
import logging.config
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.client import SidecarHandler
from sidecar.client.answers import Acked, Answers, BadAnswer, LineRefused, NotShown
from sidecar.client.connection import Tcp, parse_address
from sidecar.client.line import LineWriter, cut
from sidecar.client.link import pause_s
from sidecar.client.outbox import Outbox
from tests.support.line_sidecar import LineSidecar

LOGGER = logging.Logger("app.db")  # in no hierarchy: nothing else hears what it says
LOST = ("full", "unformattable", "refused", "undelivered")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s.sock")


Make = Callable[..., SidecarHandler]


@pytest.fixture
def make(path: str) -> Iterator[Make]:
    """Makes handlers, which LOGGER then has, and closes them. Their books have to balance at the end."""
    made = []

    def handler(address: str = path, **settings: Any) -> SidecarHandler:
        made.append(SidecarHandler(address, **{"close_timeout_s": 0.0, **settings}))
        LOGGER.addHandler(made[-1])
        return made[-1]

    yield handler
    for each in made:
        LOGGER.removeHandler(each)
        each.close()
        assert_balanced(each)


def assert_balanced(handler: SidecarHandler) -> None:
    counts = handler.counts
    assert counts.handed_over == counts.acknowledged + counts.waiting + sum(getattr(counts, name) for name in LOST)


def until(condition: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "sidecar-handler"]


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/s.sock", "/run/s.sock"),
        ("unix:/run/s.sock", "/run/s.sock"),
        ("unix:@app", "\0app"),
        ("@app", "@app"),
        ("tcp:127.0.0.1:10206", Tcp("127.0.0.1", 10206)),
        ("tcp:[::1]:10206", Tcp("::1", 10206)),
    ],
)
def test_an_address_is_a_path_an_abstract_name_or_a_port(text: str, address: Tcp | str) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "unix:", "tcp:", "tcp:localhost", "tcp:h:0", "tcp:h:65536", "tcp::1", "a\0b"])
def test_another_address_is_an_error_at_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected (tcp:HOST|a path)"):
        SidecarHandler(text)


# Answers

ANSWERS = b'{"acked": 2}\n\n{"line": 3, "error": "no"}\r\n{"news": 1}\n{"acked": 9}\n'
MEANING = [Acked(total=2), LineRefused(line=3, error="no"), Acked(total=9)]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_answers_mean_the_same_in_any_pieces(size: int) -> None:
    answers = Answers()
    pieces = [ANSWERS[i : i + size] for i in range(0, len(ANSWERS), size)]
    assert [answer for piece in pieces for answer in answers.feed(piece)] == MEANING
    assert answers.feed(b'{"acked": 10}') == []


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 400 Bad Request", b"[1]", b'"x"', b'{"acked": "2"}', b'{"acked": true}', b"\xff", b"[" * 60_000]
)
def test_what_is_no_answer_ends_the_connection(line: bytes) -> None:
    with pytest.raises(BadAnswer):
        Answers().feed(line + b"\n")


def test_an_answer_without_an_end_is_not_waited_for() -> None:
    with pytest.raises(BadAnswer):
        Answers().feed(b" " * 70_000)


# Lines


def write(content: str, max_line_bytes: int = 1_000_000, **settings: Any) -> bytes:
    writer = LineWriter(**{"stream": None, "target": None, "max_line_bytes": max_line_bytes, **settings})
    return writer.write("log_info", content, {"level": "INFO"}, 1587218838000)


def test_a_line_is_an_event_or_a_report_of_one() -> None:
    event = {
        "event_name": "log_info",
        "event": {"content": "a\nb"},
        "dimension": {"level": "INFO"},
        "timestamp": 1587218838000,
    }
    assert json.loads(write("a\nb")) == event
    assert json.loads(write("a\nb", target="0:10.0.0.9")) == event | {"target": "0:10.0.0.9"}
    assert json.loads(write("a\nb", stream="app")) == {"stream": "app", "data": [event]}


@pytest.mark.property
@given(st.text())
def test_a_line_holds_any_text_and_no_line_break(text: str) -> None:
    line = write(text)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)["event"]["content"] == text


def test_half_a_surrogate_pair_travels_as_its_escape() -> None:
    assert json.loads(write("a\udc80b").decode("ascii"))["event"]["content"] == "a\udc80b"


def written_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace")) - 2


@pytest.mark.property
@given(st.text(st.sampled_from('ab\\"\n\0é中😀\udc80'), max_size=30), st.integers(0, 60))
def test_a_cut_is_the_longest_beginning_that_fits(text: str, limit_bytes: int) -> None:
    kept = cut(text, limit_bytes)
    assert text.startswith(kept)
    assert written_bytes(kept) <= limit_bytes
    assert kept == text or written_bytes(text[: len(kept) + 1]) > limit_bytes


@pytest.mark.parametrize("content", ["x" * 300, "中" * 300, "\0" * 300, "x" * 5000])
def test_a_line_that_is_too_long_is_cut_and_says_so(content: str) -> None:
    line = write(content, 256)
    event = json.loads(line)
    assert 256 - 6 < len(line) <= 256
    assert content.startswith(event["event"]["content"])
    assert event["dimension"] == {"level": "INFO", "truncated": "true"}


def test_a_line_fits_exactly() -> None:
    size = len(write("x" * 300))
    assert "truncated" not in json.loads(write("x" * 300, size))["dimension"]
    assert "truncated" in json.loads(write("x" * 300, size - 1))["dimension"]


def test_where_the_rest_is_too_long_there_is_no_line() -> None:
    with pytest.raises(ValueError, match="dimensions alone"):
        write("x", 50)


# What is settled


def outbox_of(lines: int, *, sent: int | None = None) -> Outbox:
    outbox = Outbox(1000)
    for i in range(lines):
        assert outbox.put(b"%d" % (i % 10))
    outbox.take(lines if sent is None else sent)
    return outbox


def figures(outbox: Outbox) -> tuple[int, int, int]:
    return outbox.acknowledged, outbox.refused, len(outbox)


def test_an_acknowledgement_settles_the_first_lines_that_are_not_refused() -> None:
    outbox = outbox_of(5)
    outbox.apply(LineRefused(line=2, error="bad"))
    assert figures(outbox) == (0, 0, 5)
    outbox.apply(Acked(total=2))
    assert figures(outbox) == (2, 1, 2)
    assert outbox.is_settled(3)
    assert not outbox.is_settled(4)
    outbox.connection_lost()
    assert outbox.take(100) == b"34"


def test_a_refusal_at_the_front_settles_by_itself() -> None:
    outbox = outbox_of(2)
    outbox.apply(LineRefused(line=1, error="bad"))
    assert figures(outbox) == (0, 1, 1)


def test_an_acknowledgement_ahead_of_a_refusal_settles_no_line_too_many() -> None:
    outbox = outbox_of(4)
    outbox.apply(Acked(total=2))  # the lines 1 and 3, as will turn out
    assert figures(outbox) == (2, 0, 2)
    outbox.apply(LineRefused(line=2, error="bad"))
    assert figures(outbox) == (2, 1, 1)
    assert outbox.is_settled(3)


def test_refusals_that_were_not_shown_are_settled_once_all_is_answered() -> None:
    outbox = outbox_of(6)
    outbox.apply(Acked(total=2))
    outbox.apply(LineRefused(line=3, error="bad"))
    outbox.apply(NotShown(lines=2))
    assert figures(outbox) == (2, 1, 3)
    outbox.apply(Acked(total=3))
    assert figures(outbox) == (3, 3, 0)
    outbox = outbox_of(2)
    with pytest.raises(BadAnswer):
        outbox.apply(NotShown(lines=3))
    assert Answers().feed(b'{"not_shown":7,"error":"x"}\n') == [NotShown(lines=7)]


def test_lines_are_counted_anew_on_each_connection() -> None:
    outbox = outbox_of(4, sent=3)
    outbox.apply(Acked(total=1))
    outbox.apply(LineRefused(line=3, error="bad"))
    outbox.connection_lost()
    assert figures(outbox) == (1, 1, 2)
    assert outbox.take(100) == b"13"
    outbox.apply(Acked(total=1))
    outbox.apply(Acked(total=2))
    assert figures(outbox) == (3, 1, 0)


def test_what_is_not_settled_fills_the_buffer() -> None:
    outbox = Outbox(10)
    assert [outbox.put(b"1234") for _ in range(3)] == [True, True, False]
    assert outbox.take(1) == b"1234"
    assert not outbox.put(b"123")
    outbox.apply(Acked(total=1))
    assert outbox.put(b"123456")
    assert outbox.full == 2


@pytest.mark.parametrize("refused", [0, 3])
def test_a_refusal_of_no_open_line_is_a_bad_answer(refused: int) -> None:
    with pytest.raises(BadAnswer):
        outbox_of(3, sent=2).apply(LineRefused(line=refused, error="bad"))


def test_contradictions_are_bad_answers() -> None:
    outbox = outbox_of(3, sent=2)
    with pytest.raises(BadAnswer):
        outbox.apply(Acked(total=3))
    outbox = outbox_of(3)
    outbox.apply(Acked(total=2))
    with pytest.raises(BadAnswer):
        outbox.apply(Acked(total=1))
    outbox.apply(LineRefused(line=3, error="bad"))
    with pytest.raises(BadAnswer):
        outbox.apply(LineRefused(line=3, error="bad"))


@pytest.mark.property
@given(st.data())
def test_no_line_is_lost_whatever_the_sidecar_does(data: st.DataObject) -> None:
    """A sidecar that keeps what it acknowledges, whose answers come late, in parts or never, over many connections."""
    outbox, kept, refused = Outbox(10_000), [], set()
    bad = data.draw(st.sets(st.integers(0, 19)))
    for number in range(20):
        outbox.put(b"%d\n" % number)
    for _ in range(data.draw(st.integers(1, 5))):
        lines = [int(line) for line in outbox.take(data.draw(st.integers(0, 60))).splitlines()]
        reached = data.draw(st.integers(0, len(lines)))
        good = [number for number in lines[:reached] if number not in bad]
        kept += good
        refusals = [place for place, number in enumerate(lines[:reached], 1) if number in bad]
        late = data.draw(st.booleans())
        acked = data.draw(st.integers(0, len(good)))
        for place in () if late else refusals:
            outbox.apply(LineRefused(line=place, error="bad"))
        outbox.apply(Acked(total=acked))
        for place in refusals if late else ():
            outbox.apply(LineRefused(line=place, error="bad"))
        refused |= {lines[place - 1] for place in refusals}
        outbox.connection_lost()
        assert outbox.acknowledged + outbox.refused + len(outbox) == 20
    left = {int(line) for line in outbox.take(10_000).splitlines()}
    assert left | set(kept) | refused == set(range(20))


def test_pauses_grow_up_to_a_limit_and_differ() -> None:
    assert [round(pause_s(failures, 0.9999), 1) for failures in (1, 2, 3, 7, 8, 1000)] == [0.1, 0.2, 0.4, 6.4, 10, 10]
    assert pause_s(4, 0.0) == pytest.approx(0.4)


# With a sidecar that is well


def test_importing_it_costs_nothing_but_the_standard_library() -> None:
    script = (
        "import sys; before = set(sys.modules); import sidecar.client\n"
        "names = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "own = sorted(name for name in sys.modules if name.startswith('sidecar.') and 'sidecar.client' not in name)\n"
        "print(sorted(names - set(sys.stdlib_module_names) - {'sidecar'}), own)"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout == "[] []\n"


def test_a_record_becomes_an_event(path: str, make: Make) -> None:
    handler = make(
        stream="app", target="0:10.0.0.9", event_name="{logger}_{level}", dimensions={"module": "db", "n": 1}
    )
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    with LineSidecar(path) as sidecar:
        LOGGER.warning("slow: %d ms", 7, extra={"dimensions": {"n": 2, "user": None}})
        assert handler.flush()
        document = json.loads(sidecar.kept[0])
    stamp = document["data"][0].pop("timestamp")
    assert abs(stamp - time.time() * 1000) < 5000
    assert document == {
        "stream": "app",
        "data": [
            {
                "event_name": "app.db_warning",
                "target": "0:10.0.0.9",
                "event": {"content": "WARNING slow: 7 ms"},
                "dimension": {"logger": "app.db", "level": "WARNING", "module": "db", "n": "2", "user": "None"},
            }
        ],
    }


def test_an_exception_comes_with_its_traceback(path: str, make: Make) -> None:
    handler = make()
    with LineSidecar(path) as sidecar:
        try:
            raise KeyError("k")
        except KeyError:
            LOGGER.exception("oh")
        assert handler.flush()
        (event,) = sidecar.events()
    assert event["event_name"] == "log_error"
    assert event["event"]["content"].startswith("oh\nTraceback")
    assert event["event"]["content"].endswith("KeyError: 'k'")


@pytest.mark.parametrize("kind", ["unix:PATH", "unix:@bkmonitor-test-PID", "tcp:127.0.0.1:PORT"])
def test_it_finds_the_sidecar_where_it_listens(kind: str, path: str, make: Make) -> None:
    kind = kind.replace("PID", str(os.getpid()))
    listen = None if kind.startswith("tcp") else path if kind.endswith("PATH") else "\0" + kind.removeprefix("unix:@")
    with LineSidecar(listen) as sidecar:
        handler = make(kind.replace("PATH", path).replace("PORT", str(sidecar.port)))
        LOGGER.info("hello")
        assert handler.flush()
        assert sidecar.contents() == ["hello"]


def test_every_line_of_many_threads_arrives_exactly_once_and_in_order(path: str, make: Make) -> None:
    handler = make()

    def log(thread: int) -> None:
        for i in range(1000):
            LOGGER.info("%d %d", thread, i)

    with LineSidecar(path) as sidecar:
        loggers = [threading.Thread(target=log, args=(i,), name=f"logs-{i}") for i in range(4)]
        for each in loggers:
            each.start()
        for each in loggers:
            each.join()
        assert handler.flush()
        contents = sidecar.contents()
        assert sidecar.connections == 1
    for thread in range(4):
        own = [content for content in contents if content.startswith(f"{thread} ")]
        assert own == [f"{thread} {i}" for i in range(1000)]
    assert handler.counts.acknowledged == len(contents) == 4000


def test_long_lines_arrive_whole(path: str, make: Make) -> None:
    handler = make()
    contents = [f"{i} " + "中" * 100_000 for i in range(20)]
    with LineSidecar(path) as sidecar:
        for content in contents:
            LOGGER.info(content)
        assert handler.flush()
        assert sidecar.contents() == contents


def test_an_idle_handler_sleeps(path: str, make: Make) -> None:
    with LineSidecar(path) as sidecar:
        handler = make()
        for i in range(200):
            LOGGER.info("%d", i)
            time.sleep(0 if i % 10 else 0.001)
        assert handler.flush()
        sidecar.reads = False
        cpu_s = time.process_time()
        time.sleep(0.2)
        assert time.process_time() - cpu_s < 0.1


def test_a_refused_line_is_counted_and_holds_up_no_other(path: str, make: Make) -> None:
    handler = make()
    with LineSidecar(path, refuses=lambda line: b"bad" in line) as sidecar:
        for text in ("bad 1", "good 1", "bad 2", "bad 3", "good 2"):
            LOGGER.info(text)
        assert handler.flush()
        assert sidecar.contents() == ["good 1", "good 2"]
    counts = handler.counts
    assert (counts.acknowledged, counts.refused, counts.waiting) == (2, 3, 0)
    assert counts.last_error is not None
    assert "not like this" in counts.last_error


def test_it_can_be_configured_with_a_dict(path: str) -> None:
    logger = logging.getLogger("app.configured")
    with LineSidecar(path) as sidecar:
        handlers = {"sidecar": {"class": "sidecar.client.SidecarHandler", "address": path, "stream": "app"}}
        loggers = {"app.configured": {"handlers": ["sidecar"], "level": "INFO", "propagate": False}}
        logging.config.dictConfig({
            "version": 1, "disable_existing_loggers": False, "incremental": False, "handlers": handlers,
            "loggers": loggers,
        })  # fmt: skip
        (handler,) = logger.handlers
        assert isinstance(handler, SidecarHandler)
        logger.info("hello")
        logger.removeHandler(handler)
        handler.close()
        assert json.loads(sidecar.kept[0])["stream"] == "app"
    assert handler.counts.acknowledged == 1


def test_the_last_words_of_a_program_arrive(path: str) -> None:
    script = (
        "import logging, sys; from sidecar.client import SidecarHandler\n"
        "logging.getLogger().addHandler(SidecarHandler(sys.argv[1])); logging.warning('goodbye')"
    )
    with LineSidecar(path) as sidecar:
        run = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True)
        assert sidecar.contents() == ["goodbye"]
    assert run.stderr == b""


# With a sidecar that is ill or away


def test_without_a_sidecar_it_neither_blocks_nor_raises(path: str, make: Make) -> None:
    handler = make()
    began_s = time.monotonic()
    for i in range(1000):
        LOGGER.info("%d", i)
    assert time.monotonic() - began_s < 20
    assert not handler.flush(0.05)
    assert handler.counts.waiting == 1000
    assert handler.counts.last_error == f"{path}: No such file or directory"
    with LineSidecar(path) as sidecar:
        assert handler.flush()
        assert sidecar.contents() == [str(i) for i in range(1000)]
    assert handler.counts.reconnects == 0


def test_what_was_not_acknowledged_when_the_connection_broke_is_sent_again(path: str, make: Make) -> None:
    handler = make()
    with LineSidecar(path, hang_up_after=3) as sidecar:
        LOGGER.info("first")
        assert handler.flush()
        LOGGER.info("second")
        until(lambda: handler.counts.waiting == 0)
        LOGGER.info("third")  # kept, but the connection ends before it says so
        assert handler.flush()
        assert sidecar.contents() == ["first", "second", "third", "third"]
    assert handler.counts.acknowledged == 3
    assert handler.counts.reconnects == 1
    assert handler.counts.last_error == f"{path}: the sidecar closed the connection"


def test_it_outlives_a_restart_of_the_sidecar(path: str, make: Make) -> None:
    handler = make()
    contents = []
    for i in range(3):
        with LineSidecar(path) as sidecar:
            LOGGER.info("%d", i)
            assert handler.flush()
            contents += sidecar.contents()
        Path(path).unlink()
    assert contents == ["0", "1", "2"]


def test_the_end_of_a_connection_that_nobody_needs_is_no_error(path: str, make: Make) -> None:
    handler = make()
    with LineSidecar(path) as sidecar:
        LOGGER.info("1")
        assert handler.flush()
        sidecar.hang_up()
        until(lambda: handler._link._sock is None)
        assert handler.counts.last_error is None
        LOGGER.info("2")
        assert handler.flush()
        assert sidecar.contents() == ["1", "2"]
    assert handler.counts.reconnects == 1


def test_a_server_that_is_no_sidecar_gets_nothing_acknowledged(path: str, make: Make) -> None:
    handler = make()
    with LineSidecar(path) as sidecar:
        sidecar._judge = lambda peer, line: b"220 mail.example ESMTP\n"  # type: ignore[method-assign]
        LOGGER.info("hello")
        until(lambda: "expected JSON" in (handler.counts.last_error or ""))
    assert handler.counts.acknowledged == 0
    assert handler.counts.waiting == 1


def test_a_sidecar_that_reads_nothing_blocks_nobody(path: str, make: Make) -> None:
    handler = make(buffer_bytes=1_000_000)
    with LineSidecar(path, reads=False):
        began_s = time.monotonic()
        for _ in range(200):
            LOGGER.info("x" * 10_000)
        assert not handler.flush(0.1)
        handler.close()
        assert time.monotonic() - began_s < 20
    counts = handler.counts
    assert counts.full > 100
    assert counts.full + counts.undelivered == 200
    assert threads() == []


def test_what_a_sidecar_never_acknowledges_stays_in_the_buffer(path: str, make: Make) -> None:
    handler = make(buffer_bytes=2000)
    with LineSidecar(path, acks=False) as sidecar:
        for i in range(100):
            LOGGER.info("%d", i)
        until(lambda: len(sidecar.kept) == handler.counts.waiting)
        assert not handler.flush(0.05)
    counts = handler.counts
    assert counts.acknowledged == 0
    assert counts.waiting + counts.full == 100
    assert 5 < counts.waiting < 20


@pytest.mark.parametrize("listening", [True, False])
def test_closing_takes_no_longer_than_it_may(path: str, make: Make, listening: bool) -> None:
    handler = make(close_timeout_s=0.2)
    with LineSidecar(path if listening else path + "2", acks=False):
        LOGGER.info("never acknowledged")
        began_s = time.monotonic()
        handler.close()
        assert 0.2 <= time.monotonic() - began_s < 20
        handler.close()
        assert time.monotonic() - began_s < 20
    assert handler.counts.undelivered == 1
    assert threads() == []


def test_at_the_exit_it_waits_no_longer_than_it_may(make: Make) -> None:
    """Before 3.12 logging flushes each handler, under its lock, and then closes it."""
    handler = make(close_timeout_s=2.0)
    LOGGER.info("nobody is there")
    began_s = time.monotonic()
    logging.shutdown([lambda: handler])
    assert 2.0 <= time.monotonic() - began_s < 4.0  # once, not twice
    assert handler.counts.undelivered == 1


def test_closing_ends_the_thread_in_the_midst_of_a_pause(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.client.link._FIRST_PAUSE_S", 10.0)
    handler = make(close_timeout_s=0.2)
    LOGGER.info("nobody is there")
    handler.close()
    assert threads() == []


def test_closing_brings_through_what_waits_for_the_end_of_a_pause(path: str, make: Make) -> None:
    handler = make(close_timeout_s=2.0)
    handler._link._failures = 10  # the next pause is one of the longest
    LOGGER.info("late")
    until(lambda: handler.counts.last_error)
    with LineSidecar(path) as sidecar:
        handler.close()
        assert sidecar.contents() == ["late"]
    assert handler.counts.acknowledged == 1


def test_after_the_end_records_are_counted_and_nothing_starts_again(make: Make) -> None:
    handler = make()
    handler.close()
    LOGGER.info("too late")
    assert handler.counts.undelivered == 1
    assert handler.flush()
    assert threads() == []


class Unprintable(Exception):
    def __str__(self) -> str:
        raise Unprintable


def test_what_cannot_be_formatted_is_counted_without_a_word(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    handler = make(max_line_bytes=1000)
    LOGGER.info("%d", "x")
    LOGGER.info("%s", Unprintable())
    LOGGER.info("x", extra={"dimensions": {"a": Unprintable()}})
    LOGGER.info("x", extra={"dimensions": {"a": "x" * 1000}})
    assert handler.counts.unformattable == handler.counts.handed_over == 4
    assert handler.counts.last_error is not None
    assert handler.counts.last_error.startswith("unformattable: ")
    assert capsys.readouterr() == ("", "")
    assert threads() == []


def test_what_is_no_mapping_is_somebody_elses(path: str, make: Make) -> None:
    handler = make()
    with LineSidecar(path) as sidecar:
        LOGGER.info("x", extra={"dimensions": (800, 600)})
        assert handler.flush()
        assert sidecar.events()[0]["dimension"] == {"logger": "app.db", "level": "INFO"}


@pytest.mark.parametrize("name", ["{message}", "{0}", "{", "{level.no}", "{level[x]}"])
def test_a_name_of_events_that_will_not_do_is_an_error_at_once(name: str) -> None:
    with pytest.raises(ValueError, match="event_name"):
        SidecarHandler(event_name=name)


def test_where_no_thread_can_be_started_lines_wait(path: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with LineSidecar(path) as sidecar:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            LOGGER.info("1")
            assert handler.counts.last_error == "no thread: can't start new thread"
        LOGGER.info("2")
        assert handler.flush()
        assert sidecar.contents() == ["1", "2"]


def test_a_record_that_is_logged_while_another_is_put_in_blocks_nobody(path: str, make: Make) -> None:
    """As by a signal handler, or by a finaliser."""
    handler = make()
    with LineSidecar(path) as sidecar:
        with handler._link._lock:
            LOGGER.info("in the midst")
        assert handler.flush()
        assert sidecar.contents() == ["in the midst"]


# Forks


def in_child(what: Callable[[], None]) -> None:
    """Runs it in a forked process. Raises if that ends badly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of threads, which is what is tested
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            what()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_child_has_a_connection_of_its_own(path: str, make: Make) -> None:
    handler = make()

    def child() -> None:
        assert handler.counts.handed_over == 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        LOGGER.info("child")
        assert handler.flush()
        assert handler.counts.acknowledged == 1

    with LineSidecar(path) as sidecar:
        LOGGER.info("parent 1")
        assert handler.flush()
        assert handler._link._sock is not None
        descriptor = handler._link._sock.fileno()
        in_child(child)
        LOGGER.info("parent 2")
        assert handler.flush()
        assert sidecar.contents() == ["parent 1", "child", "parent 2"]
        assert sidecar.connections == 2
    assert handler.counts.acknowledged == 2


def test_a_child_leaves_to_the_parent_what_the_parent_holds(path: str, make: Make) -> None:
    handler = make()
    LOGGER.info("parent")
    until(lambda: handler.counts.last_error)

    def child() -> None:
        assert handler.counts.waiting == 0
        assert handler.flush(0.0)
        LOGGER.info("child")
        handler.close()

    in_child(child)
    with LineSidecar(path) as sidecar:
        assert handler.flush()
        assert sidecar.contents() == ["parent"]


def test_a_child_may_log_whatever_the_parents_threads_held(path: str, make: Make) -> None:
    handler = make()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with handler._link._lock:
            held.set()
            done.wait()

    def child() -> None:
        LOGGER.info("child")
        assert handler.flush()

    holder = threading.Thread(target=hold, name="holds")
    with LineSidecar(path) as sidecar:
        holder.start()
        held.wait()
        try:
            in_child(child)
        finally:
            done.set()
            holder.join()
        assert sidecar.contents() == ["child"]
