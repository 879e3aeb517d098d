"""Sidecars whose proxies lead in a circle: seen at once, and nothing multiplies."""

import socket
import time
from pathlib import Path

from sidecar.core.hops import HEADER
from tests.support.process import Proxy, Sidecar, wait_until
from tests.support.reports import event, report


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_loop_of_two_is_refused_with_508_and_both_say_so(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    for name in "ab":
        (tmp_path / name).mkdir()
    http = [{"http": {"listen": f"127.0.0.1:{port}"}} for port in ports]
    with (
        Sidecar(tmp_path / "a", f"http://127.0.0.1:{ports[1]}", http[0]) as a,
        Sidecar(tmp_path / "b", f"http://127.0.0.1:{ports[0]}", http[1]) as b,
    ):
        a.start()
        b.start()
        for _ in range(100):
            assert a.post(report(*[event() for _ in range(10)], data_id=9, token="passes-through")).status_code == 200
        wait_until(lambda: b.stream("9")["last_error"], 20, "a refusal")
        assert "508" in b.stream("9")["last_error"]
        assert "has been here before" in b.stream("9")["last_error"]
        time.sleep(2)
        assert a.books()["accepted"] == 1_000
        assert b.books()["accepted"] == 1_000
        assert b.books()["queued"] == 1_000  # held, and nothing is dead: no bad event was looked for
        assert b.books()["dead"] == 0
        status = b.status()
        assert status["state"] == "degraded"
        assert any("stream 9 is held: HTTP 508" in reason for reason in status["reasons"])
        assert [proxy["state"] for proxy in status["proxies"]] == ["up"]  # it is no fault of the other side
        assert sum(entry["rejected"] for entry in a.status()["inputs"]) > 0


def test_a_chain_of_sidecars_is_no_loop(tmp_path: Path, proxy: Proxy) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    with Sidecar(tmp_path / "b", proxy.url) as gateway:
        gateway.start()
        with Sidecar(tmp_path / "a", gateway.url) as host:
            host.start()
            items = [event() for _ in range(20)]
            for item in items:
                assert host.post(report(item)).status_code == 200
            wait_until(lambda: len(proxy.ids()) == 20, what="arrival")
            host.wait_empty()


def test_a_header_that_no_sidecar_wrote_is_ignored_and_counted(sidecar: Sidecar) -> None:
    for header in ("x", "0" * 16 + ";", "a" * 5000, ", ".join(["0" * 16] * 15)):
        assert sidecar.post(report(event()), headers={HEADER: header}).status_code == 200
    own = (sidecar.state / "id").read_text().strip()
    answer = sidecar.post(report(event()), headers={HEADER: f"{'0' * 16}, {own}"})
    assert answer.status_code == 508
    assert f"from sidecar 000000 to {own[:6]} to {own[:6]}; see proxy.urls" in answer.json()["message"]
    assert f"id={own[:6]}" in sidecar.text()
    assert own not in answer.text + sidecar.text()  # who knows it could make this sidecar refuse another one
    (entry,) = sidecar.status()["inputs"]
    assert entry["hops_ignored"] == 4
    assert 'sidecar_input_hops_ignored_total{input="http",kind="http"} 4.0' in sidecar.get("/metrics").text


def test_the_id_survives_a_restart(sidecar: Sidecar) -> None:
    own = (sidecar.state / "id").read_text()
    assert (sidecar.state / "id").stat().st_mode & 0o777 == 0o600
    sidecar.kill()
    sidecar.start()
    assert (sidecar.state / "id").read_text() == own
