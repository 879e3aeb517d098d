"""The systemd unit: clean, hardened, and in step with what the sidecar does."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.service import app

UNIT = Path(__file__).parents[2] / "systemd" / "sidecar.service"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    copy = tmp_path / "sidecar.service"
    copy.write_text(UNIT.read_text().replace("/usr/bin/sidecar", shutil.which("true") or "/bin/true"))
    return copy


@needs_systemd
def test_systemd_finds_nothing_wrong_with_it(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_it_is_hardened(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def settings() -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def test_it_promises_what_the_sidecar_keeps() -> None:
    service = settings()
    assert (service["Type"], service["StateDirectory"]) == ("notify", "sidecar")
    assert service["RestartPreventExitStatus"] == "2 78"
    assert re.fullmatch(r"\d+s", service["WatchdogSec"])
    # The HTTP server, the request under way and the writer each have their time to end.
    assert int(service["TimeoutStopSec"].rstrip("s")) > 2 * app._STOP_S + 5
