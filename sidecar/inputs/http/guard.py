"""Who may speak to the endpoint: a web page in a local browser must not. Pure.

Any page can make a browser send a request to 127.0.0.1. Such a request carries the page's `Origin`, or, when the page
has its own name resolve to 127.0.0.1 (DNS rebinding), that name as `Host`. Programs on the host send neither.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from sidecar.errors import Refused

_SAME_SITE = (b"same-origin", b"none")


class Guard:
    """Checks Host, Origin and Sec-Fetch-Site. `listen_host` is the address that clients were given."""

    def __init__(self, listen_host: str, allowed_hosts: Iterable[str]) -> None:
        self._names = {"localhost", listen_host.lower(), *(host.lower() for host in allowed_hosts)}
        self._remote = not _is_loopback_ip(listen_host) and listen_host != "localhost"
        self._known: set[bytes] = set()

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Refused (403). Names of `headers` are in lower case."""
        host = headers.get(b"host")
        if host is not None and host not in self._known:
            self._check_host(host)
            if len(self._known) < 64:
                self._known.add(host)
        origin = headers.get(b"origin")
        if origin is not None and not self._is_ours(origin):
            raise Refused(403, "Origin: a page of another site may not use this endpoint")
        if headers.get(b"sec-fetch-site", b"none") not in _SAME_SITE:
            raise Refused(403, "Sec-Fetch-Site: a page of another site may not use this endpoint")

    def _check_host(self, host: bytes) -> None:
        if not self._is_ours(b"//" + host):
            raise Refused(403, "Host: not a name of this endpoint; add it to http.allowed_hosts if it is one")

    def _is_ours(self, url: bytes) -> bool:
        try:
            name = urlsplit(url.decode("latin-1")).hostname or ""
        except ValueError:
            return False
        if name in self._names or _is_loopback_ip(name):
            return True
        return self._remote and _is_ip(name)  # an address cannot be rebound; a name can


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback_ip(text: str) -> bool:
    return _is_ip(text) and ipaddress.ip_address(text).is_loopback
