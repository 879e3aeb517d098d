"""Bad events in the real process: found in few requests, in order, within a part of the rate, across kill -9."""

import math
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import Proxy, Sidecar, wait_until
from tests.support.reports import event, report

COUNT = 10_000
A_BATCH = 2_500  # events that fit a body, and more
POISON = ("--rate", "unlimited", "--poison", "POISON")


def events(bad: set[int], count: int = COUNT) -> list[dict[str, Any]]:
    return [event(event={"content": "POISON" if n in bad else "fine"}, dimension={"id": str(n)}) for n in range(count)]


def post_all(sidecar: Sidecar, items: list[dict[str, Any]]) -> None:
    for start in range(0, len(items), 2_000):
        assert sidecar.post(report(*items[start : start + 2_000])).status_code == 200


@pytest.mark.parametrize(
    "bad", [{0}, {COUNT - 1}, {4_711}, {3, 5_000, 5_001, 9_998}], ids=["first", "last", "one", "several"]
)
def test_poison_among_ten_thousand_is_found_in_few_requests(tmp_path: Path, bad: set[int]) -> None:
    with Proxy(tmp_path, *POISON) as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url, {"proxy": {"isolation": "50%"}}) as sidecar:
            sidecar.start()
            post_all(sidecar, events(bad))
            proxy.fault("none", poison=["POISON"])
            sidecar.wait_empty()
            assert [int(item["dimension"]["id"]) for item in proxy.items()] == [n for n in range(COUNT) if n not in bad]
            assert sidecar.books()["dead"] == len(bad)
            summary = proxy.summary()
            assert summary["answers"]["400"] <= len(bad) * (2 + math.ceil(math.log2(A_BATCH)))
            plain = 1 + summary["bytes"] // 400_000
            assert summary["requests"] <= plain + len(bad) * (3 + math.ceil(math.log2(A_BATCH)))


def lanes_of(sidecar: Sidecar) -> set[str]:
    return {lane["name"] for lane in sidecar.stream()["lanes"]}


def test_a_stream_of_bad_events_spends_no_more_than_its_part_of_the_rate_and_holds_up_nobody(tmp_path: Path) -> None:
    with Proxy(tmp_path, "--poison", "POISON") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url, {"proxy": {"rate": "1000/min"}}) as sidecar:
            sidecar.start()
            began_s = time.monotonic()
            bad = [event(event={"content": "POISON"}) for _ in range(400)]
            good = [event() for _ in range(100)]
            mixed = [event() for _ in range(100)]
            for start in range(0, 400, 4):  # bad events before, between and behind the good ones of one stream
                sidecar.post(report(*bad[start : start + 4]))
                sidecar.post(report(mixed[start // 4]))
                sidecar.post(report(good[start // 4], data_id=77, token="another-token"))
            wait_until(lambda: sidecar.stream("77")["queued"] == 0, 10, "the good stream")
            wait_until(lambda: proxy.summary()["by_data_id"]["1500006"]["answers"].get("400", 0) >= 20)
            wait_until(lambda: lanes_of(sidecar) == {"suspect"}, 60, "all set aside, and nothing new behind it")
            summary = proxy.summary()["by_data_id"]
            minutes = 1 + (time.monotonic() - began_s) // 60
            assert summary["77"]["answers"].keys() == {"200"}
            assert summary["1500006"]["answers"]["400"] <= 50 * minutes  # 5 % of the rate
            last = event()
            sidecar.post(report(last))
            wait_until(lambda: last["dimension"]["id"] in proxy.ids(), 10, "a good event behind all the bad ones")
            assert sidecar.books()["balanced"]


def test_kill_9_in_the_middle_of_a_search_loses_nothing_and_repeats_at_most_the_batch(tmp_path: Path) -> None:
    bad = set(range(7, 3_000, 250))
    with Proxy(tmp_path, *POISON) as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url, {"proxy": {"isolation": "50%"}}) as sidecar:
            sidecar.start()
            post_all(sidecar, events(bad, 3_000))
            proxy.fault("none", poison=["POISON"])
            for buried in (2, 5, 9):
                wait_until(lambda buried=buried: sidecar.books()["dead"] >= buried)  # type: ignore[misc]
                sidecar.kill()
                sidecar.start()
            sidecar.wait_empty(60)
            counts = proxy.ids()
            assert set(map(int, counts)) == set(range(3_000)) - bad
            assert max(counts.values()) <= 4
            books = sidecar.books()
            assert books == {
                "accepted": 3_000, "queued": 0, "delivered": 3_000 - len(bad), "dead": len(bad), "dropped": 0,
                "balanced": True,
            }  # fmt: skip


def test_more_hanging_streams_than_connections_keep_no_good_one_waiting(tmp_path: Path, proxy: Proxy) -> None:
    """A request may take four minutes here: whatever a hanging stream holds, it holds for the whole test."""
    hanging, good = list(range(2000, 2040)), list(range(3000, 3010))
    settings = {"proxy": {"connections": 8, "timeout": "60s"}}
    with Sidecar(tmp_path, proxy.url, settings) as sidecar:
        sidecar.start()
        first = event()
        assert sidecar.post(report(first)).status_code == 200  # it is known that the proxy answers, and how fast
        wait_until(lambda: first["dimension"]["id"] in proxy.ids())
        proxy.fault("hang", data_ids=hanging)
        made = {}
        for data_id in [*hanging, *good]:
            made[data_id] = event()
            answer = sidecar.post({"data_id": data_id, "access_token": f"token-{data_id}", "data": [made[data_id]]})
            assert answer.status_code == 200
        wanted = {made[data_id]["dimension"]["id"] for data_id in good}
        wait_until(lambda: wanted <= set(proxy.ids()), 50, "the good ones")
        more = event()
        assert sidecar.post({"data_id": good[0], "access_token": f"token-{good[0]}", "data": [more]}).status_code == 200
        wait_until(lambda: more["dimension"]["id"] in proxy.ids(), 20, "what comes after that, at once")
        status = sidecar.status()
        assert [each["state"] for each in status["proxies"]] == ["up"]
        assert "proxy is down" not in sidecar.text()
        blamed = [each for each in status["streams"] if each["data_id"] in hanging and each["last_error"]]
        assert blamed
        assert "while other streams wait" in blamed[0]["last_error"]
