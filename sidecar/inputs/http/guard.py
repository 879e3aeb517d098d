"""Decides who may speak to the endpoint: a web page in a local browser must not. Pure.

Any page can make a browser send a request to 127.0.0.1. Such a request carries the page's `Origin`, or, when the page
has its own name resolve to 127.0.0.1 (DNS rebinding), that name as `Host`. Programs on the host send neither.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from sidecar.core.errors import Rejected

_AUTHORITY = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{0,5})?")
"""A host and perhaps a port, with nobody's name before it and nothing behind it (RFC 9110, 7.2)."""
_SAME_SITE = (b"same-origin", b"none")


class Guard:
    """Checks Host, Origin and Sec-Fetch-Site. `listen_host` is the address that clients were given."""

    def __init__(self, listen_host: str, allowed_hosts: Iterable[str]) -> None:
        self._names = {"localhost", listen_host.lower(), *(host.lower() for host in allowed_hosts)}
        self._remote = not _is_loopback_ip(listen_host) and listen_host != "localhost"
        self._known: set[bytes] = set()  # Host headers that were found good

    def check(self, headers: Mapping[bytes, bytes], *, is_page: bool = False) -> None:
        """Raise Rejected (403) for what a foreign page asks. Names of `headers` are in lower case.

        `is_page`: to the page itself a link on another site may lead.
        """
        host = headers.get(b"host")
        if host is not None and host not in self._known:
            self._check_host(host)
            # Bounded, since the client chooses the text: any port may stand behind a good name.
            if len(self._known) < 64:
                self._known.add(host)
        origin = headers.get(b"origin")
        if origin is not None and not _same_origin(origin, host):
            raise Rejected(403, "a page of another site may not use this endpoint", ("Origin",))
        is_link = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
        if headers.get(b"sec-fetch-site", b"none") not in _SAME_SITE and not (is_page and is_link):
            raise Rejected(403, "a page of another site may not use this endpoint", ("Sec-Fetch-Site",))

    def _check_host(self, host: bytes) -> None:
        if not _AUTHORITY.fullmatch(host) or not self._is_ours(b"//" + host):
            raise Rejected(403, "not a name of this endpoint; add it to http.allowed_hosts if it is one", ("Host",))

    def _is_ours(self, url: bytes) -> bool:
        try:
            name = urlsplit(url.decode("latin-1")).hostname or ""
        except ValueError:
            return False
        if name in self._names or _is_loopback_ip(name):
            return True
        return self._remote and _is_ip(name)  # an address cannot be rebound; a name can


def _same_origin(origin: bytes, host: bytes | None) -> bool:
    """Return True if a page that says it comes from `origin` came from the very endpoint that it speaks to now.

    Another port of this host is another origin (RFC 6454): whatever serves pages there is no part of the sidecar.
    """
    scheme, _, authority = origin.lower().partition(b"://")
    default_port = {b"http": b":80", b"https": b":443"}.get(scheme)
    if default_port is None or host is None:
        return False
    return authority.removesuffix(default_port) == host.lower().removesuffix(default_port)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback_ip(text: str) -> bool:
    return _is_ip(text) and ipaddress.ip_address(text).is_loopback
