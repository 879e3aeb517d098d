"""From lines and frames to the queue: room, streams, tokens, and what is done with what cannot be sent."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.config import Config, Stream
from sidecar.config import QueueSettings as QueueConfig
from sidecar.config.model import DataId, Defaults, Secret
from sidecar.core.errors import Rejected, Unavailable
from sidecar.core.hops import Hops
from sidecar.core.model import THIS_HOST, Block, Capacity, Done, Order, Sender, StreamKey
from sidecar.intake import Intake, Prepared, PreparedLines
from sidecar.intake.capacity import CapacityCheck
from sidecar.intake.router import Router
from sidecar.queue.streams import QueueStream
from tests.support.fakes import Clock
from tests.support.reports import NOW_MS, dump, event, report, sample, without

CONFIG = Config(
    state=Path("x"),
    queue=QueueConfig(max_size=1_000_000),  # type: ignore[arg-type]
    defaults=Defaults(ip="10.0.0.1"),
    streams={"app": Stream(data_id=DataId(5), access_token=Secret("secret"), kind="event")},
)


class FakeQueue:
    """As much of the queue as the intake knows; `appended` is what it was given, `settle` ends the oldest."""

    def __init__(self) -> None:
        self.size_bytes = self.pending_bytes = 0
        self.capacity = Capacity(1_000_000, "max_size")
        self.full_of_streams = False
        self.dead_bytes = self.log_bytes = 0
        self.appended: list[tuple[StreamKey, list[Any], list[tuple[bytes, str]]]] = []
        self._done: list[Done] = []
        self._streams: dict[StreamKey, QueueStream] = {}

    def stream(self, key: StreamKey, *, configured: bool = False) -> QueueStream:
        if key not in self._streams:
            if self.full_of_streams and not configured:
                raise Unavailable("already 1000 streams", retry_after_s=60)
            self._streams[key] = QueueStream(1 + len(self._streams), key)
        return self._streams[key]

    def has(self, key: StreamKey) -> bool:
        return key in self._streams

    def streams(self) -> list[QueueStream]:
        return list(self._streams.values())

    def forget_all(self) -> None:
        self._streams.clear()

    def append(
        self, stream: QueueStream, blocks: Sequence[Block], size: int, accepted_ms: int, done: Done,
        dead: Sequence[tuple[bytes, str]] = (), order: Order | None = None,
    ) -> None:  # fmt: skip
        assert order is None or order.error is None
        assert size >= sum(len(block.body) for block in blocks) + sum(len(body) for body, _ in dead)
        assert accepted_ms == NOW_MS
        items = [item for block in blocks for item in json.loads(b"[%b]" % block.body)]
        self.appended.append((stream.key, items, list(dead)))
        self._done.append(done)

    def settle(self, error: Exception | None = None) -> None:
        self._done.pop(0)(error)


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


HOPS = Hops("0" * 16)


@pytest.fixture
def intake(queue: FakeQueue) -> Intake:
    return make_intake(queue, remote_tokens=["right"])


def make_intake(queue: FakeQueue, remote_tokens: Collection[str]) -> Intake:
    return Intake(
        Router(CONFIG),
        queue,  # type: ignore[arg-type]
        CONFIG.queue,
        block_bytes=40_000,
        event_bytes=490_000,
        clock=lambda: NOW_MS / 1000,
        boot_clock=lambda: 1000.0,
        skew_s=lambda: 0.0,
        hops=HOPS,
        remote_tokens=remote_tokens,
    )


def block(*lines: Any) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def take(
    intake: Intake, *lines: Any, stream: str | None = "app", tokens: tuple[str, ...] = (), local: bool = True,
    done: Done = lambda _: None,
) -> PreparedLines:  # fmt: skip
    checked = intake.prepare_lines(block(*lines), stream=stream, tokens=tokens, local=local)
    if checked.prepared is not None:
        checked.prepared.submit(done)
    return checked


def test_lines_of_one_stream_are_one_append_and_all_must_be_on_disk(intake: Intake, queue: FakeQueue) -> None:
    settled: list[Exception | None] = []
    one, two, other = event(), event(), sample()
    taken = take(intake, one, {"stream": "app", "data": [two]}, report(other, data_id=7), b"bad", done=settled.append)
    assert taken.prepared is not None
    assert (taken.lines, taken.prepared.lines, taken.prepared.events) == (3, 3, 3)
    assert [number for number, _ in taken.rejected] == [3]
    assert [(key.data_id, key.kind, items) for key, items, _ in queue.appended] == [
        (5, "event", [one, two]),
        (7, "time_series", [other]),
    ]
    queue.settle()
    assert settled == []
    queue.settle()
    assert settled == [None]


def test_only_what_failed_is_submitted_again(intake: Intake, queue: FakeQueue) -> None:
    settled: list[Exception | None] = []
    taken = take(intake, event(), report(sample(), data_id=7), done=settled.append)
    error = Unavailable("storage: no", retry_after_s=5)
    queue.settle(error)
    queue.settle()
    assert settled == [error]
    assert isinstance(taken.prepared, Prepared)
    taken.prepared.submit(settled.append)
    assert [key.data_id for key, _, _ in queue.appended] == [5, 7, 5]
    queue.settle()
    assert settled == [error, None]


def test_without_room_nothing_is_taken_and_nothing_counted(intake: Intake, queue: FakeQueue) -> None:
    queue.size_bytes = 999_999
    with pytest.raises(Unavailable, match="the queue is full"):
        take(intake, event())
    with pytest.raises(Unavailable, match="the queue is full"):
        intake.prepare_frame(5, b"text", 0)
    assert not intake.capacity.refused_by
    assert not queue.appended


def test_what_no_queue_has_room_for_is_refused_and_does_not_wait_for_ever(intake: Intake, queue: FakeQueue) -> None:
    queue.size_bytes = 900_000
    taken = take(intake, event(event={"content": "x" * 600_000}))
    assert taken.prepared is None
    assert "too much for a queue of 1000000 (queue.max_size)" in taken.rejected[0][1].problem
    with pytest.raises(Rejected, match="too much for a queue"):
        intake.prepare_frame(5, b"x" * 600_000, 0)


def test_too_many_streams_refuse_a_line_and_hold_up_no_other(intake: Intake, queue: FakeQueue) -> None:
    queue.full_of_streams = True
    taken = take(intake, report(event(), data_id=77), event())
    assert (taken.lines, told(taken)) == (1, [(0, "already 1000 streams")])
    with pytest.raises(Rejected, match="already 1000 streams"):
        intake.prepare_frame(77, b"text", 0)


def test_with_tokens_a_report_must_carry_one(intake: Intake, queue: FakeQueue) -> None:
    good = report(event(), data_id=9, token="one")
    taken = take(
        intake, good, report(event(), data_id=9, token="two"), {"stream": "app", "data": [event()]}, event(),
        stream=None, tokens=("zero", "one"), local=False,
    )  # fmt: skip
    assert taken.lines == 1
    assert [number for number, _ in taken.rejected] == [1, 2, 3]
    assert queue.appended[0][0].token == "one"


def test_only_what_is_local_may_leave_its_target_out(intake: Intake, queue: FakeQueue) -> None:
    line = {"stream": "app", "data": [without(event(), "target")]}
    assert take(intake, line, stream=None, local=False).lines == 0
    assert take(intake, line, stream=None, local=True).lines == 1
    assert queue.appended[0][1][0]["target"] == "0:10.0.0.1"
    with pytest.raises(Rejected, match="target: missing"):
        intake.accept(json.dumps(line).encode(), lambda _: None)


def test_a_stream_that_was_taken_out_of_the_configuration_refuses_bare_events(intake: Intake) -> None:
    taken = take(intake, event(), event(), stream="gone")
    assert told(taken) == [(number, "stream: 'gone' is no longer configured") for number in range(2)]


def test_good_and_dead_events_of_a_frame_are_one_append(intake: Intake, queue: FakeQueue) -> None:
    good, bad = event(), event(target="")
    taken = intake.prepare_frame(5, json.dumps({"data": [good, bad]}).encode(), 0)
    taken.prepared.submit(lambda _: None)
    [(key, items, dead)] = queue.appended
    assert (key.data_id, items) == (5, [good])
    assert [json.loads(body) for body, _ in dead] == [bad]
    assert (taken.prepared.events, sum(taken.dead.values())) == (2, 1)


@pytest.mark.parametrize("data_id", [0, -5])
def test_a_frame_for_no_pipe_at_all_is_refused(intake: Intake, data_id: int) -> None:
    with pytest.raises(Rejected, match="expected a positive integer"):
        intake.prepare_frame(data_id, b"text", 0)


def test_a_frame_of_an_unknown_pipe_is_dead_under_its_data_id(intake: Intake, queue: FakeQueue) -> None:
    intake.prepare_frame(77, json.dumps({"data": [event(), sample()]}).encode(), 0).prepared.submit(lambda _: None)
    assert sorted((key.data_id, key.kind, key.token) for key, _, _ in queue.appended) == [
        (77, "event", ""),
        (77, "time_series", ""),
    ]
    assert {reason for _, _, dead in queue.appended for _, reason in dead} == {"data_id 77 is no configured stream"}


def test_dead_letters_of_frames_may_not_fill_the_queue(intake: Intake, queue: FakeQueue) -> None:
    queue.dead_bytes = 250_001
    with pytest.raises(Rejected, match="too many dead letters"):
        intake.prepare_frame(77, b"text", 0)
    with pytest.raises(Rejected, match="too many dead letters"):
        intake.prepare_frame(5, json.dumps({"data": [event(target="")]}).encode(), 0)
    assert intake.prepare_frame(5, b"text", 0).prepared.events == 1


def test_only_so_many_unknown_pipes_are_remembered(intake: Intake) -> None:
    for data_id in range(100, 200):
        intake.prepare_frame(data_id, b"text", 0)
    with pytest.raises(Rejected, match="already 100 data_ids that no stream has"):
        intake.prepare_frame(200, b"text", 0)
    intake.prepare_frame(150, b"text", 0)
    intake.prepare_frame(5, b"text", 0)


def told(taken: PreparedLines) -> list[tuple[int, str]]:
    """Return the lines that were not taken, with what their client is told."""
    return [(number, why.message) for number, why in taken.rejected]


def test_hints_are_for_the_first_wrong_names_only(intake: Intake) -> None:
    taken = take(intake, *({"stream": "ap", "data": []} for _ in range(5)))
    assert ["did you mean" in words for _, words in told(taken)] == [True, True, True, False, False]


def test_when_stopping_reports_are_refused_and_what_clients_could_still_write_is_taken(intake: Intake) -> None:
    intake.stop()
    with pytest.raises(Unavailable, match="stopping"):
        intake.accept(dump(report(event())), lambda _: None)
    assert take(intake, event()).lines == 1


OTHER = Sender("10.0.0.9", local=False)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"stream": "app", "access_token": "right", "data": [event()]},
            "stream: only programs of the sidecar's own host",
        ),
        (report(event(), data_id=5, token=""), "access_token: not one that is taken here"),
        (report(event(), data_id=5, token="secret"), "access_token: not one that is taken here"),
        (report(event(), data_id=5, token="right"), "access_token: wrong for stream app"),
    ],
    ids=["stream", "none", "not listed", "wrong"],
)
def test_no_token_is_lent_to_another_host(intake: Intake, document: Any, message: str) -> None:
    with pytest.raises(Rejected, match=message) as refused:
        intake.accept(dump(document), lambda _: None, OTHER)
    assert refused.value.why.status == 401
    assert "secret" not in refused.value.why.message


def test_without_a_list_another_host_must_carry_the_streams_own_token(queue: FakeQueue) -> None:
    intake = make_intake(queue, remote_tokens=())
    with pytest.raises(Rejected, match="access_token: missing; a report of another host must carry it"):
        intake.accept(dump(report(event(), data_id=5, token="")), lambda _: None, OTHER)
    intake.accept(dump(report(event(), data_id=5, token="")), lambda _: None)  # known from now on
    with pytest.raises(Rejected, match="access_token: missing"):
        intake.accept(dump(report(event(), data_id=5, token="")), lambda _: None, OTHER)
    intake.accept(dump(report(event(), data_id=5, token="secret")), lambda _: None, OTHER)
    assert [key for key, _, _ in queue.appended] == [StreamKey(5, "secret")] * 2


def test_the_way_of_a_report_is_remembered_for_its_stream(intake: Intake) -> None:
    sender = msgspec.structs.replace(THIS_HOST, hops=("a" * 16,))
    intake.accept(dump(report(event(), data_id=9, token="own")), lambda _: None, sender)
    assert HOPS.header(StreamKey(9, "own"), 1000.0) == {"x-sidecar-hops": f"{'a' * 16}, {'0' * 16}"}
    assert HOPS.header(StreamKey(9, "other"), 1000.0) == {"x-sidecar-hops": "0" * 16}


def test_a_peer_has_a_limit_of_streams_and_others_have_theirs(queue: FakeQueue) -> None:
    intake = make_intake(queue, remote_tokens=())
    for number in range(250):
        intake.accept(dump(report(event(), data_id=100 + number, token="t")), lambda _: None)
    with pytest.raises(Unavailable, match="already 250 streams of this host"):
        intake.accept(dump(report(event(), data_id=900, token="t")), lambda _: None)
    intake.accept(dump(report(event(), data_id=100, token="t")), lambda _: None)  # one of its own
    intake.accept(dump(report(event(), data_id=5, token="secret")), lambda _: None)  # a configured one
    intake.accept(dump(report(event(), data_id=900, token="t")), lambda _: None, OTHER)
    assert intake.streams.crowded == ["this host"]
    assert intake.capacity.refused_by == {"too many streams": 1}


def test_what_is_forgotten_is_made_anew(intake: Intake, queue: FakeQueue) -> None:
    body = dump(report(event(), data_id=9, token="right"))
    intake.accept(body, lambda _: None)
    (old,) = queue.streams()
    intake.forget([old])
    queue.forget_all()
    intake.accept(body, lambda _: None)
    (new,) = queue.streams()
    assert new is not old


def test_refused_reports_are_counted_by_reason_and_told_for_a_while(queue: FakeQueue) -> None:
    clock = Clock(1000.0)
    check = CapacityCheck(queue, CONFIG.queue, clock)  # type: ignore[arg-type]
    assert check.refusing is None
    queue.size_bytes = 999_990
    for _ in range(2):
        with pytest.raises(Unavailable, match="the queue is full"):
            check.admit(100)
    check.admit(5)  # a small one finds room
    assert (check.refused_by, check.refusing) == ({"the queue is full": 2}, "the queue is full")
    queue.size_bytes = 0
    clock.now_s += 5.1
    assert check.refusing is None
    check.admit(100)
    assert check.refused_by == {"the queue is full": 2}


def test_a_known_stream_is_taken_also_when_its_peer_has_as_many_as_it_may(queue: FakeQueue) -> None:
    intake = make_intake(queue, remote_tokens=())
    for number in range(250):
        intake.accept(dump(report(event(), data_id=100 + number, token="t")), lambda _: None)
    intake.reload()
    intake.accept(dump(report(event(), data_id=100, token="t")), lambda _: None)
    intake.accept(dump(report(event(), data_id=5, token="secret")), lambda _: None)
    assert queue.stream(StreamKey(5, "secret")).peer is None  # a configured one counts for nobody
    assert queue.stream(StreamKey(100, "t")).peer == "this host"
