"""Unix sockets: stale files give way, those in use do not, and nobody gets in between."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.config import Listen, Socket
from sidecar.core.errors import StartError
from sidecar.host.listeners import listen_tcp, listen_udp, listen_unix
from sidecar.inputs.socket.peer_credentials import Allowed, PeerCredentials, peer_of


def test_a_file_gets_its_mode_and_its_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s.sock"
    with listen_unix(str(path), mode=0o660):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_a_stale_file_is_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s.sock"
    for other in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, other) as dead:
            dead.bind(str(path))
        with listen_unix(str(path), kind):  # type: ignore[arg-type]
            assert path.is_socket()
        path.unlink()


@pytest.mark.parametrize("kind", ["stream", "datagram"])
@pytest.mark.parametrize("abstract", [False, True])
def test_one_in_use_is_an_error_that_names_the_process(tmp_path: Path, kind: str, *, abstract: bool) -> None:
    path = f"@sidecar-test-{os.getpid()}" if abstract else str(tmp_path / "s.sock")
    with listen_unix(path, kind):  # type: ignore[arg-type]
        with pytest.raises(StartError, match=rf"in use by process {os.getpid()} \(\S"):
            listen_unix(path, kind)  # type: ignore[arg-type]
        if not abstract:
            assert Path(path).is_socket()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(StartError, match="no socket; move it away"):
        listen_unix(str(path))
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot listen on .*: No such file or directory"):
        listen_unix(str(tmp_path / "a" / "b" / "s.sock"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can try what only root can give away")
def test_an_owner_that_cannot_be_set_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    code = (
        "import os, sys; from sidecar.host.listeners import listen_unix; from sidecar.core.errors import StartError\n"
        "os.setuid(65534)\n"
        "try: listen_unix(sys.argv[1], uid=0)\n"
        "except StartError as error: print(error)"
    )
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)
    path = tmp_path / "s.sock"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True)
    assert "the owner, group and mode it should have: Operation not permitted" in done.stdout, done.stderr
    assert not path.exists()


def test_ports_in_use_are_errors() -> None:
    for listen in (listen_tcp, listen_udp):
        with listen("127.0.0.1", 0) as first:
            port = first.getsockname()[1]
            with pytest.raises(
                StartError, match=f"cannot listen on 127.0.0.1:{port}: in use by process {os.getpid()} "
            ):
                listen("127.0.0.1", port)


def test_who_is_at_the_other_end(tmp_path: Path) -> None:
    with listen_unix(str(tmp_path / "s.sock")) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s.sock"))
        with listener.accept()[0] as connection:
            peer = peer_of(connection)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert set(os.getgroups()) | {os.getgid()} == set(peer.groups)


@pytest.mark.parametrize(
    ("users", "groups", "allowed"),
    [
        ((), (), True),
        (("1000",), (), True),
        (("1001",), (), False),
        ((), ("7",), True),
        ((), ("8",), False),
        (("1001",), ("7",), True),
        (("root",), ("root",), False),
    ],
)
def test_who_may_use_a_socket(users: tuple[str, ...], groups: tuple[str, ...], *, allowed: bool) -> None:
    settings = Socket(listen=Listen("unix", path="/run/s"), allow_users=users, allow_groups=groups)  # type: ignore[arg-type]
    assert Allowed.of(settings).allows(PeerCredentials(1, 1000, frozenset((1000, 7)))) is allowed
