"""A connection under everything that can go wrong, with an intake that does what it is told to."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sidecar.core.errors import Rejection, Unavailable
from sidecar.core.model import Done, Order
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.backpressure import Backpressure
from sidecar.inputs.socket.connection import SocketConnection
from sidecar.inputs.socket.line_session import LineSession
from sidecar.intake import Prepared, PreparedLines
from tests.support.loops import StillLoop

FULL = Unavailable("the queue is full", retry_after_s=30)
BROKEN = Unavailable("storage: no", retry_after_s=5)


class Intake:
    """`full`: takes nothing. `waiting`: what was submitted and is not settled, as lines and its `done`."""

    def __init__(self) -> None:
        self.full = False
        self.waiting: list[tuple[list[bytes], Done, Order]] = []
        self.disk: list[bytes] = []
        self.asked = 0

    def check(self, block: bytes) -> PreparedLines:
        self.asked += 1
        if self.full:
            raise FULL
        if b"bug" in block:
            raise RecursionError
        lines = block.split(b"\n")[:-1]
        rejected = [(number, Rejection(400, "bad")) for number, line in enumerate(lines) if line == b"bad"]
        good = [line for line in lines if line != b"bad"]
        append = [lambda settled, order: self.waiting.append((good, settled, order))]
        prepared = Prepared(append, lines=len(good), events=len(good), bytes=len(block), repaired=0)
        return PreparedLines(rejected, prepared if good else None, len(good))

    def settle(self, error: Exception | None = None) -> None:
        """The oldest submission is on disk, or is not; nor is then what is behind it."""
        lines, done, order = self.waiting.pop(0)
        error = order.error = order.error or error
        if error is None:
            self.disk += lines
        done(error)


transports: list["Transport"] = []


class Transport:
    """What a connection needs of uvloop's."""

    def __init__(self, connection: SocketConnection) -> None:
        self.connection = connection
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.reading, self.closed = True, False
        transports.append(self)

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self.ours

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


class Input:
    """A listening socket without a socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.counts, self.backpressure, self.intake = (
            InputCounts("local", "socket"),
            Backpressure(loop, 10_000),
            Intake(),
        )
        self.left = 0

    def enter(self, _: SocketConnection) -> bool:
        return True

    def leave(self, _: SocketConnection) -> None:
        self.left += 1

    def session(self, _: SocketConnection, first_byte: int) -> LineSession:
        return LineSession(self.intake.check, self.counts, 1_000_000)

    def lost(self, connection: SocketConnection, why: str) -> None:
        raise AssertionError(why)

    def fail_unexpected(self, connection: SocketConnection, error: Exception) -> str:
        return "it cannot be treated"


class Client:
    def __init__(self, socket_input: Input, loop: StillLoop) -> None:
        self.connection, self.loop = SocketConnection(socket_input), loop
        self.transport = Transport(self.connection)
        self.connection.connection_made(self.transport)
        loop.settle()

    def send(self, data: bytes) -> None:
        assert self.transport.reading
        self.receive(data)
        self.loop.settle()

    def receive(self, data: bytes) -> None:
        """A read that was under way, whether or not reading was stopped since."""
        self.transport.reading = True
        self.connection.data_received(data)

    def heard(self) -> list[Any]:
        self.loop.settle()
        text = b""
        with contextlib.suppress(BlockingIOError):
            while part := self.transport.theirs.recv(65536):
                text += part
        return [json.loads(line) for line in text.splitlines()]

    def go(self) -> None:
        self.connection.connection_lost(None)
        self.loop.settle()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[StillLoop]:
    loop = StillLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    yield loop
    loop.close()
    for transport in transports:
        transport.ours.close()
        transport.theirs.close()
    transports.clear()


@pytest.fixture
def socket_input(loop: StillLoop) -> Input:
    return Input(loop)


@pytest.fixture
def client(socket_input: Input, loop: StillLoop) -> Client:
    return Client(socket_input, loop)


def test_lines_are_acknowledged_when_they_are_on_disk_and_not_before(client: Client, socket_input: Input) -> None:
    client.send(b"a\nb\n")
    assert client.heard() == []
    socket_input.intake.settle()
    assert client.heard() == [{"acked": 2}]
    assert socket_input.counts.events == 2
    assert socket_input.backpressure.held_bytes == 0


def test_acks_of_one_commit_are_one_answer(client: Client, socket_input: Input) -> None:
    for line in (b"a\n", b"b\n", b"bad\nc\n"):
        client.send(line)
    client.heard()
    for _ in range(3):
        socket_input.intake.settle()
    assert client.heard() == [{"acked": 3}]


def test_a_refusal_is_told_at_once_with_its_number(client: Client, socket_input: Input) -> None:
    client.send(b"a\nbad\n")
    client.send(b"bad\nb\n")
    assert client.heard() == [{"line": 2, "error": "bad"}, {"line": 3, "error": "bad"}]
    assert socket_input.counts.rejected == 2


def test_what_was_handed_over_before_is_acknowledged_before(client: Client, socket_input: Input) -> None:
    client.send(b"a\n")
    client.send(b"b\nc\n")
    socket_input.intake.settle()
    assert client.heard() == [{"acked": 1}]
    socket_input.intake.settle()
    assert client.heard() == [{"acked": 3}]


def test_a_client_that_does_not_read_is_told_once_it_does(client: Client, socket_input: Input) -> None:
    for _ in range(5000):
        client.send(b"a\nbad\n")
        socket_input.intake.settle()
        assert client.transport.reading
    heard = client.heard()
    while heard[-1] != {"acked": 5000}:
        client.loop.pass_time(0.3)
        heard += client.heard()
    refused = [answer["line"] for answer in heard if "line" in answer]
    assert refused == list(range(2, 2 * len(refused) + 1, 2))
    assert len(refused) + sum(answer.get("not_shown", 0) for answer in heard) == 5000


def test_a_client_that_is_gone_is_still_read(client: Client, socket_input: Input) -> None:
    client.transport.theirs.close()
    for _ in range(3):
        client.send(b"a\n")
        socket_input.intake.settle()
        client.loop.settle()
    assert not client.transport.closed
    assert socket_input.intake.disk == [b"a"] * 3
    client.go()
    assert socket_input.backpressure.held_bytes == 0


def test_a_client_that_ends_and_does_not_read_is_not_waited_for_for_ever(
    client: Client, socket_input: Input, loop: StillLoop
) -> None:
    for _ in range(5000):
        client.send(b"a\n")
        socket_input.intake.settle()
    client.connection.eof_received()
    loop.settle()
    assert not client.transport.closed
    loop.pass_time(11)
    assert client.transport.closed


def test_a_full_queue_stops_the_reading_and_room_starts_it_again(
    client: Client, socket_input: Input, loop: StillLoop
) -> None:
    socket_input.intake.full = True
    with structlog.testing.capture_logs() as lines:
        client.send(b"a\nbad\n")
        assert not client.transport.reading
        assert socket_input.backpressure.reason == "the queue is full"
        loop.pass_time(60)
        assert 50 < socket_input.intake.asked < 80, "about once a second"
        socket_input.intake.full = False
        loop.pass_time(1)
        assert client.transport.reading
        assert socket_input.backpressure.reason is None
        socket_input.intake.settle()
        assert client.heard() == [{"line": 2, "error": "bad"}, {"acked": 1}]
        loop.pass_time(10)
    assert [line["event"] for line in lines] == ["sockets paused, nothing is lost", "sockets resumed"]
    assert lines[1]["after_s"] > 59


def test_room_is_asked_for_also_while_something_is_on_its_way(
    client: Client, socket_input: Input, loop: StillLoop
) -> None:
    client.send(b"a\n")
    socket_input.intake.full = True
    client.send(b"b\n")
    socket_input.intake.full = False
    loop.pass_time(1)
    assert [lines for lines, _, _ in socket_input.intake.waiting] == [[b"a"], [b"b"]]


def test_a_queue_at_its_limit_does_not_fill_the_log(client: Client, socket_input: Input, loop: StillLoop) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            socket_input.intake.full = True
            client.send(b"a\n")
            socket_input.intake.full = False
            loop.pass_time(1)
            socket_input.intake.settle()
        loop.pass_time(10)
    assert len(lines) == 2


def test_those_who_wait_are_tried_one_after_the_other(socket_input: Input, loop: StillLoop) -> None:
    clients = [Client(socket_input, loop) for _ in range(5)]
    socket_input.intake.full = True
    for client in clients:
        client.send(b"a\n")
    asked = socket_input.intake.asked
    loop.pass_time(0.06)
    assert socket_input.intake.asked == asked + 1, "one is enough to know that it is still full"
    socket_input.intake.full = False
    loop.pass_time(1)
    assert len(socket_input.intake.waiting) == 5
    assert all(client.transport.reading for client in clients)


def test_what_could_not_be_written_is_written_again_in_order(
    client: Client, socket_input: Input, loop: StillLoop
) -> None:
    client.send(b"a\n")
    client.send(b"b\n")
    socket_input.intake.settle(BROKEN)
    loop.pass_time(5)
    assert [lines for lines, _, _ in socket_input.intake.waiting] == [[b"b"]], "which a must not overtake"
    socket_input.intake.settle()
    assert client.heard() == []
    assert not client.transport.reading
    for _ in range(3):
        loop.pass_time(1.1)
        loop.pass_time(5)
        assert [lines for lines, _, _ in socket_input.intake.waiting] == [[b"a"], [b"b"]]
        socket_input.intake.settle(BROKEN)
        socket_input.intake.settle()
        assert client.heard() == []
    loop.pass_time(1.1)
    socket_input.intake.settle()
    socket_input.intake.settle()
    assert client.heard()[-1] == {"acked": 2}
    loop.pass_time(1.1)
    assert client.transport.reading
    assert socket_input.intake.disk == [b"a", b"b"]
    assert socket_input.backpressure.held_bytes == 0


def test_nothing_new_is_taken_while_something_older_failed(
    client: Client, socket_input: Input, loop: StillLoop
) -> None:
    client.send(b"a\n")
    socket_input.intake.settle(BROKEN)
    client.receive(b"b\n")  # was read before reading stopped
    loop.settle()
    assert socket_input.intake.waiting == []
    loop.pass_time(0.1)
    assert [lines for lines, _, _ in socket_input.intake.waiting] == [[b"a"]]
    loop.pass_time(5)
    assert len(socket_input.intake.waiting) == 1, "not submitted twice"
    socket_input.intake.settle()
    loop.pass_time(1.1)
    socket_input.intake.settle()
    assert socket_input.intake.disk == [b"a", b"b"]
    assert client.heard()[-1] == {"acked": 2}


def test_a_client_that_went_away_is_not_forgotten_before_its_lines_are_on_disk(
    client: Client, socket_input: Input, loop: StillLoop
) -> None:
    socket_input.intake.full = True
    client.send(b"a\nb\nhalf")
    client.go()
    assert socket_input.left == 1
    loop.pass_time(5)
    socket_input.intake.full = False
    loop.pass_time(1.1)
    socket_input.intake.settle(BROKEN)
    loop.pass_time(1.1)
    socket_input.intake.settle()
    loop.settle()
    assert socket_input.intake.disk == [b"a", b"b"]
    assert socket_input.counts.events == 2
    assert socket_input.counts.rejected == 1, "the half line"
    assert socket_input.backpressure.held_bytes == 0
    assert socket_input.backpressure.unfinished_bytes == 0
    loop.pass_time(60)
    assert socket_input.backpressure.reason is None


def test_after_the_end_the_connection_is_kept_until_all_is_said(client: Client, socket_input: Input) -> None:
    client.send(b"a\n")
    assert client.connection.eof_received()
    client.loop.settle()
    assert not client.transport.closed
    socket_input.intake.settle()
    assert client.heard() == [{"acked": 1}]
    assert client.transport.closed


def test_an_end_with_nothing_open_closes(client: Client) -> None:
    client.connection.eof_received()
    client.loop.settle()
    assert client.transport.closed


def test_a_client_holds_a_bounded_part_of_memory(client: Client, socket_input: Input) -> None:
    for _ in range(100):
        client.receive(b"x" * 9_999 + b"\n")
    assert not client.transport.reading
    while socket_input.intake.waiting:
        socket_input.intake.settle()
    client.loop.settle()
    assert client.transport.reading


def test_when_all_memory_is_held_nobody_is_read_until_some_is_free(socket_input: Input, loop: StillLoop) -> None:
    hoarders = [Client(socket_input, loop) for _ in range(40)]
    for hoarder in hoarders:
        while hoarder.transport.reading and not socket_input.backpressure.full:
            hoarder.send((b"x" * 9_999 + b"\n") * 50)
    assert socket_input.backpressure.full
    late = Client(socket_input, loop)
    assert not late.transport.reading
    while socket_input.intake.waiting:
        socket_input.intake.settle()
    for _ in range(3):
        loop.settle()
    assert all(client.transport.reading for client in [*hoarders, late])
    assert socket_input.backpressure.held_bytes == 0


def test_unfinished_lines_of_the_user_with_most_of_them_are_given_up(socket_input: Input, loop: StillLoop) -> None:
    hoarders = []
    for _ in range(64):
        hoarders.append(Client(socket_input, loop))
        hoarders[-1].connection.uid = 1001
        hoarders[-1].send(b"x" * 999_000)
    other = Client(socket_input, loop)
    other.connection.uid = 1002
    other.send(b"x" * 990_000)
    assert other.heard() == []
    told = [hoarder.heard() for hoarder in hoarders]
    assert told.count([{"line": 1, "error": "too many unfinished lines at once"}]) == 1
    assert socket_input.backpressure.unfinished_bytes <= 64_000_000
    for hoarder in hoarders:
        hoarder.go()
    assert socket_input.backpressure.unfinished_bytes == 990_000


def test_a_connection_that_comes_while_memory_is_full_is_not_read(socket_input: Input, loop: StillLoop) -> None:
    socket_input.intake.full = True
    hoarders = [Client(socket_input, loop) for _ in range(40)]
    for hoarder in hoarders:
        hoarder.receive((b"x" * 9_999 + b"\n") * 100)
        loop.settle()
    late = [Client(socket_input, loop) for _ in range(100)]
    held = socket_input.backpressure.held_bytes
    assert not any(client.transport.reading for client in late)
    late[0].receive(b"a\n")
    assert not late[0].transport.reading
    assert socket_input.backpressure.held_bytes < held + 2000


def test_when_there_is_memory_again_a_few_are_read_at_a_time(socket_input: Input, loop: StillLoop) -> None:
    clients = [Client(socket_input, loop) for _ in range(200)]
    for client in clients[:40]:
        client.receive((b"x" * 9_999 + b"\n") * 100)
    loop.settle()
    assert socket_input.backpressure.full
    assert not any(client.transport.reading for client in clients)
    while socket_input.backpressure.full:
        socket_input.intake.settle()
    assert sum(client.transport.reading for client in clients) <= 32
    for _ in range(20):
        loop.settle()
    assert sum(client.transport.reading for client in clients[40:]) == 160


def test_an_item_that_nobody_thought_of_is_refused_and_costs_no_other(
    client: Client, socket_input: Input, loop: StillLoop
) -> None:
    client.send(b"a\n")
    client.send(b"bug\n")
    client.send(b"b\n")
    socket_input.intake.settle()
    socket_input.intake.settle()
    assert client.heard() == [{"line": 2, "error": "it cannot be treated"}, {"acked": 2}]

    client.send(b"a\nbug\nb\r with more\nc\n")
    while socket_input.intake.waiting:
        socket_input.intake.settle()
    assert client.heard() == [{"line": 5, "error": "it cannot be treated"}, {"acked": 5}]
    assert socket_input.intake.disk[2:] == [b"a", b"b\r with more", b"c"]
    socket_input.intake.disk[2:] = []

    socket_input.intake.full = True
    other = Client(socket_input, loop)
    client.send(b"bug\n")
    other.send(b"c\n")
    socket_input.intake.full = False
    loop.pass_time(1)
    socket_input.intake.settle()
    assert socket_input.intake.disk == [b"a", b"b", b"c"]
    assert socket_input.backpressure.reason is None


def test_after_a_failure_all_are_tried_at_once(socket_input: Input, loop: StillLoop) -> None:
    clients = [Client(socket_input, loop) for _ in range(60)]
    for client in clients:
        client.send(b"a\n")
    for _ in clients:
        socket_input.intake.settle(BROKEN)
    loop.pass_time(1.1)
    assert len(socket_input.intake.waiting) == 60
    for _ in clients:
        socket_input.intake.settle()
    assert all(client.heard() == [{"acked": 1}] for client in clients)
    assert all(client.transport.reading for client in clients)


def test_items_are_taken_in_slices_so_that_others_have_their_turn(
    client: Client, socket_input: Input, loop: StillLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = socket_input.intake.check

    def slow(block: bytes) -> PreparedLines:
        loop.now_s += 0.003
        return check(block)

    monkeypatch.setattr(socket_input.intake, "check", slow)
    door_session = LineSession(slow, socket_input.counts, 1_000_000)
    monkeypatch.setattr(socket_input, "session", lambda *_: door_session)
    client.receive((b"x" * 999 + b"\n") * 300)
    assert len(socket_input.intake.waiting) == 2
    assert not client.transport.reading
    for _ in range(20):
        loop.settle()
    assert sum(len(lines) for lines, _, _ in socket_input.intake.waiting) == 300
    assert client.transport.reading


def test_a_client_is_heard_out_when_all_it_sent_is_on_disk(client: Client, socket_input: Input) -> None:
    client.send(b"a\n")
    socket_input.intake.full = True
    client.send(b"b\n")
    client.connection.eof_received()  # as the kernel says once the reading side is shut down
    assert (client.connection.under_way, client.connection.not_taken) == (1, 1)
    assert not client.connection.heard_out
    socket_input.intake.settle()
    assert client.heard() == [{"acked": 1}]
    client.connection.close()
    assert client.transport.closed
