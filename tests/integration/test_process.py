"""The process among others: signals, descriptors, readers of its log, other users, and being stopped."""

import array
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.support.process import Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, report


class Piped(Sidecar):
    """A sidecar whose log goes into a pipe, which is read up to the line that says that it is ready."""

    def spawn(self) -> None:
        self.reading, writing = os.pipe()
        self.size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        command = [sys.executable, "-m", "sidecar", *self.arguments()]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
        os.close(writing)

    def text(self) -> str:
        if "event=ready" not in self._read:
            self._read += os.read(self.reading, 1 << 20).decode()
        return self._read

    _read = ""

    @property
    def unread_bytes(self) -> int:
        found = array.array("i", [0])
        fcntl.ioctl(self.reading, termios.FIONREAD, found)
        return found[0]


def test_a_reader_of_the_log_that_stops_stops_nothing_else(tmp_path: Path, proxy: Proxy) -> None:
    with Piped(tmp_path, proxy.url) as sidecar:
        sidecar.start()

        def is_full() -> bool:
            os.kill(sidecar.pid, signal.SIGUSR1)  # a line for each reload
            return sidecar.unread_bytes > sidecar.size - 500

        wait_until(is_full, 60, "a full pipe")
        for _ in range(100):
            os.kill(sidecar.pid, signal.SIGUSR1)
            assert sidecar.post(report(event())).status_code == 200
        assert sidecar.get("/healthz").status_code == 200
        assert sidecar.stop() == 0
        os.close(sidecar.reading)


def test_a_sidecar_that_is_stopped_is_said_to_run_and_not_to_answer(sidecar: Sidecar) -> None:
    os.kill(sidecar.pid, signal.SIGSTOP)
    try:
        done = run_command("status", "--config", str(sidecar.config))
        checked = run_command("status", "--check", "--config", str(sidecar.config))
    finally:
        os.kill(sidecar.pid, signal.SIGCONT)
    assert done.returncode == 1
    assert f"(process {sidecar.pid}), but does not answer within 5 s" in done.stderr
    assert checked.returncode == 2
    assert checked.stdout.startswith("SIDECAR CRITICAL - a sidecar runs on")


def test_the_status_as_a_monitoring_plugin(proxy: Proxy, sidecar: Sidecar) -> None:
    def check() -> tuple[int, str]:
        done = run_command("status", "--check", "--config", str(sidecar.config))
        assert done.stdout.count("\n") == 1
        return done.returncode, done.stdout

    code, line = check()
    assert (code, line[:13]) == (0, "SIDECAR OK - ")
    assert " | queued=0 dead=0 dropped=0 queue=" in line
    proxy.fault("down")
    assert sidecar.post(report(event())).status_code == 200
    wait_until(lambda: sidecar.status()["state"] == "degraded")
    code, line = check()
    assert (code, line[:18]) == (1, "SIDECAR WARNING - ")
    assert "is down" in line
    assert sidecar.stop() == 0
    code, line = check()
    assert (code, line[:19]) == (2, "SIDECAR CRITICAL - ")
    done = run_command("status", "--check", "--config", str(sidecar.config.with_name("none.yml")))
    assert done.returncode == 2, "wrong usage"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_user_who_may_not_use_the_control_socket_is_answered_over_http(sidecar: Sidecar) -> None:
    public = {"state": str(sidecar.state), "http": {"listen": f"127.0.0.1:{sidecar.port}"}}
    public["proxy"] = {"urls": ["http://127.0.0.1:1"]}
    config = sidecar.state.parent / "public.yml"
    config.write_text(json.dumps(public))
    config.chmod(0o644)
    for parent in [config.parent, *config.parents]:
        if parent != Path("/") and parent.stat().st_uid == 0:
            parent.chmod(parent.stat().st_mode | 0o111)
    code = (
        "import os, sys, encodings.idna\nimport sidecar.cli.status\nfrom sidecar.cli import main\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv = ['sidecar', 'status', '-c', sys.argv[1]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(config)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok ")


def test_sigusr1_reads_the_configuration_again(sidecar: Sidecar) -> None:
    sidecar.settings["streams"]["more"] = {"data_id": 77, "access_token": "another-token"}
    sidecar.arguments()
    os.kill(sidecar.pid, signal.SIGUSR1)
    sidecar.wait_for("configuration reloaded")
    assert sidecar.post({"stream": "more", "data": [event()]}).status_code == 200
    sidecar.config.write_text("nonsense: [")
    os.kill(sidecar.pid, signal.SIGUSR1)
    sidecar.wait_for("reload failed")
    assert sidecar.get("/healthz").status_code == 200


class Nohup(Sidecar):
    def spawn(self) -> None:
        with self.output.open("ab") as output:
            command = ["nohup", sys.executable, "-m", *self.program, *self.arguments()]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def test_a_hangup_that_is_ignored_at_the_start_stays_ignored(tmp_path: Path, proxy: Proxy) -> None:
    with Nohup(tmp_path, proxy.url) as sidecar:
        sidecar.start()
        os.kill(sidecar.pid, signal.SIGHUP)
        assert sidecar.post(report(event())).status_code == 200
        assert sidecar.stop() == 0


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_descriptors_that_are_closed_at_the_start_cost_nothing_at_the_stop(
    tmp_path: Path, proxy: Proxy, closed: str
) -> None:
    sidecar = Sidecar(tmp_path, proxy.url)
    command = [sys.executable, "-m", "sidecar", *sidecar.arguments()]
    process = subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *command])
    try:
        config = str(sidecar.config)
        wait_until(lambda: run_command("status", "--config", config).returncode == 0, 30, "it answers")
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}])
def test_any_locale_will_do(tmp_path: Path, proxy: Proxy, locale: dict[str, str]) -> None:
    streams = {"登录事件": {"data_id": 78, "access_token": "another-token"}}
    with Sidecar(tmp_path, proxy.url, {"streams": streams}) as sidecar:
        sidecar.start()
        assert sidecar.post({"stream": "登录事件", "data": [event()]}).status_code == 200
        for command in (["status"], ["why", "登录事件"], ["check"], ["tails"], ["dead", "list"]):
            done = run_command(*command, "--config", str(sidecar.config), env={**locale, "PYTHONCOERCECLOCALE": "0"})
            assert "Traceback" not in done.stderr
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["-v"], ["-V"], ["--version"], ["version"]])
def test_the_version(words: list[str]) -> None:
    assert run_command(*words).stdout.startswith("sidecar, version ")
