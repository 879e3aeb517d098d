"""Every row of the table of outcomes, over real sockets: what is held, what is buried, and that nothing is lost.

One sidecar and one proxy for all rows; each row has a stream and a token of its own.
"""

import itertools
import time
from typing import Any

import pytest

from sidecar.cli.control import command
from sidecar.core.model import Books
from sidecar.service.control_messages import Retry
from tests.support.process import Proxy, Sidecar, wait_until
from tests.support.reports import event, report

SETTINGS = {"proxy": {"timeout": "400ms"}}
_data_ids = itertools.count(3001)

NOT_A_PROXY = "not a proxy's acknowledgement"
HELD = [
    ("401", "unauthorized", "up", "HTTP 401: fault 401"),
    ("403", "unauthorized", "up", "HTTP 403: fault 403"),
    ("404", "held", "down", "HTTP 404"),
    ("405", "held", "down", "HTTP 405"),
    ("301", "held", "down", "HTTP 301"),
    ("307", "held", "down", "HTTP 307"),
    ("redirect", "held", "down", "HTTP 302"),
    ("418", "held", "up", "HTTP 418"),
    ("408", "held", "up", "HTTP 408"),
    ("425", "held", "up", "HTTP 425"),
    ("429", "rate_limited", "up", "HTTP 429: fault 429"),
    ("busy", "held", "up", "HTTP 429"),
    ("500", "held", "down", "HTTP 500: fault 500"),
    ("502", "held", "down", "HTTP 502"),
    ("503", "held", "down", "HTTP 503"),
    ("504", "held", "down", "HTTP 504"),
    ("html", "held", "down", NOT_A_PROXY),
    ("empty", "held", "down", NOT_A_PROXY),
    ("garbled", "held", "down", NOT_A_PROXY),
    ("array", "held", "down", NOT_A_PROXY),
    ("string", "held", "down", NOT_A_PROXY),
    ("no-result", "held", "down", NOT_A_PROXY),
    ("false", "held", "down", NOT_A_PROXY),
    ("201", "held", "down", "HTTP 201"),
    ("large", "held", "down", "answer larger than 65536 bytes"),
    ("down", "held", "down", "ConnectError: Connection refused"),
    ("reset-before", "held", "down", "Error"),
    ("cut-head", "held", "down", "Error"),
    ("cut-body", "held", "down", "Error"),
    ("garbage", "held", "down", "Error"),
    ("hang", "held", "down", "ReadTimeout: not within 0.4 s"),
]


class Row:
    """A stream of its own in the shared sidecar."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.data_id = next(_data_ids)

    def post(self, *items: dict[str, Any]) -> None:
        answer = self.sidecar.post(report(*items, data_id=self.data_id, token=f"token-of-row-{self.data_id}"))
        assert answer.status_code == 200

    def status(self) -> Any:
        return self.sidecar.stream(str(self.data_id))

    def failing(self) -> Any:
        stream = self.status()
        return stream if stream["last_error"] and stream["state"] != "sending" else None

    def retry(self) -> None:
        command(self.sidecar.state, "/control/retry", Retry(str(self.data_id)), Books)

    def delivered(self, proxy: Proxy) -> list[str]:
        return [
            item["dimension"]["id"]
            for document in proxy.documents()
            if document["data_id"] == self.data_id
            for item in document["data"]
        ]


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["dimension"]["id"] for item in items]


@pytest.mark.parametrize(("mode", "state", "proxy_state", "words"), HELD)
def test_what_is_no_acknowledgement_and_no_data_fault_loses_and_buries_nothing(
    shared: tuple[Proxy, Sidecar], mode: str, state: str, proxy_state: str, words: str
) -> None:
    proxy, sidecar = shared
    row = Row(sidecar)
    proxy.fault(mode, delay_s=0.1)
    items = [event() for _ in range(5)]
    for item in items:
        row.post(item)
    stream = wait_until(row.failing, what="a failure")
    assert words in stream["last_error"]
    assert stream["state"] == state
    assert (stream["queued"], stream["delivered"], stream["dead"], stream["dropped"]) == (5, 0, 0, 0)
    assert sidecar.status()["proxies"][0]["state"] == proxy_state
    assert row.delivered(proxy) == []
    assert f"token-of-row-{row.data_id}" not in sidecar.text()
    proxy.fault("none")
    row.retry()
    wait_until(lambda: row.status()["queued"] == 0)
    assert row.delivered(proxy) == ids(items)
    stream = row.status()
    assert (stream["last_error"], stream["delivered"], stream["lanes"]) == (None, 5, [])
    assert sidecar.books()["balanced"]


@pytest.mark.parametrize("status", [400, 422])
def test_a_data_fault_buries_the_bad_event_with_the_proxys_words_and_delivers_the_others(
    shared: tuple[Proxy, Sidecar], status: int
) -> None:
    proxy, sidecar = shared
    row = Row(sidecar)
    proxy.fault("none", poison=["POISON"], poison_status=status)
    items = [event(event={"content": "POISON" if n == 7 else "fine"}) for n in range(20)]
    row.post(*items)
    wait_until(lambda: row.status()["queued"] == 0)
    assert row.delivered(proxy) == ids(items[:7] + items[8:])
    assert (row.status()["dead"], row.status()["last_error"]) == (1, None)
    assert proxy.summary()["by_data_id"][str(row.data_id)]["answers"][str(status)] <= 6
    proxy.fault("none")


def test_413_makes_bodies_smaller_and_buries_only_what_is_too_large_alone(shared: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = shared
    row = Row(sidecar)
    proxy.fault("413", times=3)
    items = [event() for _ in range(64)]
    row.post(*items)
    wait_until(lambda: row.status()["queued"] == 0)
    assert row.delivered(proxy) == ids(items)
    assert sidecar.status()["proxies"][0]["max_body"] < 500_000
    proxy.fault("413")
    row.post(event(), event())
    wait_until(lambda: row.status()["dead"] == 2)
    assert row.status()["queued"] == 0
    proxy.fault("none")


def test_a_lost_reply_repeats_exactly_the_one_batch(shared: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = shared
    row = Row(sidecar)
    proxy.fault("down")
    items = [event() for _ in range(30)]
    for start in range(0, 30, 10):
        row.post(*items[start : start + 10])
    proxy.fault("reset-after", times=1)
    row.retry()
    wait_until(lambda: row.status()["queued"] == 0)
    first, again, *rest = [document["data"] for document in proxy.documents() if document["data_id"] == row.data_id]
    assert first == again
    assert ids([item for batch in [first, *rest] for item in batch]) == ids(items)
    assert row.status()["delivered"] == 30


@pytest.mark.parametrize(("retry_after", "seconds"), [("2", 2), ("Fri, 31 Dec 2077 23:59:59 GMT", 300)])
@pytest.mark.parametrize("mode", ["429", "503", "busy", "408"])
def test_retry_after_is_honoured_in_both_forms_and_capped(
    shared: tuple[Proxy, Sidecar], mode: str, retry_after: str, seconds: int
) -> None:
    proxy, sidecar = shared
    row = Row(sidecar)
    proxy.fault(mode, retry_after=retry_after, delay_s=0.1)
    row.post(event())
    wait_until(lambda: row.status()["next_attempt_at"], what="the hold")
    left_s = row.status()["next_attempt_at"] / 1000 - time.time()
    assert seconds - 1.5 <= left_s <= seconds * 1.05 + 10.5  # a pause that depends on chance comes on top
    proxy.fault("none")
    row.retry()
    if mode != "429":  # there it is the token's rate, which a retry does not overrule
        wait_until(lambda: row.status()["queued"] == 0)
