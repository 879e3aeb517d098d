"""sd_notify(3)."""

import os
import socket
from pathlib import Path

from sidecar.host.systemd import Notifier


def test_states_are_sent_to_the_service_manager(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        Notifier({"NOTIFY_SOCKET": str(path)}).tell("READY=1", "STATUS=well")
        assert manager.recv(4096) == b"READY=1\nSTATUS=well"


def test_an_abstract_address() -> None:
    name = f"sidecar-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).tell("READY=1")
        assert manager.recv(4096) == b"READY=1"


def test_outside_a_unit_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).tell("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell("READY=1")


def test_the_watchdogs_interval_is_in_seconds_and_for_this_process_only() -> None:
    assert Notifier({"WATCHDOG_USEC": "60000000"}).watchdog_s == 60
    assert Notifier({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 60
    assert Notifier({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier({}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog_s is None
