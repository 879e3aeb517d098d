"""A bad network before the proxy: nothing is lost, only what was not confirmed comes twice, the books balance."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.process import Proxy, Sidecar, wait_until
from tests.support.reports import event, report
from tests.support.rough import FAIR, Rough, Weather

TIMEOUT_S = 0.6


class Parts(NamedTuple):
    proxy: Proxy
    rough: Rough
    sidecar: Sidecar


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    directory: Path = tmp_path_factory.mktemp("rough")
    with Proxy(directory, "--rate", "unlimited") as proxy:
        proxy.start()
        with (
            Rough(proxy.url) as rough,
            Sidecar(directory, rough.url, {"proxy": {"timeout": f"{TIMEOUT_S * 1000:g}ms"}}) as sidecar,
        ):
            yield Parts(proxy, rough, sidecar.start())


@pytest.fixture
def parts(started: Parts) -> Iterator[Parts]:
    yield started
    started.rough.weather = FAIR
    started.sidecar.wait_empty()


class Seen:
    """What the proxy took since this was made."""

    def __init__(self, parts: Parts) -> None:
        self._proxy, self._before = parts.proxy, len(parts.proxy.documents())

    def documents(self) -> list[list[str]]:
        return [
            [item["dimension"]["id"] for item in document["data"]]
            for document in self._proxy.documents()[self._before :]
        ]

    def in_order(self) -> list[str]:
        """Each event once, where it was first."""
        return list(dict.fromkeys(identity for document in self.documents() for identity in document))

    def repeated(self) -> int:
        """Documents with an event that was there before."""
        known: set[str] = set()
        count = 0
        for document in self.documents():
            count += not known.isdisjoint(document)
            known |= set(document)
        return count


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["dimension"]["id"] for item in items]


def large(count: int) -> list[dict[str, Any]]:
    return [event(event={"content": "x" * 1000}) for _ in range(count)]


HTTP_OK = b"HTTP/1.1 200 OK\r\n"
BROKEN = "Connection reset by peer|Broken pipe|Server disconnected|ReadError|WriteError"


@pytest.mark.parametrize(
    ("weather", "words"),
    [
        (Weather(reset_request_after=0), BROKEN),
        (Weather(reset_request_after=30_000), BROKEN),
        (Weather(reset_share=1.0), BROKEN),
        (Weather(reset_answer_after=0), "Connection reset by peer"),
        (Weather(reset_answer_after=20), "Connection reset by peer"),
        (Weather(close_answer_after=20), "RemoteProtocolError: Server disconnected"),
        (Weather(close_answer_after=100), "RemoteProtocolError: Server disconnected before its answer was complete"),
        (Weather(mute=True), "ReadTimeout: not within 0.6 s"),
        (Weather(delay_s=0.8), "ReadTimeout: not within 0.6 s"),
        (Weather(say=b"\x00\xff\x16garbage\r\n\r\n" * 20), "RemoteProtocolError: not valid HTTP"),
        (Weather(say=HTTP_OK + b"Content-Length: 99999\r\n\r\n" + b"x" * 99_999), "HTTP 200: answer larger than 65536"),
        (Weather(say=HTTP_OK + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n"), "RemoteProtocolError: "),
        (Weather(say=HTTP_OK + b"\r\n" + b"\x00" * 70_000), "HTTP 200: answer larger than 65536"),
    ],
)  # fmt: skip
def test_a_failure_of_the_network_is_named_and_costs_nothing(parts: Parts, weather: Weather, words: str) -> None:
    _, rough, sidecar = parts
    seen, cut_before, unanswered_before = Seen(parts), rough.answers_cut, rough.unanswered
    items = large(60)
    rough.weather = weather
    assert sidecar.post(report(*items)).status_code == 200
    wait_until(lambda: sidecar.stream()["last_error"], what="a failure")
    status = sidecar.status()
    assert any(word in status["streams"][0]["last_error"] for word in words.split("|")), status["streams"][0][
        "last_error"
    ]
    assert (status["books"]["queued"], status["books"]["balanced"]) == (60, True)
    rough.weather = FAIR
    sidecar.wait_empty()
    assert seen.in_order() == ids(items)
    if weather.delay_s:  # what was given up arrives late, and is to be counted here, not in the next test
        wait_until(lambda: seen.repeated() == rough.unanswered - unanswered_before > 0, what="the late request")
    else:
        cut = rough.answers_cut - cut_before
        assert seen.repeated() == cut
        assert (cut > 0) == (weather.reset_answer_after is not None or weather.close_answer_after is not None)
    assert sidecar.status()["state"] == "ok"
    assert "Traceback" not in sidecar.text()


def test_a_slow_and_jumpy_line_costs_time_and_nothing_else(parts: Parts) -> None:
    _, rough, sidecar = parts
    seen = Seen(parts)
    before = sidecar.books()["delivered"]
    rough.weather = Weather(delay_s=0.02, jitter_s=0.03, bytes_per_s=5_000_000, stall_share=0.01, stall_s=0.2)
    items = []
    for _ in range(40):
        some = large(20)
        items += some
        assert sidecar.post(report(*some)).status_code == 200
    sidecar.wait_empty()
    rough.weather = FAIR
    assert seen.in_order() == ids(items)
    assert seen.repeated() == 0
    assert sidecar.books()["delivered"] == before + len(items)


def test_changing_weather_loses_nothing_and_repeats_only_what_was_not_confirmed(parts: Parts) -> None:
    _, rough, sidecar = parts
    seen, unanswered = Seen(parts), rough.unanswered
    items = []
    for weather in (
        Weather(reset_answer_after=50),
        Weather(delay_s=0.01, jitter_s=0.02, reset_share=0.05),
        Weather(reset_request_after=40_000),
        Weather(stall_share=0.1, stall_s=0.1, bytes_per_s=4_000_000),
    ):
        rough.weather = weather
        until_s = time.monotonic() + 0.6
        while time.monotonic() < until_s:
            some = large(10)
            items += some
            assert sidecar.post(report(*some)).status_code == 200
            time.sleep(0.02)
    rough.weather = FAIR
    sidecar.wait_empty()
    assert seen.in_order() == ids(items)
    wait_until(lambda: seen.repeated() <= rough.unanswered - unanswered, what="the count of what was not answered")
    books = sidecar.books()
    assert books["balanced"]
    assert books["accepted"] == books["delivered"]
