"""Backoff, batch, outcome and endpoints: pure decisions of forwarding."""

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.backoff import Backoff
from sidecar.core.model import Chunk, StreamKey
from sidecar.forward.batch import head, room_bytes, splice
from sidecar.forward.endpoints import Endpoint, Endpoints
from sidecar.forward.outcome import (
    Busy,
    DataFault,
    Delivered,
    Failure,
    Looped,
    Misrouted,
    ProxyDown,
    RefusedUnknown,
    Reply,
    Throttled,
    TooLarge,
    Unauthorized,
    is_alive,
    judge,
    retry_after_s,
    skew_s,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
GOOD = b'{"code":"200","message":"success","request_id":"x","result":"true"}'


def test_backoff_doubles_up_to_its_cap() -> None:
    backoff = Backoff(first_s=0.5, cap_s=30)
    assert [backoff.delay_s(n, lambda: 1.0) for n in (1, 2, 3, 7, 8, 1000)] == [0.5, 1, 2, 30, 30, 30]


@pytest.mark.property
@given(st.floats(0.01, 100), st.floats(0.01, 1000), st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_below_its_cap_and_never_shrinks(
    first_s: float, cap_s: float, failures: int, draw: float
) -> None:
    backoff = Backoff(first_s=first_s, cap_s=cap_s)
    delay_s = backoff.delay_s(failures, lambda: draw)
    assert 0 <= delay_s <= cap_s
    assert delay_s <= backoff.delay_s(failures + 1, lambda: draw)


def test_backoff_has_full_jitter() -> None:
    draw = random.Random(1).random
    delays = [Backoff(first_s=1, cap_s=8).delay_s(4, draw) for _ in range(2000)]
    assert min(delays) < 0.1
    assert max(delays) > 7.9
    assert abs(sum(delays) / len(delays) - 4) < 0.2


@given(st.integers(1, 2**62), st.text(min_size=1), st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_a_batch_is_one_report_with_all_events_in_order(data_id: int, token: str, sizes: list[int]) -> None:
    key = StreamKey(data_id, token.encode("utf-8", "replace").decode())
    numbers = iter(range(100))
    events = [[{"n": next(numbers)} for _ in range(size)] for size in sizes]
    chunks = [Chunk(i, b",".join(json.dumps(e).encode() for e in run), len(run)) for i, run in enumerate(events)]
    body = splice(key, chunks)
    everything = [event for run in events for event in run]
    assert json.loads(body) == {"data_id": data_id, "access_token": key.token, "data": everything}
    payload = sum(len(chunk.body) for chunk in chunks) + len(chunks) - 1
    assert len(body) == payload + 500_000 - room_bytes(key, 500_000)


def test_a_token_cannot_break_out_of_its_string() -> None:
    assert json.loads(head(StreamKey(1, 'a"],"data":[')) + b"]}")["access_token"] == 'a"],"data":['


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Reply(200, {}, GOOD), Delivered),
        (Reply(200, {}, b'{"result":true}'), Delivered),
        (Reply(200, {}, b'{"result":"false","message":"no"}'), ProxyDown),
        (Reply(200, {}, b'{"result":1}'), ProxyDown),
        (Reply(200, {}, b"<html>log in</html>"), ProxyDown),
        (Reply(200, {}, b""), ProxyDown),
        (Reply(200, {}, b"[true]"), ProxyDown),
        (Reply(200, {}, b"\xff\xfe"), ProxyDown),
        (Reply(200, {}, b"[" * 60_000), ProxyDown),
        (Reply(201, {}, GOOD), ProxyDown),
        (Reply(204, {}, b""), ProxyDown),
        (Reply(300, {}, b""), Misrouted),
        (Reply(301, {}, GOOD), Misrouted),
        (Reply(302, {}, b""), Misrouted),
        (Reply(400, {}, b'{"message":"bad","result":"false"}'), DataFault),
        (Reply(400, {}, b"<html>plain HTTP sent to HTTPS port"), Misrouted),
        (Reply(401, {}, GOOD), Unauthorized),
        (Reply(401, {}, b""), Misrouted),
        (Reply(403, {}, GOOD), Unauthorized),
        (Reply(403, {}, b"<html>"), Misrouted),
        (Reply(404, {}, b""), Misrouted),
        (Reply(405, {}, b""), Misrouted),
        (Reply(408, {}, b""), Busy),
        (Reply(413, {}, b""), TooLarge),
        (Reply(418, {}, b""), RefusedUnknown),
        (Reply(422, {}, GOOD), DataFault),
        (Reply(422, {}, b"<html>"), Misrouted),
        (Reply(425, {}, b""), Busy),
        (Reply(429, {}, b""), Busy),
        (Reply(429, {}, b"{}"), Throttled),
        (Reply(500, {}, GOOD), ProxyDown),
        (Reply(503, {}, b""), ProxyDown),
        (Reply(508, {}, GOOD), Looped),
        (Reply(508, {}, b"<html>"), ProxyDown),
        (Failure("ConnectError: refused"), ProxyDown),
    ],
)
def test_outcomes(answer: Any, expected: type) -> None:
    assert type(judge(answer, NOW, secret="token-1234")) is expected


NO = b'{"result":"false","message":"no"}'
IN_30_S = {"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Reply(200, {}, b""), ProxyDown("HTTP 200: not a proxy's acknowledgement")),
        (Reply(302, {}, b""), Misrouted("HTTP 302")),
        (Reply(400, {}, NO), DataFault("HTTP 400: no", 400)),
        (Reply(401, {}, b'{"result":"false"}'), Unauthorized("HTTP 401")),
        (Reply(401, {}, b"who?"), Misrouted("HTTP 401: who?: not in a proxy's words")),
        (Reply(404, {}, b"gone"), Misrouted("HTTP 404: gone")),
        (Reply(413, {}, b"a\tlot\x00too\x00\x00long"), TooLarge("HTTP 413: a lot too long", 413)),
        (Reply(418, {}, b'{"message":7}'), RefusedUnknown("HTTP 418")),
        (Reply(429, IN_30_S, NO), Throttled("HTTP 429: no", 30.0)),
        (Reply(429, IN_30_S, b""), Busy("HTTP 429", 30.0)),
        (Reply(503, IN_30_S, NO), ProxyDown("HTTP 503: no", 30.0)),
        (Reply(508, IN_30_S, NO), Looped("HTTP 508: no")),
        (Failure("ReadTimeout", hung=True), ProxyDown("ReadTimeout", hung=True)),
        (Failure("ended", gave_way=True), ProxyDown("ended", gave_way=True)),
    ],
)
def test_an_outcome_says_what_came_and_when_to_come_again(answer: Any, expected: Any) -> None:
    assert judge(answer, NOW, secret="token-1234") == expected


@given(st.integers(100, 599), st.binary(max_size=80))
def test_only_a_200_with_result_true_is_a_delivery(status: int, body: bytes) -> None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    good = status == 200 and isinstance(document, dict) and document.get("result") in ("true", True)
    assert (judge(Reply(status, {}, body), NOW, secret="") == Delivered()) == good


def test_the_answer_of_a_portal_is_shown_on_one_line_and_not_whole() -> None:
    outcome = judge(Reply(200, {}, b"<html>\n\x1b[31m" + b"x" * 5000), NOW, secret="")
    assert isinstance(outcome, ProxyDown)
    assert "\n" not in outcome.reason
    assert "\x1b" not in outcome.reason
    assert len(outcome.reason) < 300


SECRET = "sup3r-S3cret-token-0123456789"


@pytest.mark.parametrize(
    "text",
    [
        SECRET, SECRET.upper(), f"{'x' * 190}{SECRET}", "\n".join(SECRET), f"wrong: {SECRET[5:14]}", f"{SECRET[:8]}...",
        f'{{"message": "bad token {SECRET}"}}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 401, 500, None])
def test_no_part_of_the_token_is_repeated(text: str, status: int | None) -> None:
    answer = Failure(text) if status is None else Reply(status, {}, text.encode())
    outcome: Any = judge(answer, NOW, secret=SECRET)
    assert "repeat the access token" in outcome.reason
    squeezed = "".join(outcome.reason.split()).casefold()
    assert not any(SECRET[i : i + 6].casefold() in squeezed for i in range(len(SECRET) - 5))


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("tok", "no tok here", True),  # so short that any word may have it
        ("toke", "no toke here", False),
        ("toke", "no tok here", True),
        (SECRET, SECRET[-8:], False),
        (SECRET, SECRET[-7:], True),
        (SECRET, SECRET[:7], True),
    ],
)
def test_words_that_hold_less_than_a_part_of_the_token_are_shown(secret: str, text: str, shown: bool) -> None:
    hidden = "(its words are not shown, since they repeat the access token)"
    assert judge(Failure(text), NOW, secret=secret) == ProxyDown(text if shown else hidden)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 7 ", 7),
        ("999999", 300),
        ("-5", None),
        ("soon", None),
        ("Thu, 01 Jan 99999999999999999999 12:00:30 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2300", 300),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


def test_retry_after_of_a_date_goes_by_the_given_now() -> None:
    assert retry_after_s("Thu, 01 Jan 2026 12:00:30 GMT", NOW + timedelta(seconds=20)) == 10


@pytest.fixture
def far_east() -> Iterator[None]:
    """A host whose local time is not UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CST-8")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:59:00 GMT", -60.0),
        ("Thu, 01 Jan 2026 12:00:00 -0000", 0.0),
        ("Thu, 01 Jan 2026 12:00:00", 0.0),
        ("Thu, 01 Jan 2026 20:00:30 +0800", 30.0),
        ("yesterday", None),
        ("", None),
        ("Thu, 01 Jan 99999999999999999999 12:00:30 GMT", None),
    ],
)
@pytest.mark.usefixtures("far_east")
def test_the_clock_of_the_proxy(date: str, ahead_s: float | None) -> None:
    sent_s = NOW.timestamp() + 0.25
    assert skew_s(Reply(200, {"date": date}, b""), sent_s, sent_s + 0.5) == ahead_s
    assert skew_s(Reply(200, {}, b""), sent_s, sent_s + 0.5) is None


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        (Reply(401, {}, b'{"code":"401","message":"invalid token","result":"false"}'), True),
        (Reply(400, {}, b'{"result":"false"}'), True),
        (Reply(200, {}, GOOD), True),
        (Reply(499, {}, b'{"result":"false"}'), True),
        (Reply(500, {}, b'{"result":"false"}'), False),
        (Reply(503, {}, b'{"result":"false"}'), False),
        (Reply(200, {}, b"<html>"), False),
        (Reply(404, {}, b"{}"), False),
        (Failure("ConnectError"), False),
    ],
)
def test_only_a_proxy_answers_a_probe_like_a_proxy(answer: Any, alive: bool) -> None:
    assert is_alive(answer) is alive


FAILED = {"http://a": 0.0, "http://b": 0.0}


def endpoints(*urls: str, choose: Any = "failover", host: str = "host-1") -> Endpoints:
    backoff = Backoff(first_s=1, cap_s=30)
    return Endpoints(
        urls,
        choose,
        host=host,
        backoff=backoff,
        patience_s=60,
        random=lambda: 1.0,
        max_body_bytes=500_000,
        return_after_s=30,
    )


def picked(proxies: Endpoints, now_s: float, failed_at: dict[str, float]) -> str | None:
    endpoint = proxies.pick(now_s, failed_at)
    return endpoint.url if endpoint else None


def test_failover_prefers_the_first_and_comes_back_when_it_has_been_well_for_a_while() -> None:
    proxies = endpoints("http://a", "http://b")
    first, _ = proxies.all
    assert picked(proxies, 0, {}) == "http://a"
    assert proxies.failed(first, "refused", started_s=0, now_s=0.1)
    for now_s in (0.2, 1.2, 100):
        assert picked(proxies, now_s, {}) == "http://b"  # while another one is up, no events are risked
    assert proxies.to_probe(0.2) == []
    assert proxies.to_probe(1.2) == [first]
    assert not proxies.probed(first, alive=False, now_s=1.2)
    assert proxies.to_probe(3.1) == []
    assert not proxies.probed(first, alive=True, now_s=3.2)
    assert not proxies.probed(first, alive=True, now_s=33.1)
    assert proxies.probed(first, alive=True, now_s=33.2)
    assert picked(proxies, 33.3, {}) == picked(proxies, 33.3, {"http://a": 0.1}) == "http://a"
    assert first.last_error is None


def test_one_that_answers_probes_and_fails_events_is_left_alone_for_longer_each_time() -> None:
    proxies = endpoints("http://a", "http://b")
    first, _ = proxies.all
    now_s, away = 0.0, []
    for _ in range(7):
        proxies.failed(first, "HTTP 500", started_s=now_s, now_s=now_s)
        left_s = now_s
        while not proxies.probed(first, alive=True, now_s=now_s):
            now_s += 2.0
        away.append(now_s - left_s)
    assert away == [30, 60, 120, 240, 480, 960, 960]
    proxies.worked(first, now_s)
    proxies.failed(first, "HTTP 500", started_s=now_s, now_s=now_s)
    assert not proxies.probed(first, alive=True, now_s=now_s)
    assert proxies.probed(first, alive=True, now_s=now_s + 30)


def test_when_all_are_down_events_are_the_probes() -> None:
    proxies = endpoints("http://a", "http://b")
    for endpoint in proxies.all:
        proxies.failed(endpoint, "refused", started_s=0, now_s=0)
    assert proxies.to_probe(100) == []
    assert proxies.wait_s(0.25, FAILED) == 0.75
    assert picked(proxies, 1.0, FAILED) == "http://a"


def test_a_stream_that_fails_where_others_succeed_goes_elsewhere_for_a_while() -> None:
    proxies = endpoints("http://a", "http://b")
    assert picked(proxies, 1000, {"http://a": 999}) == "http://b"
    assert picked(proxies, 1000, {}) == "http://a"
    assert picked(proxies, 1000, {"http://a": 900, "http://b": 999}) == "http://a"
    assert picked(proxies, 1000, {"http://a": 650}) == "http://a"


def test_a_proxy_that_was_down_gets_one_attempt_at_a_time() -> None:
    proxies = endpoints("http://a")
    (only,) = proxies.all
    proxies.failed(only, "refused", started_s=0, now_s=0)
    assert proxies.pick(0.5, FAILED) is None
    assert proxies.wait_s(0.25, FAILED) == 0.75
    assert proxies.pick(1.1, FAILED) is only
    assert proxies.claim(only, 1.1, FAILED)
    assert not proxies.claim(only, 1.1, FAILED)
    assert proxies.pick(1.2, FAILED) is None


def test_a_stream_that_has_not_failed_there_may_try_for_itself() -> None:
    proxies = endpoints("http://a")
    only = proxies.all[0]
    proxies.failed(only, "reset", started_s=0, now_s=5)
    assert proxies.wait_s(5.1, {}) == 0
    assert proxies.pick(5.1, {}) is only
    assert proxies.pick(5.1, {"http://a": 4.9}) is only  # what it failed at was an earlier outage
    assert proxies.pick(5.1, {"http://a": 5.0}) is None


def test_attempts_that_were_under_way_together_count_as_one_failure() -> None:
    proxies = endpoints("http://a")
    only = proxies.all[0]
    assert proxies.failed(only, "reset", started_s=0, now_s=1)
    assert not proxies.failed(only, "reset", started_s=0.5, now_s=1.1)
    assert only.failures == 1
    proxies.failed(only, "reset", started_s=1, now_s=2)
    assert only.failures == 2
    assert only.retry_at_s == 4


def test_spread_gives_every_host_its_own_order_and_shares_the_proxies() -> None:
    urls = [f"http://10.0.0.{n}:10205" for n in range(1, 5)]
    firsts = [endpoints(*urls, choose="spread", host=f"host-{n}").all[0].url for n in range(400)]
    assert all(60 < firsts.count(url) < 140 for url in urls)
    assert endpoints(*urls, choose="spread").all[0].url == endpoints(*reversed(urls), choose="spread").all[0].url


def test_losing_a_proxy_moves_only_its_own_hosts() -> None:
    urls = [f"http://10.0.0.{n}:10205" for n in range(1, 5)]
    for n in range(100):
        before = endpoints(*urls, choose="spread", host=f"host-{n}").all[0].url
        after = endpoints(*urls[1:], choose="spread", host=f"host-{n}").all[0].url
        assert after == before or before == urls[0]


@pytest.mark.parametrize("urls", [("http://a", "http://b"), ("http://b", "http://a")])
def test_failover_keeps_the_order_that_is_given(urls: tuple[str, ...]) -> None:
    assert [endpoint.url for endpoint in made(urls).all] == list(urls)


def test_a_proxy_that_is_up_may_be_claimed_by_all() -> None:
    endpoints = made(("http://a",))
    (only,) = endpoints.all
    endpoints.worked(only, 1.0)
    assert endpoints.claim(only, 2.0, {"http://a": 1.5})
    assert endpoints.claim(only, 2.0, {"http://a": 1.5})


def test_the_attempt_is_offered_and_taken_at_the_very_moment() -> None:
    endpoints = made(("http://a",))
    (only,) = endpoints.all
    endpoints.failed(only, "refused", started_s=0.0, now_s=1.0)
    failed_at = {"http://a": 1.0}
    assert endpoints.pick(only.retry_at_s, failed_at) is only
    assert endpoints.claim(only, only.retry_at_s, failed_at)


def test_who_failed_where_others_succeed_goes_elsewhere_for_a_while() -> None:
    endpoints = made(("http://a", "http://b"))
    first, second = endpoints.all
    endpoints.worked(first, 1.0)
    endpoints.worked(second, 1.0)
    endpoints.worked(first, 3.0)
    assert endpoints.pick(4.0, {"http://a": 2.0}) is second
    assert endpoints.pick(303.0, {"http://a": 2.0}) is first


def test_how_long_an_answer_may_take_follows_the_answers_of_late() -> None:
    endpoint = Endpoint("http://a", max_body_bytes=1)
    assert endpoint.patience_s(0.0) is None
    endpoint.worked_at_s = 1000.0
    found = []
    for seconds in (1.0, 9.0, 2.0):
        endpoint.answered(seconds)
        found.append(endpoint.patience_s(1001.0))
    assert found == [10.0, 20.0, 20.0]
    assert endpoint.patience_s(1060.0) is not None
    assert endpoint.patience_s(1061.0) is None  # nothing was answered lately


def made(urls: tuple[str, ...]) -> Endpoints:
    return Endpoints(
        urls, "failover", host="h", backoff=Backoff(first_s=0.5, cap_s=30), patience_s=60, random=lambda: 1.0,
        max_body_bytes=1, return_after_s=30,
    )  # fmt: skip
