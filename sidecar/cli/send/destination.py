"""Decides where reports go: to the running sidecar, by its line sockets first and then its HTTP endpoint.

Only what `bkmonitorbeat -report` would have posted to a proxy goes there where no sidecar runs. Nothing is sent yet.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from sidecar.cli.send.beat import Beat
from sidecar.cli.send.delivery import NoSidecarError, NoSidecarThereError, SendError, SendLink
from sidecar.cli.send.line_socket import LineSocket, open_line_socket
from sidecar.cli.send.outbox import SendLimits
from sidecar.config import ENVELOPE_BYTES, Listen, Readable, is_loopback, parse_url
from sidecar.core.errors import in_words

WELL_KNOWN = "unix:/run/sidecar/sidecar.sock"
_EVENTS, _BYTES = 200, 200_000
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where somebody listens, not we
Opener = tuple[str, Callable[[], SendLink]]


class SendWay(msgspec.Struct, frozen=True):
    """The way to send reports: over `link`; when it is lost, over the new link that `connect` gives, if any.

    `distrust` is told of a way that was shut without a word; `limits` are those of a report.
    """

    link: SendLink
    connect: Callable[[], SendLink] | None
    distrust: Callable[[str], None]
    limits: SendLimits


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """The user's input for finding the sidecar: a `socket` by name, else the readable part of the configuration."""

    readable: Readable
    socket: str | None


def find_way(where: Where, first: str | None = None) -> SendWay:
    """Return the way to the running sidecar. Raises NoSidecarError, which says what was tried, `first` ahead of all."""
    finder = Finder(where.readable, only=where.socket, first=first)
    limits = SendLimits(_EVENTS, min(_BYTES, max_line_bytes(where.readable) - ENVELOPE_BYTES))
    return SendWay(finder.find(), finder.find, finder.distrust, limits)


def find_way_of_beat(where: Where, beat: Beat) -> SendWay:
    """Return the way; the original's agent socket counts only if it is ours, its proxy only where no sidecar runs.

    Raises NoSidecarError, and SendError for a proxy that is none.
    """
    agent = beat["report.agent.address"]
    known = own_sockets(where.readable) if agent else []
    first = next((address for address in known if same_socket(address, agent)), None)
    try:
        return find_way(where, first)
    except NoSidecarError as error:
        if not beat.over_http:
            raise
        server = beat["report.http.server"]
        if not server:
            raise SendError(f"{error}; and report.http.server is not given") from None
    try:
        url = parse_url(f"http://{server}")
    except ValueError:
        raise SendError(f"report.http.server: expected HOST:PORT such as 10.0.0.1:10205, got {server}") from None
    from sidecar.cli.send.direct import open_proxy  # noqa: PLC0415  # half of the start, for where no sidecar runs

    limits = SendLimits(1, where.readable.config.proxy.max_body)  # of one report, which is not divided
    return SendWay(open_proxy(url, where.readable.config), None, lambda _: None, limits)


class Finder:
    """Opens the first way that there is. `only`: the one that the user named."""

    def __init__(self, readable: Readable, *, only: str | None = None, first: str | None = None) -> None:
        self._ways = list(_socket_ways(readable, [only]) if only else _ways(readable, first))

    def find(self) -> SendLink:
        """Return an open way. Raises NoSidecarError, which says what was tried."""
        tried = []
        for name, open_way in self._ways:
            try:
                return open_way()
            except OSError as error:
                tried.append(f"{name} ({in_words(error)})")
            except NoSidecarThereError as other:
                tried.append(f"{name} ({other})")
        raise NoSidecarError(f"no sidecar runs here: tried {', '.join(tried)}")

    def distrust(self, name: str) -> None:
        """Try this way last from now on, since it was shut without a word."""
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


def _ways(readable: Readable, first: str | None) -> Iterator[Opener]:
    addresses = dict.fromkeys([*([first] if first else []), *own_sockets(readable), WELL_KNOWN])
    yield from _socket_ways(readable, addresses)
    listen = readable.config.http.listen
    if listen.port:
        host = _HERE.get(listen.host, listen.host)
        listen = msgspec.structs.replace(listen, host=host)
        yield f"http://{listen}", lambda: _open_http(host, listen.port, readable.config.defaults.own_target)


def _socket_ways(readable: Readable, addresses: Iterable[str]) -> Iterator[Opener]:
    for address in addresses:
        yield address, _opener(address, _target_for(address, readable))


def _open_http(host: str, port: int, own_target: str) -> SendLink:
    from sidecar.cli.send.http_link import open_sidecar  # noqa: PLC0415  # half of the start, where there is no socket

    return open_sidecar(host, port, own_target)


def _opener(address: str, own_target: str | None) -> Callable[[], LineSocket]:
    return lambda: open_line_socket(address, own_target)


def _target_for(address: str, readable: Readable) -> str | None:
    """Return what stands in for a missing target; None where the sidecar knows better what this host is called."""
    local = not address.startswith("tcp:") or is_loopback(address.split(":", 1)[1].rpartition(":")[0].strip("[]"))
    return None if local and not readable.defaults_known else readable.config.defaults.own_target


def _is_local_stream(listen: Listen) -> bool:
    if listen.datagrams or (listen.address is not None and not listen.address.port):
        return False
    return listen.address is None or is_loopback(listen.address.host)
