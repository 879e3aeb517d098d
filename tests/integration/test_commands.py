"""The commands about delivery, called as an operator would, against a running sidecar and a stand-in with faults."""

import json
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.process import TOKEN, Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, report


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[tuple[Proxy, Sidecar]]:
    """A sidecar that keeps deliveries, in front of a proxy to which POISON is bad."""
    with Proxy(tmp_path, "--rate", "unlimited", "--poison", "POISON") as proxy:
        proxy.start()
        with Sidecar(tmp_path, proxy.url, {"queue": {"keep_delivered": "1h"}}) as sidecar:
            yield proxy, sidecar.start()


def call(sidecar: Sidecar, *arguments: str, code: int = 0) -> str:
    """What the command prints; it must end with `code`."""
    done = run_command(*arguments, "--config", str(sidecar.config))
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def named(name: str, **more: Any) -> dict[str, Any]:
    return event(dimension={"id": name}, **more)


def poison(name: str) -> dict[str, Any]:
    return named(name, event={"content": "POISON"})


def bury(sidecar: Sidecar, *names: str) -> None:
    """Puts poisonous events of these ids through, beside good ones."""
    before = sidecar.stream()["dead"]
    sidecar.post(report(event(), *map(poison, names), event()))
    wait_until(lambda: sidecar.stream()["dead"] == before + len(names) and not sidecar.stream()["queued"])


def test_dead_letters_from_burial_to_purge(keeping: tuple[Proxy, Sidecar], tmp_path: Path) -> None:
    proxy, sidecar = keeping
    bury(sidecar, "bad-1", "bad-2", "bad-3")
    assert len(proxy.items()) == 2
    listed = call(sidecar, "dead", "list")
    assert [name for name in ("bad-1", "bad-2", "bad-3") if name in listed] == ["bad-1", "bad-2", "bad-3"]
    assert "3 dead letters" in listed
    letters = json.loads(call(sidecar, "dead", "list", "--json"))
    assert [letter["event"]["dimension"]["id"] for letter in letters] == ["bad-1", "bad-2", "bad-3"]
    first = letters[0]
    assert (first["stream"], first["data_id"], first["kind"]) == ("app-events", 1500006, "event")
    assert (first["reason"], first["status"]) == ("HTTP 400: poison event", 400)
    assert first["attempts"] >= 2
    assert first["accepted_ms"] <= first["first_ms"] <= first["last_ms"]
    shown = call(sidecar, "dead", "show", "2")
    assert '"id": "bad-2"' in shown
    assert "HTTP 400: poison event" in shown
    assert "no dead letter has the number 99" in call(sidecar, "dead", "show", "99", code=1)

    exported = tmp_path / "dead.jsonl"
    assert "3 dead letters written" in call(sidecar, "dead", "export", "--output", str(exported))
    assert [json.loads(line)["event"]["dimension"]["id"] for line in exported.read_text().splitlines()] == [
        "bad-1", "bad-2", "bad-3",
    ]  # fmt: skip
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    assert "File exists" in call(sidecar, "dead", "export", "--output", str(exported), code=1)
    assert len(call(sidecar, "dead", "export", "--reason", "POISON event", "--since", "1h").splitlines()) == 3
    assert call(sidecar, "dead", "export", "--until", "1h") == ""

    assert "1 dead letter put back" in call(
        sidecar, "dead", "retry", "2"
    )  # still poisonous: it comes back with a new number
    wait_until(lambda: sidecar.stream()["dead"] == 3)
    assert [letter["id"] for letter in json.loads(call(sidecar, "dead", "list", "--json"))] == [1, 3, 4]
    proxy.fault("none", poison=[])
    assert "2 dead letters put back" in call(sidecar, "dead", "retry", "1", "4")
    sidecar.wait_empty()
    assert {"bad-1", "bad-2"} <= set(proxy.ids())
    assert "say --yes" in call(sidecar, "dead", "purge", "--all", code=2)
    assert "either --all" in call(sidecar, "dead", "purge", "--yes", code=2)
    assert "1 dead letter dropped" in call(sidecar, "dead", "purge", "--all", "--yes")
    books = sidecar.books()
    assert books == {"accepted": 5, "queued": 0, "delivered": 4, "dead": 0, "dropped": 1, "balanced": True}
    assert sidecar.stream()["dropped_by"] == {"purged": 1}


def test_dead_letters_share_no_batch_with_new_events(keeping: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = keeping
    bury(sidecar, "bad-1")
    proxy.fault("down")
    call(sidecar, "dead", "retry", "--all")
    sidecar.post(report(named("new")))
    assert {lane["name"]: lane["queued"] for lane in sidecar.stream()["lanes"]} == {"fresh": 1, "retry": 1}
    proxy.fault("none", poison=[])
    sidecar.wait_empty(40)
    batches = [[item["dimension"]["id"] for item in document["data"]] for document in proxy.documents()]
    assert ["new"] in batches
    assert ["bad-1"] in batches


def test_dead_letters_can_be_read_while_no_sidecar_runs_and_changed_only_while_one_does(
    keeping: tuple[Proxy, Sidecar],
) -> None:
    _, sidecar = keeping
    bury(sidecar, "bad-1")
    assert sidecar.stop() == 0
    assert "bad-1" in call(sidecar, "dead", "list")
    assert "no sidecar runs" in call(sidecar, "dead", "retry", "--all", code=1)
    assert "no sidecar runs" in call(sidecar, "retry", "app-events", code=1)
    assert "was refused by the proxy for good" in call(sidecar, "why", "bad-1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dead", "list", "--stream", "nope"), "no stream is called nope; there are: app-events"),
        (("dead", "list", "--since", "yesterday"), "expected a time such as 2026-01-31T08:00"),
        (("retry", "nope"), "no stream is called nope; there are: app-events"),
        (("replay", "--from", "1h", "--to", "2h"), "--from is later than --to"),
        (("replay", "--from", "1h", "--proxy", "ftp://x"), "expected a URL such as http://10.0.0.1:10205"),
        (("drain", "--timeout", "soon"), "expected a duration such as 250ms"),
        (("why", "nobody"), "nothing is known of nobody"),
    ],
)
def test_what_cannot_be_meant_is_said_plainly(
    keeping: tuple[Proxy, Sidecar], arguments: tuple[str, ...], words: str
) -> None:
    _, sidecar = keeping
    done = run_command(*arguments, "--config", str(sidecar.config))
    assert done.returncode in (1, 2)
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_deliveries_are_replayed_to_another_proxy_and_to_the_same(
    keeping: tuple[Proxy, Sidecar], tmp_path: Path
) -> None:
    proxy, sidecar = keeping
    items = [named(f"e{n}") for n in range(5)]
    for item in items:
        sidecar.post(report(item))
    sidecar.wait_empty()
    (tmp_path / "other").mkdir()
    with Proxy(tmp_path / "other", "--rate", "unlimited") as other:
        other.start()
        assert "5 events would be sent again" in call(sidecar, "replay", "--from", "1h", "--dry-run")
        assert call(sidecar, "replay", "--from", "1h", "--to", "30min").startswith("0 events")
        other.fault("down")
        assert "5 events queued again" in call(sidecar, "replay", "--from", "1h", "--proxy", other.url)
        assert "is under way" in call(sidecar, "replay", "--from", "1h", code=1)
        assert f"for {other.url}" in call(sidecar, "why", "app-events")
        sidecar.post(report(named("new")))
        wait_until(lambda: proxy.ids()["new"] == 1, what="new events are not held up by the other proxy")
        other.fault("none")
        call(sidecar, "drain", "--timeout", "40s")
        assert sorted(other.ids()) == [f"e{n}" for n in range(5)]
    call(sidecar, "replay", "--from", "1h", "--stream", "app-events")
    call(sidecar, "drain", "--timeout", "40s")
    assert proxy.ids() == {"new": 2} | {f"e{n}": 2 for n in range(5)}
    assert sidecar.stream()["replayed"] == 11
    assert sidecar.books() == {"accepted": 17, "queued": 0, "delivered": 17, "dead": 0, "dropped": 0, "balanced": True}


def test_nothing_to_replay_says_what_to_configure(proxy: Proxy, sidecar: Sidecar) -> None:
    sidecar.post(report(event()))
    assert "queue.keep_delivered is 0s" in call(sidecar, "replay", "--from", "1h", code=1)


def test_why_names_the_reason_and_the_next_attempt(keeping: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = keeping
    assert "nothing waits; nothing was delivered yet" in call(sidecar, "why", "app-events")
    proxy.fault("down")
    sidecar.post(report(named("waits")))
    wait_until(lambda: sidecar.stream()["last_error"])
    told = call(sidecar, "why", "app-events")
    assert re.search(
        r"1 event waiting, the oldest for .*\n  the proxy cannot be reached\n  http://\S+ is down since", told
    )
    assert "Connection refused" in told
    assert "next attempt" in told
    found = call(sidecar, "why", "id=waits")
    assert "waits in the queue of app-events (lane fresh)" in found
    assert "the proxy cannot be reached" in found
    proxy.fault("401")
    call(sidecar, "retry", "app-events")
    wait_until(lambda: sidecar.stream()["state"] == "unauthorized")
    told = call(sidecar, "why", "1500006")
    assert "the proxy refuses the access token since" in told
    assert "HTTP 401" in told
    proxy.fault("none")
    sidecar.post(report(named("scheduled", timestamp=int(time.time() * 1000) + 3_700_000)))
    assert "1 event dated in the future" in call(sidecar, "why", "app-events")
    assert json.loads(call(sidecar, "why", "scheduled", "--json"))["events"][0]["place"] == "scheduled"
    call(sidecar, "retry", "app-events")
    assert "dated in the future: 1 event" in call(sidecar, "drain", "--timeout", "20s")
    assert "was delivered to the proxy from app-events" in call(sidecar, "why", "event_name=login_failed")


def test_a_drain_that_takes_too_long_says_why_and_exits_1(keeping: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = keeping
    proxy.fault("down")
    sidecar.post(report(event()))
    told = call(sidecar, "drain", "--timeout", "1s", code=1)
    assert "the proxy cannot be reached" in told
    proxy.fault("none")
    assert call(sidecar, "drain", "--timeout", "40s") == "the queue is empty\n"


def test_retry_ends_a_long_wait_at_once(keeping: tuple[Proxy, Sidecar]) -> None:
    proxy, sidecar = keeping
    proxy.fault("401")
    sidecar.post(report(event()))
    for _ in range(4):  # so that the next pause is of a minute
        wait_until(lambda: sidecar.stream()["state"] == "unauthorized")
        call(sidecar, "retry", "app-events")
    proxy.fault("none")
    assert "released" in call(sidecar, "retry", "app-events")
    sidecar.wait_empty(5)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("dead/retry", b'{"wanted":{"ids":[99999999999999999999]}}'),
        ("dead/purge", b'{"wanted":{},"after_id":99999999999999999999}'),
        ("dead/purge", b"[" * 100_000),
        ("retry", b'{"stream":"\xff"}'),
        ("retry", b'{"streem":"x"}'),
        ("replay", b""),
        ("replay", b"x" * 1_100_000),
    ],
)
def test_odd_words_on_the_control_socket_get_an_answer_and_harm_nothing(
    keeping: tuple[Proxy, Sidecar], path: str, body: bytes
) -> None:
    _, sidecar = keeping
    transport = httpx.HTTPTransport(uds=str(sidecar.state / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://localhost", trust_env=False) as client:
        answer = client.post(f"/control/{path}", content=body)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]
    assert sidecar.status()["state"] == "ok"
    assert "level=error" not in sidecar.text()


def test_a_replay_can_be_taken_back(keeping: tuple[Proxy, Sidecar]) -> None:
    _, sidecar = keeping
    sidecar.post(report(event(), event()))
    sidecar.wait_empty()
    call(sidecar, "replay", "--from", "1h", "--proxy", "http://127.0.0.1:9")
    assert "2 events dropped" in call(sidecar, "replay", "--cancel")
    books = sidecar.books()
    assert (books["queued"], books["dropped"], books["balanced"]) == (0, 2, True)
    assert sidecar.stream()["dropped_by"] == {"replay_cancelled": 2}
    assert "--from is missing" in call(sidecar, "replay", code=2)


def test_what_would_do_something_else_than_was_meant_is_refused(keeping: tuple[Proxy, Sidecar]) -> None:
    _, sidecar = keeping
    sidecar.post(report(event()))
    sidecar.wait_empty()
    assert "goes with no other option" in call(sidecar, "replay", "--cancel", "--dry-run", code=2)
    own = ("--proxy", "http://127.0.0.1:10207")
    sidecar.settings["http"]["listen"] = "127.0.0.1:10207"  # for the command, which reads the file
    sidecar.config.write_text(json.dumps(sidecar.settings))
    assert "own http.listen" in call(sidecar, "replay", "--from", "1h", *own, code=2)
    assert "no dead letters have these numbers" in call(sidecar, "dead", "retry", "99", code=1)
    assert sidecar.stop() == 0
    assert "0 events waiting, and no sidecar runs" in call(sidecar, "why", "app-events")


def test_numbers_beyond_all_measure_are_wrong_usage_and_terminals_are_not_driven(
    keeping: tuple[Proxy, Sidecar],
) -> None:
    _, sidecar = keeping
    for arguments in (("show", "9" * 20), ("retry", "9" * 20), ("list", "--limit", "9" * 20)):
        assert "is not in the range" in call(sidecar, "dead", *arguments, code=2)
    sidecar.post(report(poison("\x9b31m\u202eevil")))
    wait_until(lambda: sidecar.stream()["dead"] == 1)
    for arguments in (("dead", "list"), ("dead", "show", "1"), ("why", "event_name=login_failed")):
        shown = call(sidecar, *arguments)
        assert "evil" in shown
        assert not {"\x9b", "\u202e", "\x1b"} & set(shown)


def test_the_commands_are_only_on_the_control_socket(keeping: tuple[Proxy, Sidecar]) -> None:
    _, sidecar = keeping
    for path in ("retry", "dead/retry", "dead/purge", "replay"):
        answer = httpx.post(f"{sidecar.url}/control/{path}", content=b"{}", trust_env=False)
        assert answer.status_code == 404


def test_new_dead_letters_are_a_reason_until_somebody_has_looked(keeping: tuple[Proxy, Sidecar]) -> None:
    _, sidecar = keeping

    def reason() -> bool:
        return any("more events for good" in each for each in sidecar.status()["reasons"])

    def refuse() -> None:
        before = sidecar.books()["dead"]
        assert sidecar.post(report(event(event={"content": "POISON"}))).status_code == 200
        wait_until(lambda: sidecar.books()["dead"] == before + 1)

    assert not reason()
    for look in (("dead", "list"), ("dead", "ack")):
        refuse()
        assert reason()
        assert sidecar.status()["state"] == "degraded"
        call(sidecar, *look)
        assert not reason()
    sidecar.stop()
    sidecar.start()
    assert not reason(), "it is remembered"
    refuse()
    assert reason()


def test_what_was_delivered_and_is_not_kept_is_said_how_to_keep(tmp_path: Path, proxy: Proxy) -> None:
    with Sidecar(
        tmp_path, proxy.url, {"streams": {"idle": {"data_id": 79, "access_token": "secret-token"}}}
    ) as sidecar:
        sidecar.start()
        item = event()
        assert sidecar.post(report(item)).status_code == 200
        sidecar.wait_empty()
        told = call(sidecar, "why", f"id={item['dimension']['id']}", code=1)
        assert "queue.keep_delivered: 7d would" in told
        assert "no event has come for it yet" in call(sidecar, "why", "idle")
        assert "no event has come for it yet" in call(sidecar, "why", "79")


def test_the_status_says_when_all_will_be_through(tmp_path: Path) -> None:
    with Proxy(tmp_path, "--rate", "unlimited") as proxy:
        proxy.start()
        proxy.fault("down")
        with Sidecar(tmp_path, proxy.url, {"proxy": {"rate": "60/min", "max_body": "20KB"}}) as sidecar:
            sidecar.start()
            for _ in range(40):
                assert sidecar.post(report(*(event() for _ in range(60)))).status_code == 200
            proxy.fault("none")
            wait_until(lambda: sidecar.status()["queue"]["through_in_s"], 60, "an estimate")
            assert sidecar.status()["queue"]["full_in_s"] is None
            assert "through in about" in call(sidecar, "status")
