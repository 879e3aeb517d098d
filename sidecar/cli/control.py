"""Speaks to the running sidecar over its control socket, which only its own user and root can reach."""

import http.client
import os
import socket
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sidecar.config import Address
from sidecar.core.errors import SidecarError
from sidecar.host.listeners import short_path
from sidecar.service.paths import control_socket
from sidecar.service.state_lock import holder_of

_TIMEOUT_S = 60.0
"""Seconds that a command waits for its answer. A command that changes something may take a while."""
_ASK_TIMEOUT_S = 5.0
T = TypeVar("T")


class NotRunningError(SidecarError):
    """No sidecar runs on this state directory."""


class CommandError(SidecarError):
    """The sidecar refused a command, and said why."""


class SilentError(SidecarError):
    """A sidecar runs on this state directory, and does not answer."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path, self._timeout_s = path, timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        with short_path(self._path) as path:
            self.sock.connect(path)


def ask(state: Path, path: str) -> bytes:
    """Return the body of the answer to GET `path`. Raises NotRunningError or SilentError."""
    return _request(state, "GET", path)[1]


def ask_over_http(listen: Address) -> bytes:
    """Return what any user of this host may see, from the endpoint for reports.

    Raises NotRunningError or SilentError.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104  # nothing is bound
    connection = http.client.HTTPConnection(host, listen.port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        body = response.read()
    except TimeoutError:
        raise SilentError(f"http://{listen} does not answer within {_ASK_TIMEOUT_S:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise NotRunningError(f"no sidecar answers on http://{listen}: {why}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise NotRunningError(f"no sidecar answers on http://{listen}: HTTP {response.status}")
    return body


def command(state: Path, path: str, document: Any, kind: type[T]) -> T:
    """Send a command and read its answer. Raises NotRunningError, or CommandError with the sidecar's words."""
    status, body = _request(state, "POST", path, msgspec.json.encode(document))
    if status != 200:
        try:
            raise CommandError(str(msgspec.json.decode(body)["error"]))
        except (msgspec.MsgspecError, KeyError, TypeError):
            raise CommandError(f"HTTP {status}; is it another version that runs?") from None
    return msgspec.json.decode(body, type=kind)


def _request(state: Path, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    timeout_s = _ASK_TIMEOUT_S if method == "GET" else _TIMEOUT_S
    connection = _Connection(control_socket(state), timeout_s)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    except TimeoutError:
        # The kernel drops the lock with its process, so the lock tells a hanging sidecar from a dead one.
        holder = holder_of(state)
        if holder is None:
            raise NotRunningError(f"no sidecar runs on {state}: its socket does not answer") from None
        raise SilentError(
            f"a sidecar runs on {state} (process {holder}), but does not answer within {timeout_s:g} s:"
            " it is stopped (SIGSTOP), stuck, or short of processor time"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise NotRunningError(f"no sidecar runs on {state}: {why}") from error
    finally:
        connection.close()
