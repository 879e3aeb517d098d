"""The Debian package, built, and installed for real where the machine is thrown away afterwards (as CI's are)."""

import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import Process, Proxy
from tests.support.reports import dump, event, report

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
pytestmark = [
    pytest.mark.skipif(
        shutil.which("dpkg-deb") is None or not Path(PYTHON).exists(), reason="no Debian machine with its own Python"
    ),
    pytest.mark.timeout(300),
]
needs_install = pytest.mark.skipif(
    os.geteuid() != 0 or not os.environ.get("SIDECAR_TEST_INSTALL"),
    reason="installs a package for real: only as root, with SIDECAR_TEST_INSTALL=1",
)


def run(*command: str, check: bool = True) -> str:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env, timeout=200)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    return Path(run(str(ROOT / "packaging" / "build-deb"), PYTHON, str(directory)).strip())


def test_what_is_in_it(package: Path) -> None:
    listing = run("dpkg-deb", "-c", str(package))
    modes = {line.split()[5].removeprefix("."): line.split()[0] for line in listing.splitlines()}
    assert modes["/usr/share/bkmonitor-sidecar/00-sidecar.yml"] == "-rw-r--r--"
    assert modes["/usr/share/doc/bkmonitor-sidecar/examples/tails.yml"] == "-rw-r--r--"
    assert not any(name.startswith("/etc") for name in modes), "conffiles ask questions in unattended upgrades"
    assert modes["/usr/lib/systemd/system/sidecar.service"] == "-rw-r--r--"
    assert modes["/opt/bkmonitor-sidecar/bin/sidecar"] == "-rwxr-xr-x"
    assert not any("w" in mode[5:] for mode in modes.values() if not mode.startswith("l"))
    assert "python3 (>= 3." in run("dpkg-deb", "-f", str(package), "Depends")


def test_nothing_in_it_names_the_place_where_it_was_built(package: Path, tmp_path: Path) -> None:
    run("dpkg-deb", "-x", str(package), str(tmp_path))
    built_in = str(ROOT).encode()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 500
    assert [path for path in files if built_in in path.read_bytes()] == []


class Installed(Process):
    """The installed command, run as the unit would run it."""

    def __init__(self, output: Path, proxy_url: str) -> None:
        super().__init__(output)
        self.proxy_url = proxy_url

    def spawn(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                ["runuser", "-u", "sidecar", "--", "/usr/bin/sidecar", "run", "--config", "/etc/sidecar/conf.d",
                 "--state", "/var/lib/sidecar", "--proxy", self.proxy_url],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
            )  # fmt: skip


@pytest.fixture(scope="module")
def installed(package: Path) -> Iterator[Path]:
    os.chmod(package.parent, 0o755)  # noqa: PTH101  # apt reads it as its own user
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", str(package))
    yield package
    run("dpkg", "--purge", "bkmonitor-sidecar", check=False)


@needs_install
def test_it_installs_runs_as_its_own_user_and_goes_without_a_trace(installed: Path, tmp_path: Path) -> None:
    user = pwd.getpwnam("sidecar")
    state = Path("/var/lib/sidecar")
    assert (state.stat().st_uid, stat.S_IMODE(state.stat().st_mode)) == (user.pw_uid, 0o700)
    default = Path("/etc/default/sidecar")
    assert (default.stat().st_gid, stat.S_IMODE(default.stat().st_mode)) == (user.pw_gid, 0o640)
    config = Path("/etc/sidecar/conf.d/00-sidecar.yml")
    assert (config.stat().st_gid, stat.S_IMODE(config.stat().st_mode)) == (user.pw_gid, 0o640)
    assert run("sidecar", "--version").startswith("sidecar, version ")
    rows: list[Any] = json.loads(run("runuser", "-u", "sidecar", "--", "sidecar", "check", "--json"))
    assert {row["key"]: row["value"] for row in rows}["state"] == "/var/lib/sidecar"
    unit = Path("/usr/lib/systemd/system/sidecar.service")
    if shutil.which("systemd-analyze"):
        run("systemd-analyze", "verify", str(unit))
    assert "ExecStart=/usr/bin/sidecar run --config /etc/sidecar/conf.d --state /var/lib/sidecar" in unit.read_text()

    with Proxy(tmp_path) as proxy:
        proxy.start()
        with Installed(tmp_path / "installed.log", proxy.url) as sidecar:
            sidecar.spawn()
            sidecar.wait_for("event=ready")
            request = urllib.request.Request(
                "http://127.0.0.1:10205/v2/push/", dump(report(event(), token="some-token"))
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert json.load(answer)["result"] == "true"
            books = json.loads(run("runuser", "-u", "sidecar", "--", "sidecar", "status", "--json"))["books"]
            assert (books["accepted"], books["balanced"]) == (1, True)
            run("pkill", "-TERM", "-P", str(sidecar.pid))  # runuser's child, which is the sidecar
            sidecar.wait()
    assert len(proxy.items()) == 1
    assert (state / "queue.db").stat().st_uid == user.pw_uid

    config.write_text(config.read_text() + "# a line of the administrator's\n")
    run("dpkg", "-i", str(installed))
    assert "the administrator's" in config.read_text()
    run("dpkg", "--remove", "bkmonitor-sidecar")
    assert (state / "queue.db").exists()
    assert config.exists()
    run("dpkg", "--purge", "bkmonitor-sidecar")
    for trace in (
        state,
        Path("/etc/sidecar"),
        Path("/etc/default/sidecar"),
        Path("/var/lib/bkmonitor-sidecar"),
        Path("/opt/bkmonitor-sidecar"),
        Path("/usr/bin/sidecar"),
        unit,
    ):
        assert not trace.exists(), trace
    with pytest.raises(KeyError):
        pwd.getpwnam("sidecar")


STREAMS = """# The streams, as an older package shipped them.
streams:
  #app-events:
  #  data_id: 1500006
"""


@pytest.fixture
def older(package: Path, tmp_path: Path) -> Path:
    """A package as before: with conffiles, other defaults, and an older version."""
    root = tmp_path / "older"
    run("dpkg-deb", "-R", str(package), str(root))
    conf_d, default = root / "etc" / "sidecar" / "conf.d", root / "etc" / "default" / "sidecar"
    conf_d.mkdir(parents=True)
    default.parent.mkdir(parents=True)
    shipped = root / "usr" / "share" / "bkmonitor-sidecar"
    (conf_d / "00-sidecar.yml").write_text("# older\n" + (shipped / "00-sidecar.yml").read_text())
    (conf_d / "20-streams.yml").write_text(STREAMS)
    default.write_text("# older\n")
    shutil.rmtree(shipped)
    names = sorted(f"/{path.relative_to(root)}" for path in (root / "etc").rglob("*") if path.is_file())
    (root / "DEBIAN" / "conffiles").write_text("".join(f"{name}\n" for name in names))
    script = (root / "DEBIAN" / "postinst").read_text()
    lines = [line for line in script.splitlines() if not line.strip().startswith("place ") or "()" in line]
    (root / "DEBIAN" / "postinst").write_text("\n".join(lines) + "\n")
    control = (root / "DEBIAN" / "control").read_text().splitlines()
    control = [re.sub(r"^Version: .*", "Version: 0.0.1", line) for line in control]
    (root / "DEBIAN" / "control").write_text("\n".join(control) + "\n")
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(tmp_path))
    return next(tmp_path.glob("*_0.0.1_*.deb"))


@needs_install
@pytest.mark.parametrize("changed", [False, True])
def test_an_unattended_upgrade_asks_nothing_and_keeps_what_the_administrator_changed(
    package: Path, older: Path, *, changed: bool
) -> None:
    os.chmod(older.parent, 0o755)  # noqa: PTH101
    conf_d, default = Path("/etc/sidecar/conf.d"), Path("/etc/default/sidecar")
    try:
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", str(older))
        assert (conf_d / "00-sidecar.yml").read_text().startswith("# older")
        if changed:
            for path in (conf_d / "00-sidecar.yml", default):
                path.write_text(path.read_text() + "# the administrator's\n")
            text = "streams:\n  mine: {data_id: 7, access_token: a-secret-token}\n"
            (conf_d / "20-streams.yml").write_text(text)
        (conf_d / "50-mine.yml").write_text("streams:\n  more: {data_id: 8, access_token: another-token}\n")
        run("chgrp", "sidecar", str(conf_d / "50-mine.yml"))
        run("dpkg", "-i", str(package))  # nobody is there to be asked
        text = (conf_d / "00-sidecar.yml").read_text()
        assert text.startswith("# older") is changed
        assert ("# the administrator's" in text) is changed
        assert ("# the administrator's" in default.read_text()) is changed
        assert (conf_d / "00-sidecar.yml.dpkg-dist").exists() is changed
        assert stat.S_IMODE(default.stat().st_mode) == 0o640
        rows = json.loads(run("runuser", "-u", "sidecar", "--", "sidecar", "check", "--json"))
        keys = {row["key"] for row in rows}
        assert "streams.more.data_id" in keys
        assert ("streams.mine.data_id" in keys) is changed, "what was edited stays live"
        run("dpkg", "-i", str(package))
        assert (conf_d / "00-sidecar.yml.dpkg-dist").exists() is False
    finally:
        run("dpkg", "--purge", "bkmonitor-sidecar", check=False)
        shutil.rmtree("/etc/sidecar", ignore_errors=True)
