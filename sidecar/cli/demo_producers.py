"""The producers of the demo: applications that never give up, over HTTP and over a socket, and one that merely logs."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from sidecar.host.listeners import short_path

_TIMEOUT_S = 5.0
_EVENTS_AT_ONCE = 5
_TIMES_PER_S = 50
_AGAIN_S = 0.05
_ROTATE_AFTER = 500


class Producer(threading.Thread):
    """Hands over numbered events, `numbers` at a steady pace; what was not acknowledged is handed over again.

    `acknowledged` holds the numbers of those that the sidecar said are on disk.
    """

    def __init__(self, name: str, numbers: Iterator[int]) -> None:
        super().__init__(name=name, daemon=True)
        self.acknowledged: set[int] = set()
        self.ended = threading.Event()
        self._numbers = numbers

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()
        self.close()

    def run(self) -> None:
        """Until told to end; what is in hand is still brought through."""
        due_s = time.monotonic()
        while not self.ended.is_set():
            numbers = [next(self._numbers) for _ in range(_EVENTS_AT_ONCE)]
            if not self.bring_through(numbers):
                return
            due_s = max(due_s + 1 / _TIMES_PER_S, time.monotonic() - 1)
            self.ended.wait(max(0.0, due_s - time.monotonic()))

    def bring_through(self, numbers: list[int]) -> bool:
        """Try until it succeeds; False if it was told to end before."""
        while not self.hand_over(numbers):
            if self.ended.wait(_AGAIN_S):
                return False
        self.acknowledged.update(numbers)
        return True

    def hand_over(self, numbers: list[int]) -> bool:
        """Return whether the sidecar acknowledged the events."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection."""
        raise NotImplementedError


class HttpProducer(Producer):
    """Posts reports."""

    def __init__(self, port: int, numbers: Iterator[int]) -> None:
        super().__init__("http-producer", numbers)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)

    def hand_over(self, numbers: list[int]) -> bool:
        try:
            self._connection.request("POST", "/v2/push/", json.dumps({"stream": "demo", "data": _events(numbers)}))
            answer = self._connection.getresponse()
            return bool(json.loads(answer.read()).get("result") == "true")
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            return False

    def close(self) -> None:
        self._connection.close()


class SocketProducer(Producer):
    """Writes lines, one event each, and reads how many of them are on disk."""

    def __init__(self, path: Path, numbers: Iterator[int]) -> None:
        super().__init__("socket-producer", numbers)
        self._path = path
        self._socket: socket.socket | None = None
        self._sent = 0

    def hand_over(self, numbers: list[int]) -> bool:
        try:
            if self._socket is None:
                self._socket, self._sent = self._connect(), 0
            self._socket.sendall(b"".join(json.dumps(event).encode() + b"\n" for event in _events(numbers)))
            self._sent += len(numbers)
            return self._wait_for_ack(self._socket)
        except (OSError, ValueError):
            self.close()
            return False

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(_TIMEOUT_S)
            with short_path(self._path) as path:
                made.connect(path)
        except OSError:
            made.close()
            raise
        return made

    def _wait_for_ack(self, connection: socket.socket) -> bool:
        heard = b""
        while True:
            part = connection.recv(4096)
            if not part:
                raise ConnectionResetError
            *lines, heard = (heard + part).split(b"\n")
            if lines and json.loads(lines[-1])["acked"] == self._sent:
                return True


class LogProducer(Producer):
    """Writes lines to a file, which is rotated now and then: what it wrote counts as acknowledged."""

    def __init__(self, path: Path, numbers: Iterator[int]) -> None:
        super().__init__("log-producer", numbers)
        self._path = path
        self._lines = self._rotations = 0

    def hand_over(self, numbers: list[int]) -> bool:
        with self._path.open("a") as log:
            log.writelines(f"number={number} login failed\n" for number in numbers)
        self._lines += len(numbers)
        if self._lines >= _ROTATE_AFTER:
            self._lines, self._rotations = 0, self._rotations + 1
            self._path.rename(f"{self._path}.{self._rotations}")
        return True

    def close(self) -> None:
        """There is no connection."""


def _events(numbers: Iterable[int]) -> list[dict[str, Any]]:
    return [
        {
            "event_name": "login_failed",
            "target": "0:127.0.0.1",
            "event": {"content": f"user->[user{number:02}] login failed"},
            "dimension": {"module": "db", "number": str(number)},
        }
        for number in numbers
    ]
