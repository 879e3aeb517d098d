"""Clients cannot fill the log, and still nothing goes unsaid."""

import structlog

from sidecar.inputs.socket.log_throttle import LogThrottle
from tests.support.loops import StillLoop


def test_the_first_few_are_told_and_then_how_many_more() -> None:
    loop = StillLoop()
    complaints = LogThrottle("local", loop)
    with structlog.testing.capture_logs() as lines:
        for number in range(1000):
            complaints.say("frame refused", number=number)
        complaints.say("another thing")
        assert [line.get("number") for line in lines] == [0, 1, 2, 3, 4, None]
        loop.pass_time(10)
        assert lines[-1] == {
            "event": "frame refused", "socket": "local", "more": 995, "within_s": 10.0, "log_level": "warning",
        }  # fmt: skip
        assert len(lines) == 7
        complaints.say("frame refused", number=1)
        assert lines[-1]["number"] == 1
        loop.pass_time(10)
        assert len(lines) == 8
    loop.close()
