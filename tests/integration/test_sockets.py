"""Sockets, as programs use them: lines and their acknowledgements, datagrams, who may come in, and what stays out."""

import contextlib
import itertools
import json
import os
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lines import LineClient
from tests.support.process import Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, report, sample, without

_numbers = itertools.count(1)
ABSTRACT = f"@sidecar-test-{os.getpid()}"
STREAMS = {
    "app-events": {"data_id": 1500006, "access_token": "token-of-the-test-pipe", "kind": "event"},
    "app-load": {"data_id": 1500101, "access_token": "another-token", "kind": "time_series"},
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short enough for the address of a Unix socket."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture(scope="module")
def pair(run_dir: Path) -> Iterator[tuple[Proxy, Sidecar]]:
    settings: dict[str, Any] = {
        "streams": STREAMS,
        "defaults": {"cloud_id": 3, "ip": "10.0.0.1"},
        "sockets": {
            "local": {"listen": f"unix:{run_dir}/s.sock", "stream": "app-events", "max_line": "100KB", "mode": "0666"},
            "abstract": {"listen": f"unix:{ABSTRACT}", "max_connections": 3, "mode": "0666"},
            "tcp": {"listen": "tcp:127.0.0.1:0", "stream": "app-events"},
            "six": {"listen": "tcp:[::1]:0"},
            "tokens": {"listen": "tcp:localhost:0", "tokens": ["token-of-the-test-pipe", "x-y-z-1"]},
            "dgram": {"listen": f"unixgram:{run_dir}/d.sock", "stream": "app-events"},
            "udp": {"listen": "udp:127.0.0.1:0", "stream": "app-events"},
            "nobody": {"listen": f"unix:{run_dir}/n.sock", "allow_users": ["nobody"], "allow_groups": ["4294967"]},
            "mine": {"listen": f"unix:{run_dir}/m.sock", "allow_users": [os.getuid()]},
            "group": {"listen": f"unix:{run_dir}/g.sock", "allow_groups": [os.getgid()]},
            "strange": {"listen": f"unixgram:{run_dir}/x.sock", "allow_users": ["nobody"], "stream": "app-events"},
            "known": {"listen": f"unixgram:{run_dir}/k.sock", "allow_users": [os.getuid()], "stream": "app-events"},
        },
    }
    with Proxy(run_dir, "--rate", "unlimited") as proxy:
        proxy.start()
        with Sidecar(run_dir, proxy.url, settings) as sidecar:
            yield proxy, sidecar.start()


@pytest.fixture
def sidecar(pair: tuple[Proxy, Sidecar]) -> Sidecar:
    return pair[1]


@pytest.fixture
def proxy(pair: tuple[Proxy, Sidecar]) -> Proxy:
    return pair[0]


def address(sidecar: Sidecar, name: str) -> str:
    return sidecar.wait_for(rf"event=listening socket={name} on=(\S+)")[1]


def entry(sidecar: Sidecar, name: str) -> Any:
    return next(found for found in sidecar.status()["inputs"] if found["name"] == name)


def mine(**changes: Any) -> tuple[str, dict[str, Any]]:
    """An event that can be told from all others."""
    number = f"s{next(_numbers)}"
    return number, event(dimension={"id": number}, **changes)


def arrived(proxy: Proxy, *numbers: str) -> list[Any]:
    def look() -> list[Any]:
        found = {item["dimension"].get("id"): item for item in proxy.items()}
        return [found[number] for number in numbers] if set(numbers) <= set(found) else []

    found = wait_until(look, what=f"{numbers} at the proxy")
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("name", ["local", "tcp"])
def test_bare_events_are_acknowledged_and_arrive(proxy: Proxy, sidecar: Sidecar, name: str) -> None:
    sent = [mine() for _ in range(50)]
    before = entry(sidecar, name)["events"]
    with LineClient(address(sidecar, name)) as client:
        client.send(*(item for _, item in sent))
        client.wait_settled(50)
        assert client.errors == {}
    assert arrived(proxy, *(number for number, _ in sent)) == [item for _, item in sent]
    assert entry(sidecar, name)["events"] == before + 50


@pytest.mark.parametrize("name", ["abstract", "tcp", "six"])
def test_reports_go_where_they_say(proxy: Proxy, sidecar: Sidecar, name: str) -> None:
    (one, first), (two, second) = mine(), mine()
    third = sample()
    with LineClient(address(sidecar, name)) as client:
        client.send({"stream": "app-events", "data": [first]}, report(second, data_id=777, token="passes-through"))
        client.send({"stream": "app-load", "data": [third]})
        client.wait_settled(3)
        assert client.errors == {}
    assert arrived(proxy, one, two, third["dimension"]["id"])
    assert 777 in {document["data_id"] for document in proxy.documents()}


def test_an_event_on_a_local_socket_needs_neither_target_nor_timestamp(proxy: Proxy, sidecar: Sidecar) -> None:
    (one, bare), (two, reported) = mine(), mine()
    with LineClient(address(sidecar, "local")) as client:
        client.send(without(bare, "target", "timestamp"))
        client.send({"stream": "app-events", "data": [without(reported, "target", "timestamp")]})
        client.wait_settled(2)
    for found in arrived(proxy, one, two):
        assert found["target"] == "3:10.0.0.1"
        assert abs(found["timestamp"] - time.time() * 1000) < 60_000


def test_refused_lines_are_named_and_the_others_are_on_disk(proxy: Proxy, sidecar: Sidecar) -> None:
    good = [mine() for _ in range(4)]
    rejected = entry(sidecar, "local")["rejected"]
    with LineClient(address(sidecar, "local")) as client:
        client.send(good[0][1], b"{bad\n", b"\n  \n", good[1][1], event(target=5), good[2][1])
        client.send({"stream": "no-such", "data": []}, b"x" * 200_000 + b"\n", good[3][1], b"half a line")
        client.finish()
        client.wait_settled(9)
        assert not client.hear()
    assert client.acked == 4
    assert client.errors == {
        2: "not valid JSON: object keys must be strings (byte 1)",
        4: "target: expected a string, got 5",
        6: "stream: no stream 'no-such' is configured",
        7: "longer than 100000 bytes (max_line)",
        9: "the connection ended in the middle of this line",
    }
    assert len(arrived(proxy, *(number for number, _ in good))) == 4
    assert entry(sidecar, "local")["rejected"] == rejected + 5


def test_lines_byte_by_byte_and_several_in_one_write(proxy: Proxy, sidecar: Sidecar) -> None:
    sent = [mine() for _ in range(3)]
    text = b"".join(json.dumps(item).encode() + b"\r\n" for _, item in sent)
    with LineClient(address(sidecar, "local")) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for byte in text:
            client.send(bytes([byte]))
        client.wait_settled(3)
    assert len(arrived(proxy, *(number for number, _ in sent))) == 3


def test_a_fire_and_forget_client_loses_nothing(proxy: Proxy, sidecar: Sidecar) -> None:
    sent = [mine() for _ in range(2000)]
    with LineClient(address(sidecar, "local")) as client:
        client.send(*(item for _, item in sent))
    assert len(arrived(proxy, *(number for number, _ in sent))) == 2000


def test_a_client_that_never_reads_is_never_held_up(proxy: Proxy, sidecar: Sidecar) -> None:
    number, last = mine()
    line = json.dumps(event()).encode() + b"\n{bad\n"
    with LineClient(address(sidecar, "local")) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        for _ in range(100):
            client.send(line * 200)
        client.send(last)
        arrived(proxy, number)
        # Once it does read, it learns how many are on disk, and that it was not told of all refusals.
        client.socket.settimeout(5)
        wait_until(lambda: client.acked == 20_001 or not client.hear())
        assert len(client.errors) <= 20_000
        assert client.answers < 45_000


def test_one_ack_speaks_for_many_lines(sidecar: Sidecar) -> None:
    with LineClient(address(sidecar, "local")) as client:
        client.send(*(event() for _ in range(3000)))
        client.wait_settled(3000)
        assert client.answers < 300


def test_a_token_list_is_asked_of_every_report(proxy: Proxy, sidecar: Sidecar) -> None:
    number, item = mine()
    with LineClient(address(sidecar, "tokens")) as client:
        client.send(report(item), {"stream": "app-events", "data": [item]}, report(item, data_id=5, token="other"))
        client.send(item)
        client.wait_settled(4)
    assert client.acked == 1
    assert client.errors[2] == client.errors[3] == "access_token: not one that is taken here (tokens)"
    assert client.errors[4].startswith("data_id: missing")
    arrived(proxy, number)


def test_datagrams_arrive_and_get_no_answer(proxy: Proxy, sidecar: Sidecar) -> None:
    sent = [mine() for _ in range(6)]
    lines = [json.dumps(item).encode() for _, item in sent]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(address(sidecar, "dgram").partition(":")[2])
        client.send(lines[0])
        client.send(lines[1] + b"\n" + lines[2] + b"\n\n")
        client.send(b"")
        client.send(b"not json")
        client.send(lines[3])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        host, _, port = address(sidecar, "udp").removeprefix("udp:").rpartition(":")
        client.sendto(lines[4], (host, int(port)))
        client.sendto(lines[5] + b"\n", (host, int(port)))
    assert len(arrived(proxy, *(number for number, _ in sent))) == 6
    found = entry(sidecar, "dgram")
    assert (found["events"], found["rejected"], found["connections"]) == (4, 1, None)
    assert sidecar.wait_for(r'event="line of a datagram refused" socket=dgram reason="not valid JSON')


def test_who_is_not_allowed_is_refused_with_its_uid_and_pid_in_the_log(proxy: Proxy, sidecar: Sidecar) -> None:
    with LineClient(address(sidecar, "nobody")) as client:
        try:
            client.send(event())
            assert not client.hear()
        except ConnectionError:
            pass
    sidecar.wait_for(rf"allow_groups\" socket=nobody pid={os.getpid()} uid={os.getuid()}")
    assert entry(sidecar, "nobody")["connections_refused"] == 1
    for name in ("mine", "group"):
        number, item = mine()
        with LineClient(address(sidecar, name)) as client:
            client.send({"stream": "app-events", "data": [item]})
            client.wait_settled(1)
        arrived(proxy, number)


def test_datagrams_are_asked_who_sent_them(proxy: Proxy, sidecar: Sidecar) -> None:
    number, item = mine()
    for name in ("strange", "known"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(address(sidecar, name).partition(":")[2])
            client.send(json.dumps(item).encode())
    arrived(proxy, number)
    wait_until(lambda: entry(sidecar, "strange")["rejected"] == 1)
    sidecar.wait_for(rf"event=\"datagram refused[^\n]*socket=strange pid={os.getpid()} uid={os.getuid()}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_comes_in_as_the_mode_says(sidecar: Sidecar, run_dir: Path) -> None:
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for name in 'sm':\n"
        "    with socket.socket(socket.AF_UNIX) as s:\n"
        "        try: s.connect(f'{sys.argv[1]}/{name}.sock'); print('in')\n"
        "        except PermissionError: print('out')\n"
    )
    for parent in [run_dir, *run_dir.parents]:
        if parent != Path("/") and parent.stat().st_uid == 0:
            parent.chmod(parent.stat().st_mode | 0o111)
    done = subprocess.run([sys.executable, "-c", code, run_dir], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["in", "out"]
    assert pwd.getpwuid(65534)


def test_more_than_max_connections_are_refused_and_places_become_free(sidecar: Sidecar) -> None:
    where = address(sidecar, "abstract")
    clients = [LineClient(where) for _ in range(3)]
    wait_until(lambda: entry(sidecar, "abstract")["connections"] == 3)
    with LineClient(where) as one_more:
        with contextlib.suppress(ConnectionError):
            assert not one_more.hear()
    for client in clients:
        client.close()
    wait_until(lambda: entry(sidecar, "abstract")["connections"] == 0)
    with LineClient(where) as client:
        client.send({"stream": "app-events", "data": [event()]})
        client.wait_settled(1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_the_user_with_most_connections_gives_way_to_another(sidecar: Sidecar, proxy: Proxy) -> None:
    where = address(sidecar, "abstract")
    number, item = mine()
    line = json.dumps({"stream": "app-events", "data": [item]})
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "with socket.socket(socket.AF_UNIX) as s:\n"
        "    s.connect('\\0' + sys.argv[1]); s.sendall(sys.argv[2].encode() + b'\\n'); print(s.recv(100).decode())\n"
    )
    clients = [LineClient(where) for _ in range(3)]
    wait_until(lambda: entry(sidecar, "abstract")["connections"] == 3)
    name = where.partition("@")[2]
    done = subprocess.run([sys.executable, "-c", code, name, line], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == '{"acked":1}'
    arrived(proxy, number)
    assert not clients[0].hear(), "the one that was silent for longest"
    for client in clients:
        client.close()
    wait_until(lambda: entry(sidecar, "abstract")["connections"] == 0)


def test_a_second_sidecar_names_the_process_that_has_the_socket(
    sidecar: Sidecar, proxy: Proxy, run_dir: Path, tmp_path: Path
) -> None:
    settings = {"sockets": {"local": {"listen": f"unix:{run_dir}/s.sock"}}}
    with Sidecar(tmp_path, proxy.url, settings) as second:
        second.spawn()
        assert second.wait() == 1
        assert f"cannot listen on {run_dir}/s.sock: in use by process {sidecar.pid} (" in second.text()
    with LineClient(address(sidecar, "local")) as client:
        client.send(event())
        client.wait_settled(1)


def test_a_socket_left_by_a_kill_is_replaced_and_one_is_removed_at_the_end(proxy: Proxy, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    settings = {"sockets": {"local": {"listen": f"unix:{path}", "stream": "app-events"}}}
    with Sidecar(tmp_path, proxy.url, settings) as sidecar:
        sidecar.start()
        sidecar.kill()
        assert path.is_socket()
        sidecar.start()
        with LineClient(f"unix:{path}") as client:
            client.send(event())
            client.wait_settled(1)
            assert sidecar.stop() == 0
            assert not client.hear()
        assert not path.exists()


def test_stopping_answers_what_was_taken(proxy: Proxy, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    settings = {"sockets": {"local": {"listen": f"unix:{path}", "stream": "app-events"}}}
    sent = [mine() for _ in range(20_000)]
    with Sidecar(tmp_path, proxy.url, settings) as sidecar:
        sidecar.start()
        with LineClient(f"unix:{path}") as client:
            client.send(*(item for _, item in sent[:10_000]))
            sidecar.signal(15)
            try:
                while client.hear():
                    pass
            except ConnectionError:
                pass
        assert sidecar.wait() == 0
        acked = client.acked
        sidecar.start()
        sidecar.wait_empty()
        accepted = sidecar.books()["accepted"]
        assert accepted == acked, "on disk is what was acknowledged"
        ids = proxy.ids()
        assert all(ids[number] == 1 for number, _ in sent[:acked])


def test_frames_are_not_spoken_over_tcp(sidecar: Sidecar) -> None:
    with LineClient(address(sidecar, "tcp")) as client:
        client.send(bytes(24) + b"\n")
        client.wait_settled(1)
        assert not client.hear()
    assert client.errors == {1: "expected lines of JSON, the first of which begins with {"}


def test_a_page_in_a_browser_cannot_use_a_tcp_socket(sidecar: Sidecar) -> None:
    before = sidecar.books()["accepted"]
    host, _, port = address(sidecar, "tcp").removeprefix("tcp:").rpartition(":")
    body = json.dumps(event()).encode() + b"\n"
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection((host, int(port)), 5) as client, contextlib.suppress(ConnectionError):
        client.sendall(request)
        while client.recv(4096):
            pass
    assert sidecar.books()["accepted"] == before


def test_files_that_are_passed_with_datagrams_are_closed(sidecar: Sidecar, proxy: Proxy) -> None:
    def files() -> int:
        return len(list(Path(f"/proc/{sidecar.pid}/fd").iterdir()))

    before = files()
    number, item = mine()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(address(sidecar, "dgram").partition(":")[2])
        for _ in range(10):
            socket.send_fds(client, [json.dumps(event()).encode()], [0] * 50)
        client.send(json.dumps(item).encode())
    arrived(proxy, number)
    assert files() <= before + 10


def test_check_shows_sockets_without_their_tokens(sidecar: Sidecar) -> None:
    done = run_command("check", "--config", str(sidecar.config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sockets.tokens.tokens" in done.stdout
    assert "x-y-z-1" not in done.stdout + sidecar.text()


@pytest.mark.parametrize("scheme", ["unix", "unixgram"])
def test_a_socket_whose_file_is_taken_away_is_opened_anew_and_who_is_connected_stays(
    tmp_path: Path, proxy: Proxy, scheme: str
) -> None:
    path = tmp_path / "s.sock"
    settings = {"sockets": {"local": {"listen": f"{scheme}:{path}", "stream": "app-events"}}}
    with Sidecar(tmp_path, proxy.url, settings) as sidecar:
        sidecar.start()
        before = Sender(path, scheme)
        before.send(event())
        path.unlink()
        path.write_text("something else")
        reason = wait_until(lambda: "".join(r for r in sidecar.status()["reasons"] if "nobody can connect" in r))
        assert "there is something that is no socket" in reason
        assert sidecar.status()["state"] == "degraded"
        assert sidecar.status()["sockets_lost"] == {"local": reason.split("connect: ")[1].split("; it is opened")[0]}
        assert "\nsidecar_sockets_lost 1.0\n" in sidecar.get("/metrics").text
        if scheme == "unix":
            before.send(event())
        path.unlink()
        wait_until(lambda: sidecar.status()["state"] == "ok")
        after = Sender(path, scheme)
        after.send(event())
        wait_until(lambda: sidecar.books()["accepted"] == (3 if scheme == "unix" else 2))
        assert sidecar.text().count("socket file lost") == 1
        assert sidecar.stop() == 0
        assert not path.exists()
        before.socket.close()
        after.socket.close()


def test_the_control_socket_is_opened_anew_where_its_file_was_taken_away(tmp_path: Path, proxy: Proxy) -> None:
    with Sidecar(tmp_path, proxy.url) as sidecar:
        sidecar.start()
        path = sidecar.state / "control.sock"
        path.unlink()
        wait_until(path.exists)
        assert "no stream is called 1;" in run_command("retry", "1", "--config", str(sidecar.config)).stderr
        path.unlink()
        path.write_text("something else")
        reason = wait_until(lambda: "".join(r for r in sidecar.status()["reasons"] if "nobody can connect" in r))
        assert "socket control.sock" in reason
        assert "there is something that is no socket" in reason
        path.unlink()
        wait_until(lambda: sidecar.status()["state"] == "ok")
        assert sidecar.text().count("socket file lost, nobody can connect") == 2
        assert sidecar.stop() == 0
        assert not path.exists()


class Sender:
    def __init__(self, path: Path, scheme: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if scheme == "unix" else socket.SOCK_DGRAM)
        self.socket.connect(str(path))

    def send(self, item: object) -> None:
        self.socket.sendall(json.dumps(item).encode() + b"\n")
