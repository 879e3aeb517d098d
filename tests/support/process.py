"""Real processes of `sidecar`, for tests that speak to it as its users do: over sockets, files and signals."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

TOKEN = "token-of-the-test-pipe"
START_S = 30.0


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> Any:
    """The first true value of `condition`, which is asked again and again."""
    give_up_s = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > give_up_s:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.01)


def run_command(
    *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments], check=False, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, cwd=cwd,
    )  # fmt: skip


class Process:
    """A command that runs until it is told to end; its output goes to a file. `program`: as `python -m` has it."""

    program: tuple[str, ...] = ("sidecar",)

    def __init__(self, output: Path, env: dict[str, str] | None = None) -> None:
        self.output = output
        self.env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._read_from = 0

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def spawn(self) -> None:
        self._read_from = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.program, *self.arguments()],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.env,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def text(self) -> str:
        """What it has printed since it was last started."""
        return self.output.read_bytes()[self._read_from :].decode()

    def wait_for(self, pattern: str, timeout_s: float = START_S) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.text())
            if found is None and self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}, before {pattern!r}:\n{self.text()}")
            return found

        try:
            found = wait_until(look, timeout_s, pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None
        assert isinstance(found, re.Match)
        return found

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 20.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Proxy(Process):
    """`sidecar proxy`; what it has, is what arrived behind it. Without `--merge` each document is a message there."""

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__(directory / "proxy.log")
        self.record = directory / "accepted.jsonl"
        self.options = options
        self.url = self.control = ""

    def arguments(self) -> list[str]:
        listen = re.sub("^https?://", "", self.url) or "127.0.0.1:0"
        common = ["--listen", listen, "--control", "127.0.0.1:0", "--record", str(self.record), "--merge", "0s"]
        return ["proxy", *common, *self.options]

    def start(self) -> Self:
        self.spawn()
        found = self.wait_for(r"proxy on (\S+), commands on (\S+),")
        self.url, self.control = found[1], found[2]
        return self

    def fault(self, mode: str, **more: Any) -> None:
        response = httpx.put(f"{self.control}/faults", json={"mode": mode, **more}, trust_env=False)
        assert response.status_code == 200, response.text

    def summary(self) -> Any:
        return httpx.get(f"{self.control}/", trust_env=False).json()

    def documents(self) -> list[Any]:
        if not self.record.exists():
            return []
        complete, _, _ = self.record.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in complete.splitlines()]

    def items(self) -> list[Any]:
        """All items that arrived, in order."""
        return [item for document in self.documents() for item in document["data"]]

    def ids(self) -> Counter[str]:
        return Counter(item["dimension"]["id"] for item in self.items())


class Sidecar(Process):
    """`sidecar run`; `settings` is merged over a configuration that is good for tests."""

    def __init__(
        self, directory: Path, proxy_url: str, settings: dict[str, Any] | None = None, *options: str,
        env: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(directory / "sidecar.host.log", env)
        self.state = directory / "state"
        self.config = directory / "sidecar.yml"
        self.options = options
        self.port = 0
        self.settings: dict[str, Any] = {
            "state": str(self.state),
            "proxy": {"urls": [proxy_url], "rate": "unlimited"},
            "http": {"listen": "127.0.0.1:0"},
            "streams": {"app-events": {"data_id": 1500006, "access_token": TOKEN, "kind": "event"}},
        }
        _merge(self.settings, settings or {})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def push_url(self) -> str:
        return f"{self.url}/v2/push/"

    def arguments(self) -> list[str]:
        if self.port:  # started again: its clients know the address
            self.settings["http"]["listen"] = f"127.0.0.1:{self.port}"
        self.config.write_text(json.dumps(self.settings))
        return ["run", "--config", str(self.config), *self.options]

    def start(self) -> Self:
        self.spawn()
        found = self.wait_for(r'(?:listen=|"listen": ?")http://[^ "]*:(\d+)')
        self.port = int(found[1])
        return self

    def post(self, document: Any, **more: Any) -> httpx.Response:
        content = document if isinstance(document, bytes | str) else json.dumps(document)
        return httpx.post(self.push_url, content=content, trust_env=False, timeout=30, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", trust_env=False, timeout=30, **more)

    def status(self) -> Any:
        return self.get("/status").json()

    def books(self) -> Any:
        return self.status()["books"]

    def stream(self, name: str = "app-events") -> Any:
        return next(stream for stream in self.status()["streams"] if stream["name"] == name)

    def wait_empty(self, timeout_s: float = 30.0) -> None:
        wait_until(lambda: self.books()["queued"] == 0, timeout_s, "an empty queue")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def raw(self, request: bytes, timeout_s: float = 20.0) -> bytes:
        """Everything that comes back for `request` until the other side closes, or is silent for half a second."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            connection.sendall(request)
            return read_answer(connection)


def read_answer(connection: socket.socket, silence_s: float = 0.5) -> bytes:
    answer = b""
    while True:
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            return answer
        except ConnectionResetError:
            return answer
        if not piece:
            return answer
        answer += piece
        connection.settimeout(silence_s)


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
