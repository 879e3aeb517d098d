"""Whatever a client sends, in whatever pieces: its connection has a timer, holds little, and answers in order."""

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.errors import Unavailable
from sidecar.core.hops import Hops
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.http import Guard, Shared, bounded, intake_protocol
from sidecar.inputs.http.bounded import BoundedProtocol, ConnectionLimits

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v2/push/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"POST /v2/push/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
PIECES = [
    GET, POST, CHUNKED, UPGRADE, b"\r\n", b"\r\n\r\n", b"GET ", b"nonsense\r\n\r\n", GET[:-2], POST[:-1], b"\n",
    b"\x00",
    GET * 3, POST * 3, POST + GET + CHUNKED, b"POST /v2/push HTTP/1.0\r\n\r\n",
    b"POST /v2/push/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n",
]  # fmt: skip


class Task:
    def add_done_callback(self, _: object) -> None: ...


class Loop:
    """A loop whose time is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[asyncio.TimerHandle] = []
        self.soon: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.tasks: list[Any] = []

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, _: object) -> None: ...

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self)  # type: ignore[arg-type]
        self.timers.append(handle)
        return handle

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self.soon.append((callback, args))

    def create_task(self, coroutine: Any, **_: Any) -> Any:
        self.tasks.append(coroutine)
        return Task()

    @property
    def live(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self.timers if not timer.cancelled()]

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        for timer in [timer for timer in self.live if timer.when() <= self.now_s]:
            self.timers.remove(timer)
            timer._run()
        self.turn()

    def turn(self) -> None:
        while self.soon:
            callback, args = self.soon.pop(0)
            callback(*args)


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.closing = self.aborted = self.paused = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 6)}.get(name, default)

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Connection:
    """One connection to the intake's protocol; what is asked is answered when a test says so."""

    def __init__(self) -> None:
        self.loop, self.transport = Loop(), Transport()
        self.unsettled: list[Callable[[Exception | None], None]] = []
        shared = Shared(
            self.accept, self.accept_large, Guard("127.0.0.1", ()), InputCounts("http", "http"), Hops("0" * 16),
            max_body_bytes=100_000, max_connections=5,
        )  # fmt: skip
        state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[], total_requests=0)
        config = SimpleNamespace(
            loaded=True, loaded_app=None, http_protocol_class=None, ws_protocol_class=None, root_path="",
            access_log=False, limit_concurrency=None, timeout_keep_alive=75, asgi_version="3.0",
            h11_max_incomplete_event_size=None, reset_contextvars=False,
        )  # fmt: skip
        self.protocol = intake_protocol(shared)(config=config, server_state=state, app_state={}, _loop=self.loop)
        self.shared = shared
        self.protocol.connection_made(self.transport)

    def accept(self, _: bytes, done: Callable[[Exception | None], None], __: object) -> Any:
        self.unsettled.append(done)
        return SimpleNamespace(events=1, bytes=2, repaired=False)

    def accept_large(self, _: bytes, accepted: Callable[[Any], None], done: Callable[..., None], __: object) -> None:
        accepted(self.accept(b"", done, None))

    def send(self, data: bytes) -> None:
        assert not self.transport.paused
        self.protocol.data_received(data)

    def answer(self) -> None:
        """Answer the request whose turn it is."""
        if self.unsettled:
            self.unsettled.pop(0)(None)
        elif self.loop.tasks:
            self.loop.tasks.pop(0).close()
            cycle = self.protocol.cycle
            cycle.response_complete = True
            self.transport.write(b"HTTP/1.1 204 \r\n\r\n")
            if not cycle.keep_alive:
                self.transport.close()
            self.protocol.on_response_complete()
        self.loop.turn()

    def end(self) -> None:
        for task in self.loop.tasks:
            task.close()


STEP = st.one_of(
    st.sampled_from(PIECES).map(lambda piece: ("send", piece)),
    st.binary(max_size=20).map(lambda piece: ("send", piece)),
    st.just(("answer", b"")),
    st.sampled_from(["deaf", "hear", "eof"]).map(lambda what: (what, b"")),
    st.floats(0, 200).map(lambda seconds: ("wait", seconds)),
)


def take_step(made: Connection, what: str, value: Any) -> None:
    protocol, transport = made.protocol, made.transport
    may_come = not transport.paused and not protocol._eof
    match what:
        case "send" if may_come:
            protocol.data_received(value)
        case "answer":
            made.answer()
        case "deaf":
            protocol.pause_writing()
        case "hear":
            protocol.resume_writing()
        case "eof" if may_come and not protocol.eof_received():
            transport.close()
        case "wait":
            made.loop.advance(value)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_a_connection_has_a_timer_at_every_moment_and_ends(steps: list[tuple[str, Any]]) -> None:
    logging.disable()
    made = Connection()
    protocol, transport = made.protocol, made.transport
    for what, value in steps:
        take_step(made, what, value)
        made.loop.turn()
        if transport.aborted:
            break
        assert len(made.loop.live) == 1, f"after {what}"
        assert made.loop.live[0].when() <= made.loop.now_s + 120
        assert len(protocol.pipeline) <= 60
        waits = bool(protocol._held) or protocol.flow.write_paused
        assert transport.paused == waits or transport.is_closing()
    for _ in range(100):  # the sidecar answers what is asked, and nobody says anything any more
        for _ in range(100):
            if made.unsettled or made.loop.tasks:
                made.answer()
        made.loop.advance(30)
        if transport.aborted:
            break
    made.end()
    assert transport.aborted
    logging.disable(logging.NOTSET)


def test_empty_lines_are_no_request_and_keep_no_connection() -> None:
    made = Connection()
    made.send(POST)
    made.answer()
    for _ in range(9):
        made.loop.advance(8)
        made.send(b"\r\n")
    assert not made.transport.is_closing()
    made.loop.advance(4)
    assert made.transport.is_closing()


def test_requests_are_parsed_one_at_a_time_and_answered_in_order() -> None:
    made = Connection()
    made.send(POST * 1000)
    assert (len(made.unsettled), len(made.protocol.pipeline), made.transport.paused) == (1, 0, True)
    for _ in range(1000):
        assert len(made.unsettled) == 1
        made.answer()
    assert made.transport.written.count(b"HTTP/1.1 200") == 1000
    assert not made.transport.paused


def test_many_bad_requests_at_once_leave_others_their_turn() -> None:
    made = Connection()
    made.send(POST.replace(b"localhost", b"evil.site") * 100)
    assert not made.transport.paused or made.loop.soon
    made.loop.turn()
    assert made.transport.written.count(b"HTTP/1.1 403") == 100


def test_the_answer_to_each_of_the_requests_is_given_before_the_client_that_sends_no_more_is_left() -> None:
    made = Connection()
    made.send(POST * 3 + POST[:30])
    assert made.protocol.eof_received()
    for _ in range(3):
        assert not made.transport.is_closing()
        made.answer()
    assert made.transport.is_closing()
    assert made.transport.written.count(b"HTTP/1.1 200") == 3


def test_what_all_hold_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "_MAX_HELD_BYTES", 10_000)
    made = Connection()
    made.send(POST * 1000)
    made.answer()
    assert made.protocol._limits.held_bytes == 0
    assert made.transport.is_closing()
    assert made.transport.written.count(b"HTTP/1.1 200") == 1


def test_a_connection_that_is_lost_gives_back_what_it_held() -> None:
    made = Connection()
    made.send(POST * 1000)
    assert made.protocol._limits.held_bytes > 50_000
    made.protocol.connection_lost(None)
    assert made.protocol._limits.held_bytes == 0
    assert made.loop.live == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000, b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 102, b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /v2/push/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"400"),
        (b"POST /v2/push/ HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", b"400"),
        (b"POST /v2/push/ HTTP/1.1\r\nHost: x@localhost\r\nContent-Length: 0\r\n\r\n", b"403"),
    ],
)
def test_bad_heads_are_told_what_is_wrong(head: bytes, status: bytes) -> None:
    made = Connection()
    made.send(head)
    assert made.transport.written.startswith(b"HTTP/1.1 " + status)


def test_a_push_of_http_1_0_needs_no_host() -> None:
    made = Connection()
    made.send(b"POST /v2/push/ HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
    made.answer()
    assert made.transport.written.startswith(b"HTTP/1.1 200")


def test_a_listener_that_only_shows_is_bounded_too() -> None:
    assert issubclass(type(Connection().protocol), BoundedProtocol)
    assert ConnectionLimits(3).max_connections == 3


def test_a_report_that_cannot_be_taken_is_answered_and_the_next_one_heard() -> None:
    made = Connection()
    made.send(POST * 2)
    made.unsettled.pop(0)(Unavailable("no room", retry_after_s=1))
    made.answer()
    assert made.transport.written.count(b"HTTP/1.1 503") == made.transport.written.count(b"HTTP/1.1 200") == 1


def test_a_client_that_is_gone_is_answered_nothing_and_its_timer_ends() -> None:
    made = Connection()
    made.send(CHUNKED + POST[:30])  # in one piece: the second has begun before the first is answered
    made.protocol.connection_lost(ConnectionResetError())
    made.transport.write = _closed  # type: ignore[assignment,method-assign]  # as uvloop's does
    made.answer()
    assert made.loop.live == []


def _closed(_: bytes) -> None:
    raise RuntimeError("unable to perform operation on a closed transport")


def test_a_request_that_is_answered_before_it_is_whole_is_answered_once() -> None:
    made = Connection()
    made.send(b"POST /nix HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    made.answer()
    made.send(b"zz\r\n")
    assert made.transport.written.count(b"HTTP/1.1") == 1
    assert made.transport.is_closing()


def test_a_trailer_is_no_header() -> None:
    made = Connection()
    made.send(CHUNKED.replace(b"0\r\n\r\n", b"0\r\nHost: evil\r\n\r\n"))
    made.answer()
    assert made.transport.written.startswith(b"HTTP/1.1 200")


def test_the_absolute_form_needs_no_path() -> None:
    made = Connection()
    made.send(b"GET http://localhost:10205 HTTP/1.1\r\nHost: localhost:10205\r\n\r\n")
    assert made.protocol.cycle.scope["path"] == "/"
    made.answer()
    made.end()
