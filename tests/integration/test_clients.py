"""Clients that exist work unchanged but for the address: the documentation's examples and the SDK from PyPI."""

import json
import logging
import shutil
import subprocess
from typing import Any

import pytest
import requests
from bk_monitor_report import MonitorReporter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tests.support.process import TOKEN, Proxy, Sidecar, wait_until
from tests.support.reports import dump, event, report


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_documentations_curl_example(proxy: Proxy, sidecar: Sidecar) -> None:
    body = """{
        "data_id": 1500006,
        "access_token": "token-of-the-test-pipe",
        "data": [{
            "event_name": "login_failed",
            "target": "0:192.168.0.1",
            "event": {"content": "user->[user00] login failed"},
            "dimension": {"module": "db", "set": "guangdong"},
            "timestamp": 1587218838000
        }]
    }"""
    command = ["curl", "-sS", "--noproxy", "*", "-X", "POST", sidecar.push_url, "-d", body]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=20).stdout)
    assert answer | {"request_id": ""} == {"code": "200", "message": "success", "request_id": "", "result": "true"}
    wait_until(lambda: proxy.items() == json.loads(body)["data"], what="arrival")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_with_a_large_file_waits_for_100_continue(sidecar: Sidecar, tmp_path: Any) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(dump(report(*[event() for _ in range(8_000)])))
    command = ["curl", "-sS", "--noproxy", "*", "-H", "Expect: 100-continue", sidecar.push_url, "-d", f"@{file}"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=20).stdout)
    assert answer["result"] == "true"
    sidecar.wait_empty()


def test_the_documentations_requests_example(proxy: Proxy, sidecar: Sidecar) -> None:
    """Events with a session, a time series with json=, both without a content type of their own."""
    series = {
        "data_id": 1500101, "access_token": "another-token",
        "data": [{
            "metrics": {"cpu_load": 10}, "target": "127.0.0.1", "dimension": {"module": "db", "location": "guangdong"},
            "timestamp": 1618224874331,
        }],
    }  # fmt: skip
    document = report(event())
    with requests.Session() as session:
        session.trust_env = False
        for response in (
            session.post(sidecar.push_url, json=series),  # type: ignore[arg-type]
            session.post(sidecar.push_url, data=json.dumps(document)),
            session.post(sidecar.push_url.rstrip("/"), data=json.dumps(document)),
        ):
            assert response.status_code == 200
            assert response.json()["result"] == "true"
    wait_until(lambda: len(proxy.items()) == 3, what="arrival")
    assert series["data"][0] in proxy.items()  # type: ignore[index]


@pytest.fixture
def reporter(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> MonitorReporter:
    monkeypatch.setenv("NO_PROXY", "*")
    return MonitorReporter(
        data_id=1500006, access_token=TOKEN, target="0:10.0.0.5", url=sidecar.push_url, registry=CollectorRegistry()
    )


def test_the_sdk_reports_events(
    proxy: Proxy, sidecar: Sidecar, reporter: MonitorReporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for n in range(20):
        reporter.report_event("deployed", f"版本 {n}", {"module": "db", "event_type": "abnormal"})
    reporter.report_event("without dimension", "")
    assert "report fail" not in caplog.text
    assert caplog.text.count('"result":"true"') == 21
    wait_until(lambda: len(proxy.items()) == 21, what="arrival")
    assert [item["event"]["content"] for item in proxy.items()] == [f"版本 {n}" for n in range(20)] + [""]
    assert proxy.items()[0]["target"] == "0:10.0.0.5"


def test_the_sdk_reports_metrics(
    proxy: Proxy, sidecar: Sidecar, reporter: MonitorReporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reporter.data_id, reporter.access_token = 1500101, "another-token"
    gauge = Gauge("cpu_load", "Load.", ["core"], registry=reporter.registry)
    for core in range(1200):
        gauge.labels(str(core)).set(core / 8)
    Counter("requests", "Requests.", registry=reporter.registry).inc(3)
    Histogram("latency", "Latency.", registry=reporter.registry).observe(0.3)
    reporter.report()
    assert "report fail" not in caplog.text
    expected = [item for document in reporter.generate_chunked_report_data() for item in document["data"]]
    wait_until(lambda: len(proxy.items()) == len(expected), what="arrival")
    assert len(expected) > 1200
    for arrived, sent in zip(proxy.items(), expected, strict=True):
        assert arrived == sent | {"timestamp": arrived["timestamp"]}
    assert sidecar.stream("1500101")["accepted"] == len(expected)


def test_the_sdk_hears_what_was_wrong(reporter: MonitorReporter, caplog: pytest.LogCaptureFixture) -> None:
    reporter.report_event("bad", "x", {"list": [1]})
    assert "data[0].dimension.list: expected a string, got an array" in caplog.text
