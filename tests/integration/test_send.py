"""`sidecar send` as scripts call it: through a real sidecar, past it, and against one that behaves badly."""

import itertools
import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sidecar.cli import main
from sidecar.cli.send import destination
from tests.support.line_sidecar import LineSidecar
from tests.support.process import TOKEN, Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, report, sample, without

ABSTRACT = f"unix:@sidecar-send-{os.getpid()}"
LOAD_TOKEN = "token-of-the-load-pipe"
SETTINGS = {
    "streams": {"app-load": {"data_id": 1500101, "access_token": LOAD_TOKEN, "kind": "time_series"}},
    "sockets": {
        "guarded": {"listen": "tcp:127.0.0.1:0", "tokens": ["somebody-elses"]},
        "local": {"listen": ABSTRACT, "stream": "app-events"},
    },
    "defaults": {"cloud_id": 3, "ip": "10.0.0.9"},
}
_numbers = itertools.count(1)


class Done(NamedTuple):
    code: int
    out: str
    err: str


Send = Callable[..., Done]


@pytest.fixture(autouse=True)
def _nothing_else_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(destination, "WELL_KNOWN", f"unix:{tmp_path}/no.sock")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Send:
    """The command line, in this process: it starts faster."""

    def call(*arguments: str, program: str = "sidecar") -> Done:
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert TOKEN not in printed.out + printed.err
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture(params=["socket", "http"])
def config(request: pytest.FixtureRequest, shared: tuple[Proxy, Sidecar], tmp_path: Path) -> str:
    """A configuration by which the running sidecar is found, over its socket or over HTTP."""
    return str(config_for(shared[1], tmp_path, over=request.param))


def config_for(sidecar: Sidecar, tmp_path: Path, *, over: str) -> Path:
    settings = sidecar.settings | {"http": {"listen": f"127.0.0.1:{sidecar.port}"}}
    if over == "http":
        settings = {name: value for name, value in settings.items() if name != "sockets"}
    file = tmp_path / "client.yml"
    file.write_text(json.dumps(settings))
    return file


@pytest.fixture
def send(run: Send, config: str) -> Send:
    return lambda *arguments: run("send", "--config", config, *arguments)


def mine() -> str:
    return f"send-{next(_numbers)}"


def arrived(proxy: Proxy, *ids: str) -> list[Any]:
    def look() -> list[Any] | None:
        found = {item["dimension"].get("id"): item for item in proxy.items()}
        return [found[one] for one in ids] if set(ids) <= set(found) else None

    found = wait_until(look, what=f"{ids} at the proxy")
    assert isinstance(found, list)
    return found


def write(tmp_path: Path, *lines: Any) -> str:
    file = tmp_path / "events.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(file)


def test_an_event_is_on_disk_when_the_command_returns(shared: tuple[Proxy, Sidecar], send: Send) -> None:
    proxy, sidecar = shared
    one, before = mine(), sidecar.books()["accepted"]
    done = send("--stream", "app-events", "--name", "login_failed", "--content", "用户 failed",
                "--dimension", f"id={one}", "--dimension", "module=db")  # fmt: skip
    assert done == (0, "1 event on disk\n", "")
    assert sidecar.books()["accepted"] == before + 1
    (item,) = arrived(proxy, one)
    assert abs(item.pop("timestamp") - time.time() * 1000) < 60_000
    assert item == {
        "event_name": "login_failed", "event": {"content": "用户 failed"}, "target": "3:10.0.0.9",
        "dimension": {"id": one, "module": "db"},
    }  # fmt: skip


def test_a_time_series_with_everything_said(shared: tuple[Proxy, Sidecar], send: Send, tmp_path: Path) -> None:
    one = mine()
    (tmp_path / "token").write_text(LOAD_TOKEN + "\n")
    done = send("--data-id", "1500101", "--token-file", str(tmp_path / "token"), "--metric", "cpu_load=0.7",
                "--metric", "n=3", "--dimension", f"id={one}", "--target", "0:1.2.3.4",
                "--timestamp", "1618224874331", "--quiet")  # fmt: skip
    assert done == (0, "", "")
    assert arrived(shared[0], one) == [
        {
            "metrics": {"cpu_load": 0.7, "n": 3}, "target": "0:1.2.3.4", "dimension": {"id": one},
            "timestamp": 1618224874331,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stream", "app-evnts"], "stream: no stream 'app-evnts' is configured; did you mean app-events?"),
        (["--data-id", "1500006", "--token", "wrong"], "access_token: wrong for stream app-events"),
        (["--data-id", "99"], "access_token: missing, and data_id 99 is no configured stream"),
        (["--stream", "app-events", "--target", ""], "target: empty, expected a string such as 0:192.168.0.1"),
    ],
)
def test_what_the_sidecar_refuses(send: Send, options: list[str], message: str) -> None:
    assert send(*options, "--name", "a", "--content", "b") == (1, "", f"sidecar: {message}\n")


def test_the_token_from_the_environment(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_TOKEN", "wrong")
    assert "access_token: wrong" in send("--data-id", "1500006", "--name", "a", "--content", "b").err
    assert send("--stream", "app-events", "--name", "a", "--content", "b").code == 0


def test_a_file_goes_out_but_for_its_bad_lines(shared: tuple[Proxy, Sidecar], send: Send, tmp_path: Path) -> None:
    good, bad = [mine() for _ in range(450)], {17: '{"event_name"', 101: "[]", 230: '{"event_name": 3}'}
    lines: list[Any] = [event(dimension={"id": one}) for one in good]
    for number, line in bad.items():
        lines.insert(number - 1, line)
    lines.insert(300, "  ")
    file = write(tmp_path, *lines)
    done = send("--stream", "app-events", "--file", file, "--dimension", "module=db", "--target", "unused")
    assert (done.code, done.out) == (1, "450 events on disk\n")
    assert {re.sub(r"; expected an event .*", "", line) for line in done.err.splitlines()} == {
        "sidecar: 3 refused, see above",
        f"sidecar: {file}:101: expected an event such as " + _EXAMPLE + ", got an array",
        f"sidecar: {file}:17: not valid JSON: Input data was truncated",
        f"sidecar: {file}:230: event_name: expected a string, got 3",
    }
    items = arrived(shared[0], *good)
    assert {item["dimension"]["module"] for item in items} == {"db"}
    assert {item["target"] for item in items} == {"0:192.168.0.1"}


_BARE = (
    "data_id: missing, expected a positive integer (or `stream` with a configured name); "
    "for bare events say --stream NAME, or --data-id N and its token"
)
_EXAMPLE = '{"event_name": "login_failed", "event": {"content": "..."}, "dimension": {...}}'


def test_a_file_of_reports_and_kinds(shared: tuple[Proxy, Sidecar], send: Send, tmp_path: Path) -> None:
    one, two, three, four = mine(), mine(), mine(), mine()
    file = write(
        tmp_path,
        report(event(dimension={"id": one}), without(event(dimension={"id": two}), "target", "timestamp")),
        {"stream": "app-load", "data": [sample(dimension={"id": three})]},
        report(event(), token="wrong"),
        report(event(event="x"), event(dimension={"id": four}), event(event_name=5)),
        event(),
    )
    done = send("--file", file)
    assert (done.code, done.out) == (1, "4 events on disk\n")
    assert set(done.err.splitlines()) == {
        "sidecar: 4 refused, see above",
        f"sidecar: {file}:3: access_token: wrong for stream app-events",
        f"sidecar: {file}:4: data[0].event: expected an object, got a string",
        f"sidecar: {file}:4: data[2].event_name: expected a string, got 5",
        f"sidecar: {file}:5: {_BARE}",
    }
    assert arrived(shared[0], one, two, three, four)[1]["target"] == "3:10.0.0.9"


def test_the_whole_file_is_given_up_where_its_pipe_is_wrong(send: Send, tmp_path: Path) -> None:
    file = write(tmp_path, *[event() for _ in range(1000)])
    done = send("--data-id", "1500006", "--token", "wrong", "--file", file)
    assert done == (1, "", "sidecar: access_token: wrong for stream app-events; 0 events on disk\n")


def test_events_that_come_slowly_are_not_kept_back(shared: tuple[Proxy, Sidecar], tmp_path: Path) -> None:
    """`tail -f FILE | sidecar send --file -`, with nothing on the terminal's lines of a pipe."""
    one, two = mine(), mine()
    config = config_for(shared[1], tmp_path, over="socket")
    command = [sys.executable, "-m", "sidecar", "send", "--config", str(config), "--stream", "app-events"]
    with subprocess.Popen(
        [*command, "--file", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(event(dimension={"id": one})).encode() + b"\n")
        process.stdin.flush()
        arrived(shared[0], one)
        out, err = process.communicate(json.dumps(event(dimension={"id": two})).encode(), timeout=20)
    assert (process.returncode, out, err) == (0, b"2 events on disk\n", b"")
    arrived(shared[0], two)


def test_progress_is_shown_on_a_terminal(shared: tuple[Proxy, Sidecar], tmp_path: Path) -> None:
    config = config_for(shared[1], tmp_path, over="socket")
    file = write(tmp_path, *[event() for _ in range(3000)])
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sidecar", "send", "--config", str(config), "--stream", "app-events"]
    process = subprocess.Popen(
        [*command, "--file", file], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"3000 events on disk\n")
    assert b"sending, KB" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a", "--content", "b"], "where does it belong?"),
        (["--stream", "x", "--data-id", "5", "--name", "a", "--content", "b"], "either --stream or --data-id"),
        (["--stream", "x", "--token", "t", "--name", "a", "--content", "b"], "a token goes with --data-id"),
        (["--data-id", "0", "--name", "a", "--content", "b"], "expected a positive whole number"),
        (["--stream", "x"], "--name is missing"),
        (["--stream", "x", "--name", "a"], "--content is missing"),
        (["--stream", "x", "--name", "a", "--metric", "b=1"], "either --metric, or --name and --content"),
        (["--stream", "x", "--metric", "b=x"], "expected NAME=NUMBER such as cpu_load=0.7, got b=x"),
        (["--stream", "x", "--dimension", "b"], "expected NAME=VALUE such as module=db, got b"),
        (["--stream", "x", "--name", "a", "--file", "f"], "either --file, or"),
        (["--stream", "x", "--file", "f", "--timeout", "soon"], "expected a duration such as"),
        (["--stream", "x", "--file", "f", "--timeout", "0s"], "expected a duration above zero"),
        (["--stream", "x", "--file", "f", "--socket", "tcp:here"], "expected tcp:HOST:PORT"),
        (["--stream", "x", "--file", "f", "--proxy", "http://127.0.0.1:10215"], "No such option"),
        (["--stream", "x", "-report", "-report.type", "agent"], "they go with none of our own"),
        (["-report.typo"], "no such option; there are report.type"),
    ],
)
def test_wrong_usage(run: Send, arguments: list[str], message: str) -> None:
    done = run("send", *arguments)
    assert done.code == 2
    assert message in " ".join(done.err.split())


def test_files_that_cannot_be_read(run: Send, tmp_path: Path) -> None:
    assert run("send", "--stream", "x", "--file", "nowhere") == (1, "", "Error: nowhere: No such file or directory\n")
    assert "Is a directory" in run("send", "--stream", "x", "--file", str(tmp_path)).err
    done = run("send", "--data-id", "5", "--token-file", "nowhere", "--name", "a", "--content", "b")
    assert done == (1, "", "Error: nowhere: No such file or directory\n")


EVENT = ("--stream", "app-events", "--name", "a", "--content", "b")


def test_without_a_sidecar_it_says_what_was_tried(run: Send, tmp_path: Path) -> None:
    config = tmp_path / "sidecar.yml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sockets = {"a": {"listen": f"unix:{tmp_path}/a.sock"}, "b": {"listen": "tcp:127.0.0.1:9", "tokens": ["t"]}}
    config.write_text(json.dumps({"http": {"listen": f"127.0.0.1:{port}"}, "sockets": sockets}))
    done = run("send", "--config", str(config), *EVENT)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"sidecar: no sidecar runs here: tried unix:{tmp_path}/a.sock (No such file or directory), "
        f"unix:{tmp_path}/no.sock (No such file or directory), http://127.0.0.1:{port} (Connection refused)\n"
    )
    done = run("send", "--config", str(config), "--socket", "@x", *EVENT)
    assert done.err == "sidecar: no sidecar runs here: tried @x (No such file or directory)\n"


def test_something_else_on_the_port_gets_nothing(run: Send, proxy: Proxy, tmp_path: Path) -> None:
    config = tmp_path / "sidecar.yml"
    config.write_text(json.dumps({"http": {"listen": proxy.url.removeprefix("http://")}}))
    done = run("send", "--config", str(config), *EVENT)
    assert (done.code, "no sidecar answers there" in done.err) == (1, True)
    assert proxy.summary()["documents"] == 0


def test_a_configuration_that_was_named_must_be_right(run: Send, tmp_path: Path) -> None:
    config = tmp_path / "sidecar.yml"
    config.write_text("htp: {}")
    assert run("send", "--config", str(config), *EVENT).code == 78


def test_a_configuration_that_was_only_found_need_not(run: Send, shared: tuple[Proxy, Sidecar], tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    settings = {
        "http": {"listen": f"127.0.0.1:{shared[1].port}"}, "htp": {},
        "streams": {"app-events": {"data_id": 5, "access_token_file": "/nowhere"}},
    }  # fmt: skip
    (tmp_path / "conf.d" / "10.yml").write_text(json.dumps(settings))
    assert run("send", *EVENT) == (0, "1 event on disk\n", "")


def test_who_cannot_read_the_configuration_need_not_know_what_this_host_is_called(
    run: Send, shared: tuple[Proxy, Sidecar]
) -> None:
    one = mine()
    assert run("send", "--socket", ABSTRACT, *EVENT, "--dimension", f"id={one}").code == 0
    assert arrived(shared[0], one)[0]["target"] == "3:10.0.0.9"


# With a sidecar that behaves badly.


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("s") / "s.sock")


@pytest.fixture(params=["unix", "tcp"])
def fake(request: pytest.FixtureRequest, path: str) -> Iterator[LineSidecar]:
    with LineSidecar(path if request.param == "unix" else None, refuses=lambda line: b"POISON" in line) as started:
        yield started


def address(fake: LineSidecar, path: str) -> str:
    return f"tcp:127.0.0.1:{fake.port}" if fake.port else f"unix:{path}"


def numbered(count: int, **special: str) -> list[Any]:
    return [event(event={"content": special.get(f"n{n}", f"c{n}")}) for n in range(1, count + 1)]


def test_a_refused_batch_is_searched_for_the_bad_line(run: Send, fake: LineSidecar, path: str, tmp_path: Path) -> None:
    file = write(tmp_path, *numbered(500, n7="POISON", n333="POISON"))
    done = run("send", "--socket", address(fake, path), "--stream", "x", "--file", file)
    assert (done.code, done.out) == (1, "498 events on disk\n")
    assert f"sidecar: {file}:7: not like this\n" in done.err
    assert f"sidecar: {file}:333: not like this\n" in done.err
    assert sorted(fake.contents()) == sorted(f"c{n}" for n in range(1, 501) if n not in (7, 333))


def test_what_was_not_acknowledged_is_sent_again(run: Send, path: str, tmp_path: Path) -> None:
    file = write(tmp_path, *numbered(1000))
    with LineSidecar(path, hang_up_after=2) as fake:
        done = run("send", "--socket", path, "--stream", "x", "--file", file)
        assert done == (0, "1000 events on disk\n", "")
        assert fake.connections == 2
        assert set(fake.contents()) == {f"c{n}" for n in range(1, 1001)}


def test_a_sidecar_that_comes_back_is_waited_for(run: Send, path: str, tmp_path: Path) -> None:
    """It was there when the command began, and is restarted while it sends."""
    first = LineSidecar(path, acks=False)
    started = threading.Event()

    def restart() -> None:
        with first:
            started.set()
            wait_until(lambda: first.kept)
        Path(path).unlink()
        time.sleep(0.2)
        with LineSidecar(path) as second:
            wait_until(lambda: second.kept)
            ended.wait(10)

    ended = threading.Event()
    thread = threading.Thread(target=restart, name="restart")
    thread.start()
    assert started.wait(10)
    done = run("send", "--socket", path, *EVENT)
    ended.set()
    thread.join()
    assert done == (0, "1 event on disk\n", "")


@pytest.mark.parametrize("silence", [{"acks": False}, {"reads": False}])
def test_a_full_queue_is_waited_for_and_then_no_more(
    run: Send, path: str, tmp_path: Path, silence: dict[str, bool]
) -> None:
    file = write(tmp_path, *numbered(2000))
    with LineSidecar(path, **silence):  # type: ignore[arg-type]
        begun = time.monotonic()
        done = run("send", "--socket", path, "--stream", "x", "--file", file, "--timeout", "300ms")
        assert 0.3 <= time.monotonic() - begun < 30
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "sidecar: gave up after 300ms: the sidecar takes nothing more at the moment; "
        "`sidecar status` says whether it is full; 0 events on disk\n"
    )


def test_it_says_how_many_are_on_disk_when_it_gives_up(run: Send, path: str, tmp_path: Path) -> None:
    file = write(tmp_path, *numbered(1000))
    taken: list[bytes] = []

    def refuses(line: bytes) -> bool:
        taken.append(line)
        fake.acks = len(taken) < 3  # type: ignore[attr-defined]
        return False

    with LineSidecar(path, refuses=refuses) as fake:
        done = run("send", "--socket", path, "--stream", "x", "--file", file, "--timeout", "300ms")
    assert done.code == 1
    assert re.search(r"; (0 events on disk|\d+ events on disk, all good ones before line \d+ among them)\n$", done.err)


def test_a_socket_that_turns_this_user_away_is_not_the_last_word(
    run: Send, shared: tuple[Proxy, Sidecar], path: str, tmp_path: Path
) -> None:
    settings = {"sockets": {"rude": {"listen": f"unix:{path}"}}, "http": {"listen": f"127.0.0.1:{shared[1].port}"}}
    config = tmp_path / "sidecar.yml"
    config.write_text(json.dumps(settings))
    with LineSidecar(path, hang_up_after=0):
        assert run("send", "--config", str(config), *EVENT) == (0, "1 event on disk\n", "")


def test_a_full_queue_over_http(run: Send, tmp_path: Path) -> None:
    file = write(tmp_path, *[event(event={"content": os.urandom(5000).hex()}) for _ in range(400)])
    with Sidecar(tmp_path, "http://127.0.0.1:9", {"queue": {"max_size": "1MB", "min_free": "0"}}) as sidecar:
        config = config_for(sidecar.start(), tmp_path, over="http")
        done = run("send", "--config", str(config), "--stream", "app-events", "--file", file, "--timeout", "500ms")
        assert done.code == 1
        found = re.fullmatch(
            r"sidecar: gave up after 500ms: http://\S+: HTTP 503: the queue is full.*; (\d+) events on disk, "
            r"all good ones before line (\d+) among them\n", done.err,
        )  # fmt: skip
        assert found is not None, done.err
        assert int(found[1]) == int(found[2]) - 1 == sidecar.books()["accepted"]


# In the words of bkmonitorbeat.

BODY: dict[str, Any] = {"data_id": 1500006, "access_token": "", "data": [event(metrics={"field1": 1.1})]}


def beat(*arguments: str, kind: str = "event", type_: str = "agent") -> list[str]:
    return ["-report", "-report.type", type_, "-report.message.kind", kind, *arguments]


def test_reports_of_the_beat_go_through_the_sidecar(shared: tuple[Proxy, Sidecar], send: Send) -> None:
    one, two, three = mine(), mine(), mine()
    body = json.dumps(BODY | {"data": [event(dimension={"id": one})]}, indent=2)
    assert send(*beat("-report.message.body", body)) == (0, "", "")
    body = json.dumps({"data_id": 1, "access_token": TOKEN, "data": [event(dimension={"id": two})]})
    done = send(*beat("--report.bk_data_id=1500006", "-report.message.body", body, type_="http"))
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(
        r'\{"code":"200","message":"success","request_id":"[-0-9a-f]{36}","result":"true"\}\n', done.out
    )
    body = json.dumps({"data": [sample(dimension={"id": three})]})
    more = ("-report.bk_data_id", "1500101", "-report.http.token", LOAD_TOKEN, "-report.message.body", body)
    assert send(*beat(*more, kind="timeseries")).code == 0
    arrived(shared[0], one, two, three)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-report", "-report.type", "agent"], "unexpected message kind\n"),
        (beat("-report.bk_data_id", "1500006", "-report.event.name", "x"), "data[0].event.content: expected a string"),
        (beat("-report.message.body", json.dumps(BODY | {"data_id": 99})), "data_id 99 is no configured stream"),
        (
            beat("-report.message.body", json.dumps(BODY | {"data": [event(), event(event_name=5)]})),
            "data[1].event_name: expected a string, got 5",
        ),
    ],
)
def test_reports_of_the_beat_that_are_refused(send: Send, arguments: list[str], message: str) -> None:
    done = send(*arguments)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert done.err.startswith("sidecar: ")


def test_the_beats_proxy_serves_where_no_sidecar_runs(run: Send, proxy: Proxy) -> None:
    server = proxy.url.removeprefix("http://")
    body = json.dumps(BODY | {"access_token": "t"})
    done = run("send", *beat("-report.http.server", server, "-report.message.body", body, type_="http"))
    assert (done.code, json.loads(done.out)["result"], done.err) == (0, "true", "")
    assert proxy.items() == [without(BODY["data"][0], "metrics")]  # which the proxy does not publish of an event
    assert "no sidecar runs here" in run("send", *beat("-report.message.body", body)).err
    assert "report.http.server is not given" in run("send", *beat("-report.message.body", body, type_="http")).err
    proxy.fault("down")
    begun = time.monotonic()
    done = run("send", *beat("-report.http.server", server, "-report.message.body", body, type_="http"))
    assert (done.code, "Connection refused" in done.err, time.monotonic() - begun < 30) == (1, True, True)


def test_a_proxy_that_refuses_the_beats_report_or_is_none(run: Send, proxy: Proxy) -> None:
    body = json.dumps({"data_id": 7, "access_token": "t", "data": [event()]})
    server = proxy.url.removeprefix("http://")
    words = beat("-report.http.server", server, "-report.message.body", body, type_="http")
    past = ("send", *words, "--timeout", "300ms")
    for fault, message in (
        ("404", f"{proxy.url}: HTTP 404"),
        ("503", f"gave up after 300ms: {proxy.url}: HTTP 503"),
        ("reset-before", f"{proxy.url}: "),  # the original does not try again either
        ("html", "not a proxy's acknowledgement"),
    ):
        proxy.fault(fault)
        done = run(*past)
        assert (done.code, done.out, message in done.err) == (1, "", True), done.err
    proxy.fault("503", times=1)
    assert run(*past[:-1], "10s").code == 0
    assert proxy.items()


def test_the_beats_agent_address_counts_if_it_is_ours(run: Send, path: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other.sock")
    config = tmp_path / "sidecar.yml"
    config.write_text(json.dumps({"sockets": {"a": {"listen": f"unix:{other}"}, "b": {"listen": f"unix:{path}"}}}))
    arguments = beat("-report.message.body", json.dumps(BODY))
    with LineSidecar(path) as ours, LineSidecar(other) as others, LineSidecar(f"{path}x") as foreign:
        assert run("send", "--config", str(config), *arguments, "-report.agent.address", path).code == 0
        assert run("send", "--config", str(config), *arguments, "-report.agent.address", f"{path}x").code == 0
        assert (ours.connections, others.connections, foreign.connections) == (1, 1, 0)


def test_a_link_by_the_beats_name(shared: tuple[Proxy, Sidecar], tmp_path: Path) -> None:
    """As scripts call it, with the configuration file that they give it."""
    one = mine()
    link = tmp_path / "bkmonitorbeat"
    link.symlink_to(Path(sys.executable).parent / "sidecar")
    body = json.dumps({"data": [event(dimension={"id": one})], "access_token": ""})
    done = subprocess.run(
        [link, *beat("-report.bk_data_id", "1500006", "-c", "bkmonitorbeat.conf", "-report.message.body", body)],
        check=False, capture_output=True, timeout=20,
        env=os.environ | {"SIDECAR_CONFIG": str(config_for(shared[1], tmp_path, over="http"))},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    arrived(shared[0], one)


def test_the_help_tells_of_the_beat() -> None:
    done = run_command("send", "--help")
    assert "-report.message.body" in done.stdout
    assert "bkmonitorbeat" in done.stdout.split("Options:")[0]
