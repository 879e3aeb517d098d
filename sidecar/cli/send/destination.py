"""Finds the running sidecar: its line sockets first, then its HTTP endpoint. What is sent there is not its business."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from sidecar.cli.send.http_link import HttpLink, NoSidecarThereError, open_sidecar
from sidecar.cli.send.line_socket import LineSocket, open_line_socket
from sidecar.config import Listen, Readable, is_loopback
from sidecar.core.errors import SidecarError

WELL_KNOWN = "unix:/run/sidecar/sidecar.sock"
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where somebody listens, not we
Way = tuple[str, Callable[[], LineSocket | HttpLink]]


class NoSidecarError(SidecarError):
    """Nothing that is tried is a sidecar."""


class Finder:
    """Opens the first way that there is. `only`: the one that the user named."""

    def __init__(self, readable: Readable, *, only: str | None = None, first: str | None = None) -> None:
        self._ways = list(_socket_ways(readable, [only]) if only else _ways(readable, first))

    def find(self) -> LineSocket | HttpLink:
        """Raises NoSidecarError, which says what was tried."""
        tried = []
        for name, open_way in self._ways:
            try:
                return open_way()
            except OSError as error:
                tried.append(f"{name} ({error.strerror or error})")
            except NoSidecarThereError as other:
                tried.append(f"{name} ({other})")
        raise NoSidecarError(f"no sidecar runs here: tried {', '.join(tried)}")

    def distrust(self, name: str) -> None:
        """This way was shut without a word; from now on it is the last to be tried."""
        self._ways.sort(key=lambda way: way[0] == name)


def own_sockets(readable: Readable) -> list[str]:
    """Return the configured sockets that take reports of anybody on this host who may open them."""
    sockets = readable.config.sockets.values()
    return [str(socket.listen) for socket in sockets if not socket.tokens and _is_local_stream(socket.listen)]


def max_line_bytes(readable: Readable) -> int:
    """Return the longest line that all of them take."""
    return min((int(socket.max_line) for socket in readable.config.sockets.values()), default=1_000_000)


def same_socket(one: str, other: str) -> bool:
    """Return whether two addresses are those of one Unix socket file."""
    try:
        return Path(one.removeprefix("unix:")).samefile(other.removeprefix("unix:"))
    except (OSError, ValueError):
        return False


def _ways(readable: Readable, first: str | None) -> Iterator[Way]:
    addresses = dict.fromkeys([*([first] if first else []), *own_sockets(readable), WELL_KNOWN])
    yield from _socket_ways(readable, addresses)
    listen = readable.config.http.listen
    if listen.port:
        host = _HERE.get(listen.host, listen.host)
        listen = msgspec.structs.replace(listen, host=host)
        yield f"http://{listen}", lambda: open_sidecar(host, listen.port, readable.config.defaults.own_target)


def _socket_ways(readable: Readable, addresses: Iterable[str]) -> Iterator[Way]:
    for address in addresses:
        yield address, _opener(address, _target_for(address, readable))


def _opener(address: str, own_target: str | None) -> Callable[[], LineSocket]:
    return lambda: open_line_socket(address, own_target)


def _target_for(address: str, readable: Readable) -> str | None:
    """None where the sidecar takes an event for this host's own and knows better what that is called."""
    local = not address.startswith("tcp:") or is_loopback(address.split(":", 1)[1].rpartition(":")[0].strip("[]"))
    return None if local and not readable.defaults_known else readable.config.defaults.own_target


def _is_local_stream(listen: Listen) -> bool:
    if listen.datagrams or (listen.address is not None and not listen.address.port):
        return False
    return listen.address is None or is_loopback(listen.address.host)
