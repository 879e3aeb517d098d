"""`sidecar send`: what an answer settles, what is sent again, and when the patience ends."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from sidecar.cli.send import http_link
from sidecar.cli.send.delivery import Patience
from sidecar.cli.send.event import Item
from sidecar.cli.send.line_socket import ReportLines
from sidecar.cli.send.outbox import Pipe, Report, ReportOutbox, StoppedError
from sidecar.client.answers import Acked, BadAnswer, LineRefused, NotShown
from sidecar.core.errors import Rejection
from sidecar.forward.outcome import Reply
from sidecar.inputs.http.answers import rejection
from tests.support.fakes import GOOD, Clock

BAD = Rejection(400, "bad", ("data", 0), scope="event")
PIPE = Pipe(None, "", "app-events")


def report(*lines: int, divisible: bool = True) -> Report:
    return Report(PIPE, tuple(Item(b"{}", "event", True, line=n, size_bytes=10) for n in lines), divisible)


class Box(ReportOutbox):
    """An outbox that notes what it says."""

    def __init__(self, source: Iterable[Report | None], *, one_pipe: bool = True) -> None:
        self.complaints: list[tuple[int, str]] = []
        self.moves = 0
        super().__init__(
            iter(source), complain=lambda item, why: self.complaints.append((item.line, why.message)), moved=self._note,
            one_pipe=one_pipe,
        )  # fmt: skip

    def _note(self) -> None:
        self.moves += 1

    def take(self) -> Report:
        found = self.next()
        assert found is not None
        return found


def lines(report: Report | None) -> list[int]:
    return [item.line for item in report.items] if report else []


def test_what_is_taken_is_counted_and_the_end_is_found() -> None:
    box = Box([report(1, 2), report(3)])
    first, second = box.take(), box.take()
    assert not box.is_done
    assert box.next() is None
    box.taken(second)
    box.taken(first)
    assert box.is_done
    assert (box.taken_events, box.settled_bytes, box.settled_events) == (3, 30, 3)


def test_at_a_pause_the_source_is_only_asked_when_all_is_settled() -> None:
    asked = []

    def source() -> Any:
        yield report(1)
        yield None
        asked.append("waited")
        yield report(2)

    box = Box(source())
    first = box.take()
    assert box.next() is None
    assert box.next() is None
    assert not asked
    box.taken(first)
    assert lines(box.next()) == [2]
    assert asked


def test_what_is_refused_is_halved_until_the_bad_event_stands_alone() -> None:
    box = Box([report(1, 2, 3, 4), report(5)])
    tried = []
    while not box.is_done:
        sent = box.next()
        if sent is None:
            continue
        tried.append(lines(sent))
        if 3 in lines(sent):
            box.rejected(sent, BAD)
        else:
            box.taken(sent)
    assert tried == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4], [5]]
    assert box.complaints == [(3, "data[0]: bad")]
    assert (box.taken_events, box.refused_events) == (4, 1)


def test_what_may_not_be_divided_is_refused_whole() -> None:
    box = Box([report(0, 0, divisible=False)])
    box.rejected(box.take(), BAD)
    assert box.complaints == [(0, "data[0]: bad")]
    assert (box.refused_events, box.next(), box.is_done) == (2, None, True)


def test_a_refusal_of_the_only_pipe_is_the_end() -> None:
    box = Box([report(1, 2), report(3)])
    with pytest.raises(StoppedError, match="access_token: wrong"):
        box.rejected(box.take(), Rejection(401, "wrong", ("access_token",), "stream"))
    with pytest.raises(StoppedError, match="whatever"):
        box.rejected(box.take(), Rejection(401, "whatever", scope="stream"))


def test_a_refusal_of_one_pipe_among_many_is_told_once_for_each_line() -> None:
    box = Box([report(1, 1, 2)], one_pipe=False)
    box.rejected(box.take(), Rejection(400, "unknown", ("stream",), "stream"))
    assert box.complaints == [(1, "stream: unknown"), (2, "stream: unknown")]
    assert box.refused_events == 3


def test_what_is_open_when_a_connection_is_lost_goes_first_and_in_order() -> None:
    box = Box([report(1), report(2), report(3), report(4)])
    _, second, _ = box.take(), box.take(), box.take()
    box.taken(second)
    assert box.first_unsettled_line() == 1
    box.take_back()
    assert [lines(box.next()) for _ in range(3)] == [[1], [3], [4]]


def open_lines(*reports: Report) -> tuple[Box, ReportLines]:
    box = Box(reports)
    lines = ReportLines(box, None)
    written = lines.take(10_000)
    assert len(written.splitlines()) == len(reports)
    return box, lines


def test_an_acknowledgement_settles_the_first_lines_that_are_not_refused() -> None:
    box, lines = open_lines(report(1), report(2), report(3), report(4))
    lines.answered([LineRefused(line=2, error="data[0]: bad")])
    lines.answered([Acked(total=2)])
    assert (box.taken_events, box.complaints) == (2, [(2, "data[0]: bad")])
    assert box.first_unsettled_line() == 4
    lines.answered([Acked(total=3)])
    assert (box.first_unsettled_line(), box.taken_events) == (None, 3)


@pytest.mark.parametrize(
    "answer",
    [
        Acked(total=3), Acked(total=-1), LineRefused(line=3, error=""), LineRefused(line=0, error=""),
        NotShown(lines=1),
    ],
)  # fmt: skip
def test_answers_that_cannot_be(answer: Any) -> None:
    _, lines = open_lines(report(1), report(2))
    with pytest.raises(BadAnswer):
        lines.answered([answer])


def test_what_was_acknowledged_cannot_be_refused() -> None:
    _, lines = open_lines(report(1), report(2))
    lines.answered([Acked(total=1)])
    for answer in (LineRefused(line=1, error=""), Acked(total=0)):
        with pytest.raises(BadAnswer):
            lines.answered([answer])


def test_no_more_lines_are_open_than_their_refusals_have_room_for() -> None:
    box = Box([report(number) for number in range(1, 151)])
    lines = ReportLines(box, None)
    assert len(lines.take(1 << 30).splitlines()) == 100
    assert lines.take(1 << 30) == b""
    lines.answered([Acked(total=40)])
    assert len(lines.take(1 << 30).splitlines()) == 40


def test_the_source_is_waited_for_only_while_nothing_is_open() -> None:
    box = Box([report(1), None, None, report(2)])
    lines = ReportLines(box, None)
    assert len(lines.take(1 << 30).splitlines()) == 1
    assert lines.take(1 << 30) == b""
    lines.answered([Acked(total=1)])
    assert len(lines.take(1 << 30).splitlines()) == 1
    assert not box.is_done
    lines.answered([Acked(total=2)])
    assert lines.take(1 << 30) == b""
    assert box.is_done


def reply_of(why: Rejection) -> Reply:
    """Return the sidecar's own answer over HTTP."""
    head, body = rejection(why, close=False).split(b"\r\n\r\n", 1)
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return Reply(int(head[9:12]), headers, body)


def own(status: int, message: str, **headers: str) -> Reply:
    body = json.dumps({"code": str(status), "message": message, "result": "false"})
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body.encode())


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (GOOD, http_link.Accepted()),
        (own(503, "the queue is full", retry_after="5"), http_link.Later("HTTP 503: the queue is full", 5.0)),
        (own(429, "slowly"), http_link.Later("HTTP 429: slowly", None)),
        (Reply(429, {}, b""), http_link.Later("HTTP 429", None)),
        (Reply(404, {}, b""), http_link.Elsewhere("HTTP 404")),
        (Reply(418, {}, b""), http_link.Elsewhere("HTTP 418")),
        (Reply(200, {}, b"hello"), http_link.Later("HTTP 200: hello: not a proxy's acknowledgement", None)),
    ],
)
def test_what_an_answer_over_http_means(reply: Reply, expected: http_link.Verdict) -> None:
    assert http_link.verdict_on(reply, datetime.now(UTC), token="") == expected


@pytest.mark.parametrize(
    ("reply", "message", "scope"),
    [
        (own(400, "data[0].target: missing"), "data[0].target: missing", "report"),
        (own(413, "too large"), "too large", "report"),
        (own(401, "access_token: wrong"), "access_token: wrong", "stream"),
        (reply_of(Rejection(400, "missing", ("data", 0, "target"), scope="event")), "data[0].target: missing", "event"),
        (reply_of(Rejection(400, "unknown", ("stream",), "stream")), "stream: unknown", "stream"),
        (own(400, "m", x_sidecar_rejection='{"place": {}, "problem": 1}'), "m", "report"),
        (reply_of(Rejection(400, "zu \u00df", ("data", 0, "\u4e2d"), "event")), "data[0].\u4e2d: zu \u00df", "event"),
        (reply_of(Rejection(400, "long " * 1000)), "long " * 40, "report"),
    ],
)
def test_what_is_rejected_over_http_is_known_as_data(reply: Reply, message: str, scope: str) -> None:
    found = http_link.verdict_on(reply, datetime.now(UTC), token="")
    assert isinstance(found, Rejection)
    assert (found.message, found.scope) == (message, scope)


def test_a_proxy_that_repeats_the_token_as_data_is_not_repeated() -> None:
    answer = Reply(
        400, {}, b'{"result": "false", "message": "no", "place": ["secret-token"], "problem": "secret-token"}'
    )
    found = http_link.verdict_on(answer, datetime.now(UTC), token="secret-token")
    assert isinstance(found, Rejection)
    assert found.message == "no"


def test_patience_ends_when_nothing_moves() -> None:
    clock = Clock()
    patience = Patience(10, clock)
    clock.now_s += 8
    assert patience.left_s == 2
    patience.moved()
    clock.now_s += 9
    assert patience.left_s == 1
    clock.now_s += 9
    assert patience.left_s == 0
