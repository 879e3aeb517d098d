"""Tells which addresses are this host's own, and which of them only this host can reach."""

import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit

from sidecar.config.model import Address

LOOPBACK = "127.0.0.1"
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation, which nobody has (RFC 5737, RFC 3849)."""


def host_address() -> str | None:
    """Return the address that this host would send from, IPv4 before IPv6; None while it has no way out.

    Asks the routing table, sends nothing.
    """
    for family, elsewhere in _ELSEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found = str(probe.getsockname()[0])
            if not is_loopback(found):
                return found
    return None


def is_own_listener(url: str, listen: Address) -> bool:
    """Return whether `url` leads to what listens on `listen`."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    host = parts.hostname or ""
    # With port 0 the kernel chooses the port at bind: no URL can name it beforehand.
    return port == listen.port != 0 and (host == listen.host or is_loopback(host) or _is_ours(host, listen.host))


def _is_ours(host: str, listen_host: str) -> bool:
    """Return whether a listener for all addresses is reached under `host`, an address of this host's own."""
    try:
        return ipaddress.ip_address(listen_host).is_unspecified and is_own_address(host)
    except ValueError:
        return False


def is_own_address(host: str) -> bool:
    """Return True if the IP address `host` is one of this host's own, loopback or not.

    Asks the routing table, sends nothing: from a host to itself, an address is its own source. (Whether one could be
    bound to says nothing, with `net.ipv4.ip_nonlocal_bind`.)
    """
    if is_loopback(host):
        return True
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return False
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
            return str(probe.getsockname()[0]) == host
        except OSError:
            return False


def is_loopback(host: str) -> bool:
    """Return whether only this host reaches `host`, a name or an address."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Older Pythons do not count ::ffff:127.0.0.1 as loopback, though it is.
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
