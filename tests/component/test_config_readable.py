"""What any user may make of the configuration: all that is right and can be read, and no complaint about the rest."""

from pathlib import Path

import pytest

from sidecar.config import Options, Readable, load, load_readable
from sidecar.config.model import Address, Defaults, Http

GOOD = """
http: {listen: 127.0.0.1:1234}
defaults: {cloud_id: 7, ip: 10.0.0.9}
streams:
  open: {data_id: 5, access_token: abc}
  closed: {data_id: 6, access_token_file: /nowhere/token}
sockets:
  local: {listen: "unix:/run/x.sock", stream: open}
"""


def read(tmp_path: Path, text: str) -> Readable:
    file = tmp_path / "sidecar.yml"
    file.write_text(text)
    return load_readable(Options(config=file), {})


def test_a_token_that_cannot_be_read_costs_only_its_stream(tmp_path: Path) -> None:
    readable = read(tmp_path, GOOD)
    config = readable.config
    assert (set(config.streams), set(config.sockets)) == ({"open"}, {"local"})
    assert config.http.listen == Address("127.0.0.1", 1234)
    assert config.defaults.own_target == "7:10.0.0.9"
    assert readable.defaults_known


def test_a_part_that_is_wrong_is_as_by_default(tmp_path: Path) -> None:
    readable = read(tmp_path, GOOD.replace("listen: 127.0.0.1:1234", "listen: nonsense"))
    assert readable.config.http == Http()
    assert set(readable.config.streams) == {"open"}


def test_wrong_defaults_are_not_relied_upon(tmp_path: Path) -> None:
    readable = read(tmp_path, GOOD.replace("cloud_id: 7", "cloud_id: seven"))
    assert not readable.defaults_known
    assert readable.config.defaults == Defaults()


@pytest.mark.parametrize("text", ["a: [b", "- a list", "x: ${NOT_SET}"])
def test_a_file_that_cannot_be_read_leaves_the_defaults_unknown(tmp_path: Path, text: str) -> None:
    readable = read(tmp_path, text)
    assert not readable.defaults_known
    assert readable.config.http == Http()


@pytest.mark.parametrize("there", [True, False])
def test_a_directory_that_is_closed_or_not_there(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(type(tmp_path)):  # type: ignore[misc]
        def is_dir(self) -> bool:
            raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "SYSTEM_CONFIG", Closed(tmp_path) if there else tmp_path / "none")
    readable = load_readable(Options(), {"HOST_IP": "10.0.0.5"})
    assert not readable.defaults_known
    assert readable.config.defaults.own_target == "0:10.0.0.5"
