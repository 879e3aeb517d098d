"""Which stream a report belongs to."""

from pathlib import Path

import pytest

from sidecar.config import Config, Stream
from sidecar.config.model import DataId, Secret
from sidecar.core.errors import Rejected
from sidecar.core.model import FORGOTTEN, StreamKey
from sidecar.intake.router import Router
from sidecar.report import Envelope
from tests.support.reports import NOW_MS, dump, event

CONFIG = Config(
    state=Path("state"),
    streams={
        "app-events": Stream(data_id=DataId(1500006), access_token=Secret("right"), kind="event"),
        "app-load": Stream(data_id=DataId(1500101), access_token=Secret("other"), timestamps="convert"),
    },
)
DIRECTORY = Router(CONFIG)
RIGHT = StreamKey(1500006, "right")


def envelope(data_id: int | None = None, token: str = "", stream: str | None = None) -> Envelope:
    return Envelope(data_id, token, stream, b"[]", repaired=False)


@pytest.mark.parametrize(
    "names",
    [
        envelope(1500006, "right"),
        envelope(1500006),
        envelope(stream="app-events"),
        envelope(1500006, stream="app-events"),
        envelope(1500006, "right", "app-events"),
        envelope(token="right", stream="app-events"),
    ],
)
def test_the_ways_to_name_a_configured_stream(names: Envelope) -> None:
    route = DIRECTORY.resolve(names)
    assert (route.data_id, route.token, route.rules.kind, route.configured) == (1500006, "right", "event", True)


def test_any_other_pipe_passes_through_with_its_own_token() -> None:
    route = DIRECTORY.resolve(envelope(7, "whatever"))
    assert (route.data_id, route.token, route.configured) == (7, "whatever", False)
    assert (route.rules.kind, route.rules.timestamps) == (None, "strict")


def test_rules_of_a_stream_are_its_own() -> None:
    assert DIRECTORY.resolve(envelope(stream="app-load")).rules.timestamps == "convert"


@pytest.mark.parametrize(
    ("names", "status", "message"),
    [
        (envelope(1500006, "wrong"), 401, "access_token: wrong for stream app-events"),
        (envelope(1500006, "wröng"), 401, "access_token: wrong for stream app-events"),
        (envelope(token="wrong", stream="app-events"), 401, "access_token: wrong"),
        (envelope(7), 401, "access_token: missing, and data_id 7 is no configured stream"),
        (envelope(stream="app-event"), 400, "no stream 'app-event' is configured; did you mean app-events?"),
        (envelope(stream="zzz"), 400, "stream: no stream 'zzz' is configured"),
        (envelope(7, stream="app-events"), 400, "7 is not the data_id of stream app-events"),
    ],
)
def test_what_cannot_be_right_is_refused(names: Envelope, status: int, message: str) -> None:
    with pytest.raises(Rejected, match=message) as refused:
        DIRECTORY.resolve(names)
    assert refused.value.why.status == status
    assert "right" not in refused.value.why.message


def test_all_streams_of_a_data_id_have_one_name_for_people() -> None:
    keys = [StreamKey(1500006, "old token"), RIGHT, StreamKey(7, "x"), StreamKey(7, "y", "time_series"), FORGOTTEN]
    assert list(map(DIRECTORY.name, keys)) == ["app-events", "app-events", "7", "7", "forgotten"]
    assert list(map(DIRECTORY.is_configured, keys)) == [False, True, False, False, False]
    assert "right" not in repr(RIGHT)


def test_what_waits_with_an_old_token_is_sent_with_the_configured_one() -> None:
    assert DIRECTORY.sent_as(StreamKey(1500006, "old token")) == RIGHT
    assert DIRECTORY.sent_as(StreamKey(7, "x")) == StreamKey(7, "x")


def test_streams_with_a_kind_are_there_from_the_start() -> None:
    assert list(DIRECTORY.configured_keys()) == [RIGHT]


def test_only_what_could_be_sent_now_is_fit_to_be_put_back() -> None:
    router = Router(CONFIG)
    good = dump(event())
    assert router.fit(StreamKey(1500006, "", "event"), good, now_ms=NOW_MS) == good, "configured meanwhile"
    assert router.fit(StreamKey(9, "own", "event"), good, now_ms=NOW_MS) == good
    for key, body in (
        (StreamKey(9, "", "event"), good),  # nobody knows its token
        (StreamKey(1500006, "", "event"), b"0"),
        (StreamKey(1500006, "", "event"), b"[]"),
        (StreamKey(1500006, "", "event"), dump(event(target=""))),
        (StreamKey(1500006, "", "event"), dump(event(timestamp="x"))),
        (StreamKey(1500006, "", "time_series"), good),
    ):
        with pytest.raises(Rejected):
            router.fit(key, body, now_ms=NOW_MS)
