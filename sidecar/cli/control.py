"""Speaks to the running sidecar over its control socket, which only its own user and root can reach."""

import http.client
import os
import socket
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sidecar.app import control_socket
from sidecar.errors import SidecarError
from sidecar.listening import short_path
from sidecar.status import Status

_TIMEOUT_S = 60.0
T = TypeVar("T")


class NotRunningError(SidecarError):
    """No sidecar runs on this state directory."""


class CommandError(SidecarError):
    """The sidecar refused a command, and said why."""


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
    return _request(state, "GET", path)[1]


def ask_status(state: Path) -> Status:
    """The status document. Raises NotRunningError."""
    return msgspec.json.decode(ask(state, "/status"), type=Status)


def command(state: Path, path: str, document: Any, kind: type[T]) -> T:
    """Sends a command and reads its answer. Raises NotRunningError, or CommandError with the sidecar's words."""
    status, body = _request(state, "POST", path, msgspec.json.encode(document))
    if status != 200:
        try:
            raise CommandError(str(msgspec.json.decode(body)["error"]))
        except (msgspec.MsgspecError, KeyError, TypeError):
            raise CommandError(f"HTTP {status}; is it another version that runs?") from None
    return msgspec.json.decode(body, type=kind)


def _request(state: Path, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = _Connection(control_socket(state))
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise NotRunningError(f"no sidecar runs on {state}: {why}") from error
    finally:
        connection.close()
