"""The processes of the demo, which run this package's own commands."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Self

import msgspec

from sidecar.cli.control import NotRunningError, ask
from sidecar.core.errors import StartError
from sidecar.status.document import Status

_DATA_ID, _TOKEN = 1500006, "demo-access-token"
_START_S = 20.0
_STOP_S = 15.0
_TIMEOUT_S = 5.0
_PASS_ON_S = 10.0
"""The stand-in, like the real proxy, takes three seconds to pass on what it has accepted."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class _Process:
    """`sidecar COMMAND` in a process of its own, with its log in a file."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def start(self) -> None:
        """Start it. Raises StartError with the end of the log if the process does not become ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "sidecar", *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # SIDECAR_* variables of the user's shell would change what the demo runs.
                env={name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")},
            )
        give_up_s = time.monotonic() + _START_S
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                raise StartError(f"a part of the demo did not start:\n{self._log.read_text('utf-8')[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def command(self) -> list[str]:
        """Return the arguments of `sidecar`."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Return whether the part does its work."""
        raise NotImplementedError


class StandInProcess(_Process):
    """`sidecar proxy`, with a record of what arrives behind it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "proxy.log")
        self._record = directory / "arrived.jsonl"
        self._port, self._control_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def command(self) -> list[str]:
        return [
            "proxy", "--listen", f"127.0.0.1:{self._port}", "--control", f"127.0.0.1:{self._control_port}",
            "--token", f"{_DATA_ID}={_TOKEN}", "--record", str(self._record),
        ]  # fmt: skip

    def ready(self) -> bool:
        try:
            with self._ask("GET", "/"):
                return True
        except OSError:
            return False

    def fault(self, mode: str) -> None:
        """Switch a fault on, or off with `none`."""
        with self._ask("PUT", "/faults", json.dumps({"mode": mode}).encode()):
            pass

    def all_arrived(self) -> Counter[int]:
        """Wait until the proxy has passed everything on; the numbers of the events that arrived, and how often each."""
        give_up_s = time.monotonic() + _PASS_ON_S
        while time.monotonic() < give_up_s:
            with self._ask("GET", "/") as answer:
                if not json.load(answer)["behind"]["waiting"]:
                    break
            time.sleep(0.05)
        arrived: Counter[int] = Counter()
        for line in self._record.read_bytes().splitlines():
            arrived.update(int(event["dimension"]["number"]) for event in msgspec.json.decode(line)["data"])
        return arrived

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        url = f"http://127.0.0.1:{self._control_port}{path}"
        request = urllib.request.Request(url, body, method=method)  # our own http URL
        return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310


class SidecarProcess(_Process):
    """`sidecar run`; may be killed and started again."""

    def __init__(self, directory: Path, port: int, proxy_url: str) -> None:
        super().__init__(directory / "sidecar.host.log")
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.socket = directory / "sidecar.sock"
        self.log_file = directory / "app.log"
        self._state = directory / "state"
        self._config = directory / "sidecar.yml"
        stream = {"data_id": _DATA_ID, "access_token": _TOKEN, "kind": "event"}
        settings = {
            "state": str(self._state),
            "proxy": {"urls": [proxy_url]},
            "http": {"listen": f"127.0.0.1:{port}"},
            "streams": {"demo": stream},
            "sockets": {"demo": {"listen": f"unix:{self.socket}", "stream": "demo"}},
            "tails": {
                "demo": {
                    "paths": [str(self.log_file)],
                    "stream": "demo",
                    "parse": "logfmt",
                    "event": {"name": "login_failed", "dimension": {"module": "db", "number": "{number}"}},
                }
            },
        }
        self._config.write_text(json.dumps(settings), "utf-8")  # JSON is YAML

    def command(self) -> list[str]:
        return ["run", "--config", str(self._config)]

    def ready(self) -> bool:
        try:
            return bool(msgspec.json.decode(ask(self._state, "/readyz"))["ok"])
        except (NotRunningError, msgspec.DecodeError):
            return False

    def status(self) -> Status:
        """Return the status. Raises NotRunningError."""
        return msgspec.json.decode(ask(self._state, "/status"), type=Status)

    def has_delivered(self, events: int) -> bool:
        """Return whether it runs, has delivered so many, and nothing waits in the queue."""
        status = self.status_if_up()
        return status is not None and status.books.delivered >= events and status.books.queued == 0

    def status_if_up(self) -> Status | None:
        """Return the status; None while it is gone."""
        try:
            return self.status()
        except (NotRunningError, msgspec.DecodeError):
            return None
