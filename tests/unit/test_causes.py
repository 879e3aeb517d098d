"""Each cause of trouble is said once, however many streams have it, and once more when it is over."""

import logging
from typing import Any

import pytest

from sidecar.forward import causes as causes_module
from sidecar.forward.causes import CauseKind, Causes
from tests.support.fakes import Clock


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def log(self, level: int, event: str, **more: Any) -> None:
        self.lines.append((f"{logging.getLevelName(level)} {event}", more))

    def info(self, event: str, **more: Any) -> None:
        self.lines.append((f"INFO {event}", more))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(causes_module, "log", made)
    return made


def fail(causes: Causes, lane: str, kind: CauseKind = "unauthorized", reason: str = "HTTP 401: bad token") -> bool:
    return causes.failed(lane, f"stream {lane}", kind, reason, logging.WARNING)


def test_many_streams_of_one_cause_are_one_line_and_so_is_its_end(log: Log) -> None:
    clock = Clock()
    causes = Causes(clock)
    for lane in "abc" * 10:
        fail(causes, lane)
    assert [line for line, _ in log.lines] == ["WARNING delivery failed, will be retried"]
    assert "sidecar reload" in log.lines[0][1]["cure"]
    assert log.lines[0][1]["stream"] == "stream a"
    clock.now_s += 90.26
    for lane in "abc":
        causes.recovered(lane)
    assert log.lines[1:] == [
        (
            "INFO delivery resumed",
            {"streams": 3, "was": "HTTP 401: bad token", "failures": 30, "after_s": 90.3},
        )
    ]


def test_a_cause_that_changes_is_said_and_dated_anew(log: Log) -> None:
    causes = Causes(Clock())
    assert fail(causes, "a", "proxy", "Connection refused")
    assert not fail(causes, "a", "proxy", "Connection refused")
    assert fail(causes, "a", "unauthorized", "HTTP 401")
    assert [more["error"] for _, more in log.lines] == ["Connection refused", "HTTP 401"]
    causes.recovered("a")
    assert log.lines[-1][1]["stream"] == "stream a"
    assert fail(causes, "a", "proxy", "Connection refused"), "it is new again"
    assert log.lines[-1] == (
        "WARNING delivery failed, will be retried",
        {"stream": "stream a", "error": "Connection refused"},
    )


def test_a_cause_that_turned_into_another_for_its_last_lane_is_over(log: Log) -> None:
    causes = Causes(Clock())
    fail(causes, "a", "proxy", "Connection refused")
    fail(causes, "b", "proxy", "Connection refused")
    fail(causes, "a", "busy", "HTTP 503")
    causes.recovered("b")
    assert log.lines[-1][1]["was"] == "Connection refused"


def test_numbers_in_the_words_make_no_other_cause(log: Log) -> None:
    causes = Causes(Clock())
    fail(causes, "a", "busy", "HTTP 503: 17 reports wait")
    fail(causes, "b", "busy", "HTTP 503: 18 reports wait")
    assert len(log.lines) == 1


def test_a_lane_that_is_gone_keeps_no_cause(log: Log) -> None:
    causes = Causes(Clock())
    fail(causes, "a")
    causes.forget("a")
    causes.recovered("a")
    assert len(log.lines) == 1
    fail(causes, "b")
    assert len(log.lines) == 2
