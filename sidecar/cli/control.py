"""Speaks to the running sidecar over its control socket, which only its own user and root can reach."""

import http.client
import socket
from pathlib import Path

from sidecar.app import control_socket
from sidecar.web import short_path

_TIMEOUT_S = 10.0


class NotRunningError(Exception):
    """No sidecar runs on this state directory."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        with short_path(self._path) as path:
            self.sock.connect(path)


def ask(state: Path, path: str) -> bytes:
    """The body of the answer to GET `path`. Raises NotRunningError."""
    connection = _Connection(control_socket(state))
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        raise NotRunningError(str(error)) from error
    finally:
        connection.close()
