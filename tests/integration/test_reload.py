"""A changed configuration is put in force while the sidecar runs, and a wrong one is not."""

import json
from typing import Any

from tests.support.process import TOKEN, Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, report


def change(sidecar: Sidecar, **settings: Any) -> None:
    """Rewrites the file that the sidecar was started with."""
    sidecar.settings |= settings
    sidecar.config.write_text(json.dumps(sidecar.settings))


def reload(sidecar: Sidecar, code: int = 0) -> str:
    done = run_command("reload", "--config", str(sidecar.config))
    assert done.returncode == code, (done.stdout, done.stderr)
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout + done.stderr


def stream(token: str, **more: Any) -> dict[str, Any]:
    return {"app-events": {"data_id": 1500006, "access_token": token, "kind": "event"}, **more}


def test_a_corrected_token_is_used_at_once(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("401")
    item = event()
    sidecar.post(report(item))
    wait_until(lambda: sidecar.stream()["state"] == "unauthorized")
    proxy.fault("none")
    change(sidecar, streams=stream("another-token", late={"data_id": 77, "access_token": "late-token"}))
    assert "configuration 2 is in force" in reload(sidecar)
    wait_until(lambda: sidecar.books()["queued"] == 0, 5, "a delivery without a pause")
    assert proxy.documents()[0]["data"] == [item]
    assert sidecar.post(report(event())).status_code == 401  # with the old token
    assert sidecar.post({"stream": "late", "data": [event()]}).status_code == 200
    status = sidecar.status()["config"]
    assert (status["generation"], status["error"]) == (2, None)
    assert "late-token" not in sidecar.text()


def test_another_proxy_and_other_limits_count_at_once_and_the_rest_is_named(proxy: Proxy, sidecar: Sidecar) -> None:
    proxy.fault("down")
    sidecar.post(report(event()))
    old = sidecar.settings["proxy"]["urls"][0]
    with Proxy(proxy.output.parent / "..", "--rate", "unlimited") as other:
        other.record = proxy.output.parent / "other.jsonl"
        other.output = proxy.output.parent / "other.log"
        other.start()
        change(
            sidecar,
            proxy={"urls": [other.url], "rate": "100/s", "max_body": "400KB"},
            queue={"max_size": "50MB", "when_full": "drop_oldest"},
            http={"listen": "127.0.0.1:1"},
        )
        told = reload(sidecar)
        assert "only after a restart: http, queue.when_full, proxy.max_body" in told
        sidecar.wait_empty(5)
        assert len(other.items()) == 1
        status = sidecar.status()
        assert [each["url"] for each in status["proxies"]] == [other.url]
        assert other.url != old
        assert status["queue"]["max_bytes"] == 50_000_000


def test_a_wrong_configuration_is_refused_and_the_old_one_stays(proxy: Proxy, sidecar: Sidecar) -> None:
    change(sidecar, proxy={"urls": [proxy.url], "rate": "fast"})
    assert "proxy.rate: expected a rate" in reload(sidecar, code=78)
    sidecar.post(report(event()))
    sidecar.wait_empty()
    assert sidecar.status()["config"]["generation"] == 1


def test_reloading_under_load_loses_and_repeats_nothing(proxy: Proxy, sidecar: Sidecar) -> None:
    sent = []
    for number in range(60):
        item = event()
        assert sidecar.post(report(item)).status_code == 200
        sent.append(item["dimension"]["id"])
        if number % 20 == 10:
            reload(sidecar)
    sidecar.wait_empty()
    assert [item["dimension"]["id"] for item in proxy.items()] == sent
    assert sidecar.status()["config"]["generation"] == 4
