"""Sockets in conf.d: where they listen, who may use them, and what is wrong with that."""

import getpass
import grp
import os
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Config, Listen, Loaded, Options, load_config
from sidecar.config.model import Address, Socket
from sidecar.config.show import MASK, effective
from sidecar.core.errors import ConfigError

BASE = """\
proxy: {urls: [http://127.0.0.1:1]}
streams:
  app-events: {data_id: 1, access_token: secret-token}
"""


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Loaded:
    path = tmp_path / "10.yml"
    path.write_text(BASE + text)
    return load_config(Options(config=path), environ or {})


def socket(tmp_path: Path, text: str) -> Socket:
    return load(tmp_path, f"sockets: {{one: {{{text}}}}}").config.sockets["one"]


def problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"sockets: {{one: {{{text}}}}}")
    assert len(caught.value.problems) == 1, caught.value.problems
    return caught.value.problems[0].removeprefix(f"{tmp_path}/10.yml:4: ")


@pytest.mark.parametrize(
    ("text", "listen", "datagrams", "is_file"),
    [
        ("unix:/run/sidecar/s.sock", Listen("unix", path="/run/sidecar/s.sock"), False, True),
        ("unix:@sidecar", Listen("unix", path="@sidecar"), False, False),
        ("unixgram:/run/d.sock", Listen("unixgram", path="/run/d.sock"), True, True),
        ("unixgram:@d", Listen("unixgram", path="@d"), True, False),
        ("tcp:127.0.0.1:10206", Listen("tcp", address=Address("127.0.0.1", 10206)), False, False),
        ("tcp:[::1]:0", Listen("tcp", address=Address("::1", 0)), False, False),
        ("udp:localhost:10207", Listen("udp", address=Address("localhost", 10207)), True, False),
    ],
)
def test_where_a_socket_listens(tmp_path: Path, text: str, listen: Listen, *, datagrams: bool, is_file: bool) -> None:
    found = socket(tmp_path, f"listen: '{text}'").listen
    assert found == listen
    assert str(found) == text
    assert (found.datagrams, found.is_file) == (datagrams, is_file)


def test_everything_set(tmp_path: Path) -> None:
    me = os.getuid()
    found = socket(
        tmp_path,
        f"listen: 'unix:/s', mode: '0660', owner: {getpass.getuser()}, group: {os.getgid()}, stream: app-events,"
        f" allow_users: [{me}, {getpass.getuser()}], allow_groups: [{grp.getgrgid(os.getgid()).gr_name}],"
        " max_line: 20KB, max_connections: 7",
    )
    assert (found.mode, found.owner, found.group) == (0o660, getpass.getuser(), str(os.getgid()))
    assert found.allow_users == (str(me), getpass.getuser())
    assert (found.stream, found.max_line, found.max_connections) == ("app-events", 20_000, 7)


def test_tokens_come_from_a_file_one_in_each_line_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("first-token\nsecond-token\n")
    loaded = load(tmp_path, "sockets: {one: {listen: 'tcp:0.0.0.0:1', allow_remote: true, tokens_file: tokens}}")
    assert loaded.config.sockets["one"].tokens == ("first-token", "second-token")
    shown = {row.key: row.value for row in effective(loaded)}
    assert shown["sockets.one.tokens"] == f"[{MASK}, {MASK}]"
    assert shown["sockets.one.mode"] == "0600"
    assert shown["sockets.one.listen"] == "tcp:0.0.0.0:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen: 'unix:relative'", "expected unix:/PATH, unix:@NAME, unixgram:/PATH, tcp:HOST:PORT or udp:HOST:PORT"),
        ("listen: '/run/s.sock'", "expected unix:/PATH"),
        ("listen: 'tcp:10206'", "expected HOST:PORT"),
        (f"listen: 'unix:/{'x' * 107}'", "expected a path of at most 107 bytes"),
        ("listen: 'unix:/s', mode: 660", 'expected a file mode in quotes, such as "0660", got 660'),
        ("listen: 'unix:/s', mode: '0888'", "expected a file mode in quotes"),
        ("listen: 'unix:/s', stream: app-event", "no stream app-event is configured; did you mean app-events?"),
        ("listen: 'unix:/s', stream: xyz", "no stream xyz is configured; there are: app-events"),
        ("listen: 'tcp:0.0.0.0:1'", "expected a loopback address, or allow_remote: true and tokens"),
        ("listen: 'tcp:10.0.0.1:1', allow_remote: true", "expected the tokens that their reports must carry"),
        ("listen: 'udp:0.0.0.0:1', allow_remote: true, tokens: [abcdef]", "a loopback address, for datagrams always"),
        ("listen: 'unix:/s', stream: app-events, tokens: [abcdef]", "expected either tokens or stream"),
        ("listen: 'tcp:127.0.0.1:1', mode: '0660'", "is no Unix socket; expected mode only beside unix:/PATH"),
        ("listen: 'tcp:127.0.0.1:5', owner: root", "is no Unix socket; expected owner only beside"),
        ("listen: 'tcp:127.0.0.1:1', allow_users: [root]", "expected allow_users only for Unix sockets"),
        ("listen: 'unix:/s', allow_users: [no-such-user]", "no-such-user: there is no such user"),
        ("listen: 'unix:/s', group: no-such-group", "no-such-group: there is no such group"),
        ("listen: 'unix:/s', max_connections: 0", "expected a positive whole number, got 0"),
        ("listen: 'unix:/s', max_line: 5KB", "expected a size of at least 20KB"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(tmp_path: Path, text: str, message: str) -> None:
    assert message in problem(tmp_path, text)


def test_two_sockets_cannot_listen_at_the_same_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sockets.two.listen: unix:/s is already that of sockets.one"):
        load(tmp_path, "sockets: {one: {listen: 'unix:/s'}, two: {listen: 'unix:/s'}}")


@pytest.mark.parametrize(
    ("text", "environ", "target"),
    [
        ("", {"HOST_IP": "10.1.2.3"}, "0:10.1.2.3"),
        ("defaults:", {"HOST_IP": "10.1.2.3"}, "0:10.1.2.3"),
        ("defaults: {cloud_id: 7, biz_id: 2}", {"HOST_IP": "10.1.2.3"}, "7:10.1.2.3"),
        ("defaults: {ip: 10.9.9.9}", {"HOST_IP": "10.1.2.3"}, "0:10.9.9.9"),
        ("defaults: {target: somewhere}", {}, "somewhere"),
    ],
)
def test_what_this_host_is_called(tmp_path: Path, text: str, environ: dict[str, Any], target: str) -> None:
    config: Config = load(tmp_path, text, environ).config
    assert config.defaults.own_target == target


def test_a_wrong_cloud_id_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"defaults.cloud_id: expected a whole number from 0 on, got -1"):
        load(tmp_path, "defaults: {cloud_id: -1}")
