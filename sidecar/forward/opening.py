"""Opens a connection to a proxy: looks up its name, tries its addresses, and goes through an HTTP proxy and TLS."""

import asyncio
import base64
import socket
import ssl

import aiohappyeyeballs
import httpx

from sidecar.forward.connection import ProxyConnection

_NEXT_ADDRESS_S = 0.25
"""Try the next address beside one that has been silent for so many seconds (RFC 8305, "Happy Eyeballs")."""
_PORTS = {"http": 80, "https": 443}


async def open_connection(
    url: httpx.URL, *, tls: ssl.SSLContext | None, via: httpx.URL | None, timeout_s: float
) -> ProxyConnection:
    """Return a connection to where `url` leads, through `via` if there is one; `timeout_s` bounds each stage.

    Raises httpx.TransportError.
    """
    encrypted = url.scheme == "https"
    try:
        async with asyncio.timeout(timeout_s):
            connection = await _connect(via or url)
        try:
            if via is not None and encrypted:
                await _tunnel(connection, url, via, timeout_s)
            if encrypted:
                assert tls is not None
                await connection.start_tls(tls, url.raw_host.decode(), timeout_s)
        except BaseException:
            connection.close()
            raise
    except TimeoutError:
        raise httpx.ConnectTimeout("") from None
    except OSError as error:
        raise httpx.ConnectError(str(error)) from error
    return connection


def address_of(url: httpx.URL) -> bytes:
    """Return host and port of `url`, as a request names them where no port may be left out."""
    host = url.raw_host
    return b"%b:%d" % (b"[%b]" % host if b":" in host else host, _port_of(url))


def authorization_of(via: httpx.URL) -> list[tuple[bytes, bytes]]:
    """Return the header by which one is let through the HTTP proxy `via`, if it has a name and a password."""
    if not via.userinfo:
        return []
    credentials = f"{via.username}:{via.password}".encode()
    return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(credentials))]


def head_of(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return a request up to its body."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *[b"%b: %b" % header for header in headers]]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def _connect(url: httpx.URL) -> ProxyConnection:
    """Connect to the first address that answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.raw_host.decode(), _port_of(url), type=socket.SOCK_STREAM)
    opened = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_S)
    _, connection = await loop.create_connection(ProxyConnection, sock=opened)
    return connection


async def _tunnel(connection: ProxyConnection, url: httpx.URL, via: httpx.URL, timeout_s: float) -> None:
    address = address_of(url)
    head = head_of(b"CONNECT", address, [(b"Host", address), (b"Accept", b"*/*"), *authorization_of(via)])
    answer = await connection.tunnel(head, timeout_s)
    if not 200 <= answer.status < 300:
        raise httpx.ProxyError(f"HTTP {answer.status} to CONNECT")


def _port_of(url: httpx.URL) -> int:
    return url.port or _PORTS[url.scheme]
