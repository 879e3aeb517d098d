"""A client of a line socket, as an application would write it."""

import json
import socket
from typing import Any, Self

from tests.support.process import wait_until


class LineClient:
    """Sends lines and gathers what is answered; `acked` and `errors` are what was said so far."""

    def __init__(self, address: str, timeout_s: float = 20.0) -> None:
        scheme, _, where = address.partition(":")
        if scheme == "tcp":
            host, _, port = where.rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout_s)
            self.socket.connect("\0" + where[1:] if where.startswith("@") else where)
        self.acked = 0
        self.errors: dict[int, str] = {}
        self.answers = 0
        self._heard = b""

    def send(self, *documents: Any) -> None:
        lines = [item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n" for item in documents]
        self.socket.sendall(b"".join(lines))

    def finish(self) -> None:
        """Sends no more, but still hears."""
        self.socket.shutdown(socket.SHUT_WR)

    def hear(self) -> bool:
        """Waits for some answers; False when the other side has closed."""
        data = self.socket.recv(65536)
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self.answers += 1
            said = json.loads(line)
            if "acked" in said:
                assert set(said) == {"acked"}
                assert said["acked"] > self.acked, "an ack that says nothing new"
                self.acked = said["acked"]
            elif "line" in said:
                assert {"line", "error"} <= set(said) <= {"line", "error", "place", "problem", "scope"}
                self.errors[said["line"]] = said["error"]
        return bool(data)

    def wait_settled(self, lines: int) -> None:
        """Until `lines` are on disk or refused."""
        wait_until(lambda: self.acked + len(self.errors) >= lines or not self.hear(), 20, f"{lines} lines settled")
        assert self.acked + len(self.errors) == lines

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
