"""Every fault of the proxy, over real sockets: the rows stay, the rest goes on, and all arrives in order afterwards."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import Proxy, Sidecar, wait_until
from tests.support.reports import event, report


def ids_of(items: list[dict[str, Any]]) -> list[str]:
    return [item["dimension"]["id"] for item in items]


def delivered_once_in_order(proxy: Proxy, items: list[dict[str, Any]]) -> None:
    assert ids_of(proxy.items()) == ids_of(items)


def test_a_reply_that_is_lost_makes_a_duplicate_and_never_a_loss(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("reset-after", times=2)
    items = [event() for _ in range(20)]
    for item in items:
        sidecar.post(report(item))
    sidecar.wait_empty()
    counts = proxy.ids()
    assert list(dict.fromkeys(ids_of(proxy.items()))) == ids_of(items)
    assert max(counts.values()) <= 3
    assert sidecar.books()["delivered"] == 20


@pytest.fixture
def impatient(tmp_path: Path, proxy: Proxy) -> Iterator[Sidecar]:
    with Sidecar(tmp_path, proxy.url, {"proxy": {"timeout": "300ms"}}) as sidecar:
        yield sidecar.start()


def test_a_proxy_that_does_not_answer_in_time(proxy: Proxy, impatient: Sidecar) -> None:
    proxy.fault("slow", delay_s=3.0)
    impatient.post(report(event()))
    wait_until(lambda: impatient.stream()["last_error"], what="a time-out")
    assert "Timeout" in impatient.stream()["last_error"]
    assert impatient.books()["queued"] == 1
    proxy.fault("none")
    impatient.wait_empty()


def test_one_bad_stream_never_holds_up_another(tmp_path: Path) -> None:
    with Proxy(tmp_path, "--rate", "unlimited", "--token", "77=right", "--poison", "POISON") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.start()
            sidecar.post(report(event(), data_id=77, token="wrong-token"))
            sidecar.post(report(event(event={"content": "POISON"}), data_id=78, token="other-token"))
            wait_until(lambda: sidecar.stream("77")["state"] == "unauthorized" and sidecar.stream("78")["dead"] == 1)
            good = [event() for _ in range(50)]
            for item in good:
                assert sidecar.post(report(item)).status_code == 200
            wait_until(lambda: len(proxy.items()) == 50, what="the good stream")
            delivered_once_in_order(proxy, good)
            wait_until(lambda: sidecar.books()["queued"] == 1, what="the acknowledgement")
            reasons = "\n".join(sidecar.status()["reasons"])
            assert "stream 77 is unauthorized: HTTP 401: invalid token for data_id 77" in reasons


def test_another_proxy_takes_over_and_the_first_gets_its_work_back(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Proxy(tmp_path / "a", "--rate", "unlimited") as first, Proxy(tmp_path / "b", "--rate", "unlimited") as second:
        first.start()
        second.start()
        with Sidecar(
            tmp_path, first.url, {"proxy": {"urls": [first.url, second.url], "return_after": "2s"}}
        ) as sidecar:
            sidecar.start()
            sidecar.post(report(event()))
            sidecar.wait_empty()
            first.fault("down")
            sidecar.post(report(event()))
            sidecar.wait_empty(10)
            assert (len(first.items()), len(second.items())) == (1, 1)
            states = {proxy["url"]: proxy["state"] for proxy in sidecar.status()["proxies"]}
            assert states == {first.url: "down", second.url: "up"}
            first.fault("none")

            def first_has_it_back() -> bool:
                sidecar.post(report(event()))
                sidecar.wait_empty()
                return len(first.items()) > 1

            wait_until(first_has_it_back, 20)


def test_a_smaller_limit_on_the_way_is_found_by_halving(tmp_path: Path) -> None:
    with Proxy(tmp_path, "--rate", "unlimited", "--max-body", "150KB") as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.start()
            items = [event() for _ in range(1500)]
            for start in range(0, 1500, 100):
                sidecar.post(report(*items[start : start + 100]))
            proxy.fault("none")
            sidecar.wait_empty()
            delivered_once_in_order(proxy, items)
            assert proxy.summary()["answers"]["413"] <= 4


def test_a_backlog_leaves_in_full_batches_within_the_limit(tmp_path: Path) -> None:
    with Proxy(tmp_path, "--rate", "unlimited") as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.start()
            items = [event() for _ in range(20_000)]
            for start in range(0, 20_000, 2_000):
                assert sidecar.post(report(*items[start : start + 2_000])).status_code == 200
            proxy.fault("none")
            sidecar.wait_empty()
            delivered_once_in_order(proxy, items)
            summary = proxy.summary()
            assert summary["answers"] == {"200": summary["documents"]}
            assert summary["documents"] <= 1 + summary["bytes"] / 500_000 / 0.85


def test_bodies_grow_to_the_limit_by_themselves_when_the_budget_gets_tight(tmp_path: Path) -> None:
    """No timer gathers: a lone event leaves at once, and under more load than the rate allows bodies are full.

    A request a second: so a body of 50 KB has a second to fill, for which two of these reports are enough.
    """
    limits = {"rate": "1/s", "max_body": "50KB"}
    with Proxy(tmp_path, "--rate", "unlimited") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url, {"proxy": limits}) as sidecar:
            sidecar.start()
            sidecar.post(report(event()))
            wait_until(lambda: proxy.summary()["documents"] == 1, what="a lone event")
            for _ in range(8):
                assert sidecar.post(report(*[event() for _ in range(125)])).status_code == 200
            sidecar.wait_empty(60)
            sizes = [len(json.dumps(document["data"])) for document in proxy.documents()]
            full = [size for size in sizes if size >= 0.9 * 50_000]
            assert len(full) >= len(sizes) - 3, sizes  # but for the lone one, and those while it began and ended
            assert set(proxy.summary()["answers"]) == {"200"}


def test_the_rate_is_never_exceeded_not_even_across_kill_9(tmp_path: Path) -> None:
    """The proxy counts every request of each token in each window of a second, and would answer 429 above 20."""
    with Proxy(tmp_path, "--rate", "20/s") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url, {"proxy": {"rate": "20/s"}}) as sidecar:
            sidecar.start()
            items: list[dict[str, Any]] = []
            for round_number in range(4):
                until_s = time.monotonic() + 1.5
                while time.monotonic() < until_s:
                    item = event()
                    assert sidecar.post(report(item)).status_code == 200
                    items.append(item)
                if round_number < 3:
                    sidecar.kill()
                    sidecar.start()
            sidecar.wait_empty()
            summary = proxy.summary()
            assert summary["most_requests_in_a_window"] <= 20
            assert set(summary["answers"]) == {"200"}
            assert summary["documents"] > 40  # it did use its budget
            assert list(dict.fromkeys(ids_of(proxy.items()))) == ids_of(items)


def test_a_quiet_stream_sends_its_first_event_at_once(tmp_path: Path) -> None:
    """The figure itself is a benchmark's; here only: it is no matter of a timer."""
    with Proxy(tmp_path) as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url, {"proxy": {"rate": "1000/min"}}) as sidecar:
            sidecar.start()
            took = []
            for n in range(1, 8):
                started_s = time.monotonic()
                sidecar.post(report(event()))
                wait_until(lambda n=n: proxy.record.exists() and proxy.record.read_bytes().count(b"\n") == n)  # type: ignore[misc]
                took.append(time.monotonic() - started_s)
                time.sleep(0.2)
            assert sorted(took)[3] < 0.5


class Picky(http.server.BaseHTTPRequestHandler):
    """A proxy, or something before it, that fails for one data_id and is well for all others."""

    protocol_version = "HTTP/1.1"
    mode = "500"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status, answer = 200, b'{"code":"200","message":"success","request_id":"x","result":"true"}'
        if b'"data_id":666,' in body[:40]:
            if self.mode == "close":
                self.close_connection = True
                return
            status, answer = int(self.mode), b"broken"
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("mode", ["500", "404", "200", "close"])
def test_a_stream_at_which_the_proxy_fails_holds_up_no_other(tmp_path: Path, mode: str) -> None:
    handler = type("Handler", (Picky,), {"mode": mode})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Sidecar(tmp_path, f"http://127.0.0.1:{server.server_port}") as sidecar:
            sidecar.start()
            sidecar.post(report(event(), data_id=666, token="bad-stream"))
            worst_s = 0.0
            until_s = time.monotonic() + 4
            while time.monotonic() < until_s:
                started_s = time.monotonic()
                sidecar.post(report(event()))
                wait_until(lambda: sidecar.stream()["queued"] == 0, 10, "the good stream")
                worst_s = max(worst_s, time.monotonic() - started_s)
            assert worst_s < 1.5
            assert sidecar.stream("666")["queued"] == 1
            assert sidecar.stream("666")["rate_per_min"] >= 3  # it did go on trying
        server.shutdown()


def test_what_waits_with_a_wrong_token_goes_out_once_the_right_one_is_configured(tmp_path: Path) -> None:
    """Both ways: a configured token that is corrected, and a pass-through one that conf.d overrules."""
    with Proxy(tmp_path, "--rate", "unlimited", "--token", "1500006=right-token", "--token", "77=right-token") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url) as sidecar:
            sidecar.start()
            items = [event(), event()]
            sidecar.post(report(items[0]))
            sidecar.post(report(items[1], data_id=77, token="wrong-token"))
            wait_until(lambda: {s["state"] for s in sidecar.status()["streams"]} == {"unauthorized"})
            assert sidecar.text().count("level=error logger=forward") == 1  # once for one cause, however many streams
            assert sidecar.stop() == 0
            right = {"access_token": "right-token"}
            sidecar.settings["streams"] = {
                "app-events": {"data_id": 1500006, **right},
                "seven": {"data_id": 77, **right},
            }
            sidecar.start()
            later = event()
            sidecar.post(report(later, token="right-token"))
            sidecar.wait_empty()
            assert set(ids_of(proxy.items())) == set(ids_of([*items, later]))
            assert sorted(s["name"] for s in sidecar.status()["streams"]) == ["app-events", "seven"]
