"""The network is often the last to be up: what events of tails name as their target until then."""

from pathlib import Path

import pytest

from sidecar.host.own_address import OwnAddress
from tests.support.process import Proxy, Sidecar, run_command, wait_until


class Networkless(Sidecar):
    program = ("tests.support.networkless",)


class Host:
    def __init__(self, directory: Path, proxy: Proxy) -> None:
        self.directory, self.proxy = directory, proxy
        self.log, self.network = directory / "app.log", directory / "address"

    def start(self, patience_s: float, **settings: object) -> Sidecar:
        tail = {"paths": [str(self.log)], "stream": "app-events", "start_at": "beginning"}
        env = {"NETWORK_FILE": str(self.network), "NETWORK_PATIENCE_S": str(patience_s)}
        env["HOST_IP"] = ""
        made = Networkless(self.directory, self.proxy.url, {"tails": {"app": tail}, **settings}, env=env)
        del made.env["HOST_IP"]
        return made.start()

    def write(self, line: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{line}\n")

    def arrived(self, line: str) -> str:
        """The target of the event."""
        found = wait_until(
            lambda: [item["target"] for item in self.proxy.items() if item["event"]["content"] == line], what=line
        )
        assert len(found) == 1
        return str(found[0])


@pytest.fixture
def host(tmp_path: Path, proxy: Proxy) -> Host:
    return Host(tmp_path, proxy)


def test_lines_wait_for_the_address_and_then_name_it_and_the_next_one_too(host: Host) -> None:
    host.write("early")
    with host.start(3600.0) as sidecar:
        wait_until(
            lambda: any("has no address yet" in reason for reason in sidecar.status()["reasons"]), what="a reason"
        )
        assert host.proxy.items() == []
        host.network.write_text("10.20.30.40")
        assert host.arrived("early") == "0:10.20.30.40"
        wait_until(lambda: not sidecar.status()["reasons"], what="no reason any more")
        host.network.write_text("2001:db8::7")
        sidecar.wait_for("address of this host changed.*2001:db8::7")
        wait_until(lambda: sidecar.status()["state"] == "ok")
        host.write("moved")
        assert host.arrived("moved") == "0:2001:db8::7"
        host.network.unlink()
        host.write("gone")
        assert host.arrived("gone") == "0:2001:db8::7"
        assert run_command("reload", "--config", str(sidecar.config)).returncode == 0
        host.write("reloaded")
        assert host.arrived("reloaded") == "0:2001:db8::7"


def test_lines_that_waited_for_long_go_out_with_the_loopback_address_and_a_reason(host: Host) -> None:
    host.write("early")
    with host.start(0.5) as sidecar:
        assert host.arrived("early") == "0:127.0.0.1"
        (reason,) = sidecar.status()["reasons"]
        assert "name it 127.0.0.1; set defaults.ip, or HOST_IP" in reason
        host.network.write_text("10.20.30.40")
        wait_until(lambda: not sidecar.status()["reasons"], what="no reason any more")
        host.write("late")
        assert host.arrived("late") == "0:10.20.30.40"


def test_who_names_the_target_need_not_wait(host: Host) -> None:
    host.write("early")
    with host.start(3600.0, defaults={"target": "7:here"}) as sidecar:
        assert host.arrived("early") == "7:here"
        assert sidecar.status()["reasons"] == []


def test_a_tail_that_is_added_while_there_is_no_address_waits_too(host: Host) -> None:
    second = host.directory / "second.log"
    second.write_text("second\n")
    with host.start(3600.0, defaults={"target": "7:here"}) as sidecar:
        sidecar.settings["tails"]["second"] = {
            "paths": [str(second)], "stream": "app-events", "start_at": "beginning",
            "event": {"target": "x:${HOST_IP}"},
        }  # fmt: skip
        sidecar.arguments()
        assert run_command("reload", "--config", str(sidecar.config)).returncode == 0
        wait_until(
            lambda: any("has no address yet" in reason for reason in sidecar.status()["reasons"]), what="a reason"
        )
        host.network.write_text("10.20.30.40")
        assert host.arrived("second") == "x:10.20.30.40"


def test_a_reason_goes_when_the_configuration_says_the_address(host: Host) -> None:
    host.write("early")
    with host.start(0.2) as sidecar:
        assert host.arrived("early") == "0:127.0.0.1"
        assert sidecar.status()["state"] == "degraded"
        sidecar.settings["defaults"] = {"ip": "10.9.9.9"}
        sidecar.arguments()
        assert run_command("reload", "--config", str(sidecar.config)).returncode == 0
        host.write("late")
        assert host.arrived("late") == "0:10.9.9.9"
        assert sidecar.status()["reasons"] == []


def test_an_address_that_is_there_for_a_moment_is_not_taken() -> None:
    now_s, found = [0.0], ["10.0.0.1"]
    address = OwnAddress("10.0.0.1", lambda: found[0], lambda: now_s[0])
    assert address.another() is None
    found[0] = "2001:db8::1"
    assert address.another() is None
    now_s[0] = 4.0
    found[0] = "10.0.0.1"
    assert address.another() is None
    found[0] = "10.0.0.2"
    assert address.another() is None
    now_s[0] = 9.5
    assert address.another() == "10.0.0.2"
    assert address.known == "10.0.0.1", "until all have been told"
    address.took("10.0.0.2")
    assert (address.known, address.another()) == ("10.0.0.2", None)
