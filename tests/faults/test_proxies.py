"""Several proxies: fail-over under load, spread, and one that is slow or lies."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import Proxy, Sidecar, wait_until
from tests.support.reports import event, report


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Proxy, Proxy]]:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Proxy(tmp_path / "a", "--rate", "unlimited") as first, Proxy(tmp_path / "b", "--rate", "unlimited") as second:
        yield first.start(), second.start()


def two(pair: tuple[Proxy, Proxy], **more: Any) -> dict[str, Any]:
    return {"proxy": {"urls": [proxy.url for proxy in pair], "return_after": "1s", "timeout": "500ms", **more}}


class Load(threading.Thread):
    """Posts events one after the other until it is told to stop."""

    def __init__(self, sidecar: Sidecar) -> None:
        super().__init__(name="load")
        self.sidecar, self.sent = sidecar, list[str]()
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            item = event()
            if self.sidecar.post(report(item)).status_code == 200:
                self.sent.append(item["dimension"]["id"])

    def __enter__(self) -> "Load":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.join()


def test_fail_over_under_load_loses_nothing_and_delays_little(tmp_path: Path, pair: tuple[Proxy, Proxy]) -> None:
    first, second = pair
    with Sidecar(tmp_path, first.url, two(pair)) as sidecar:
        sidecar.start()
        with Load(sidecar) as load:
            for mode in ("down", "503", "hang", "html"):
                first.fault("none")
                before = len(first.documents())
                wait_until(lambda before=before: len(first.documents()) > before, 20, "the preferred proxy")  # type: ignore[misc]
                first.fault(mode)
                before = len(second.documents())
                wait_until(lambda before=before: len(second.documents()) > before, 20, f"the other, while {mode}")  # type: ignore[misc]
                time.sleep(0.5)
                assert sidecar.stream()["oldest_age_s"] < 2
        first.fault("none")
        sidecar.wait_empty()
        got = first.ids() + second.ids()
        assert set(got) == set(load.sent)
        assert sum(got.values()) == len(load.sent)  # in all of these modes a proxy stores nothing
        assert sidecar.books()["balanced"]


def test_a_proxy_that_is_well_when_probed_and_fails_events_costs_little(
    tmp_path: Path, pair: tuple[Proxy, Proxy]
) -> None:
    first, second = pair
    first.fault("500", data_ids=[1500006])  # a probe has no data_id
    with Sidecar(tmp_path, first.url, two(pair)) as sidecar:
        sidecar.start()
        with Load(sidecar) as load:
            time.sleep(8)
        sidecar.wait_empty()
        assert second.ids().keys() == set(load.sent)
        answers = first.summary()
        assert answers["probes"]["requests"] >= 3
        assert answers["answers"]["500"] <= 6  # it is left alone for longer each time


def test_without_another_proxy_to_use_there_are_no_probes(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("500")
    sidecar.post(report(event()))
    wait_until(lambda: proxy.summary()["requests"] >= 2)
    assert proxy.summary()["probes"]["requests"] == 0


def test_spread_keeps_to_one_order_of_this_hosts_own(tmp_path: Path, pair: tuple[Proxy, Proxy]) -> None:
    with Sidecar(tmp_path, pair[0].url, two(pair, choose="spread")) as sidecar:
        sidecar.start()
        for _ in range(20):
            sidecar.post(report(event()))
        sidecar.wait_empty()
        assert sorted(len(proxy.items()) for proxy in pair) == [0, 20]


def test_many_streams_share_few_connections_fairly(tmp_path: Path) -> None:
    with Proxy(tmp_path, "--rate", "unlimited") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url, {"proxy": {"connections": 2}}) as sidecar:
            sidecar.start()
            proxy.fault("slow", delay_s=0.02)
            for number in range(1, 151):
                sidecar.post(report(event(), data_id=number, token=f"token-of-stream-{number}"))
            sidecar.wait_empty(60)
            assert {document["data_id"] for document in proxy.documents()} == set(range(1, 151))
            assert sidecar.books()["delivered"] == 150


def test_the_clock_of_the_proxy_says_what_the_future_is(tmp_path: Path) -> None:
    """This host's clock is two hours ahead: what is stamped here waits; what is dated as the proxy has it goes out."""
    with Proxy(tmp_path, "--rate", "unlimited", "--skew", "-7200") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.start()
            sidecar.post(report(event()))
            sidecar.wait_empty()
            (shown,) = sidecar.status()["proxies"]
            assert -7203 < shown["clock_ahead_s"] < -7197
            assert "clocks differ" in "\n".join(sidecar.status()["reasons"])
            now_ms = int(time.time() * 1000)
            soon = event(timestamp=now_ms - 3_600_000 + 4_000)  # valid by the proxy's clock in four seconds
            sidecar.post(report(soon, event(timestamp=now_ms)))
            (later,) = sidecar.stream()["lanes"]
            assert (later["name"], later["queued"]) == ("scheduled", 2)
            wait_until(lambda: soon["dimension"]["id"] in proxy.ids(), 25, "its time")
            assert proxy.summary()["answers"] == {"200": 2}
            wait_until(lambda: sidecar.books()["queued"] == 1, what="the acknowledgement")
