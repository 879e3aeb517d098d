"""Which way reports go: through the running sidecar, or directly to a proxy. Nothing is sent yet."""

from collections.abc import Callable

import msgspec

from sidecar.cli.send.beat import Beat
from sidecar.cli.send.destination import Finder, NoSidecarError, max_line_bytes, own_sockets, same_socket
from sidecar.cli.send.direct import open_proxy
from sidecar.cli.send.link import SendError, SendLink
from sidecar.cli.send.report import SendLimits
from sidecar.config import ENVELOPE_BYTES, Readable, parse_url

_EVENTS, _BYTES = 200, 200_000
_DIRECT_EVENTS, _DIRECT_PART = 5_000, 0.9
"""A proxy counts requests: bodies are filled, with some room for what the check adds."""


class SendWay(msgspec.Struct, frozen=True):
    """How reports go out: over `link`, and over what `connect` gives when that is lost; and what they are then."""

    link: SendLink
    connect: Callable[[], SendLink] | None
    distrust: Callable[[str], None]
    limits: SendLimits
    done: str


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What the user said about it: a `socket` or a `proxy` by name, else what can be read of the configuration."""

    readable: Readable
    socket: str | None
    proxy: str | None


def find_way(where: Where) -> SendWay:
    """Raises NoSidecarError, which says what was tried."""
    if where.proxy is not None:
        return _direct_way(where.readable, where.proxy, persistent=True)
    try:
        return _sidecar_way(where)
    except NoSidecarError as error:
        hint = "" if where.socket else "; --proxy URL sends directly to a proxy"
        raise NoSidecarError(f"{error}{hint}") from None


def find_way_of_beat(where: Where, beat: Beat) -> SendWay:
    """Return the way; the original's agent socket counts only if it is ours, its proxy only where no sidecar runs.

    Raises NoSidecarError, and SendError for a proxy that is none.
    """
    agent = beat["report.agent.address"]
    known = own_sockets(where.readable) if agent else []
    first = next((address for address in known if same_socket(address, agent)), None)
    try:
        return _sidecar_way(where, first)
    except NoSidecarError as error:
        if not beat.over_http:
            raise
        server = beat["report.http.server"]
        if not server:
            raise SendError(f"{error}; and report.http.server is not given") from None
    try:
        return _direct_way(where.readable, parse_url(f"http://{server}"), persistent=False)
    except ValueError:
        raise SendError(f"report.http.server: expected HOST:PORT such as 10.0.0.1:10205, got {server}") from None


def _sidecar_way(where: Where, first: str | None = None) -> SendWay:
    finder = Finder(where.readable, only=where.socket, first=first)
    limits = SendLimits(_EVENTS, min(_BYTES, max_line_bytes(where.readable) - ENVELOPE_BYTES))
    return SendWay(finder.find(), finder.find, finder.distrust, limits, "on disk")


def _direct_way(readable: Readable, url: str, *, persistent: bool) -> SendWay:
    def connect() -> SendLink:
        return open_proxy(url, readable.config)

    limits = SendLimits(_DIRECT_EVENTS, int(readable.config.proxy.max_body * _DIRECT_PART))
    return SendWay(connect(), connect if persistent else None, lambda _: None, limits, "delivered directly")
