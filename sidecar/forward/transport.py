"""httpx's transport to one proxy: kept connections, each used for one exchange at a time.

httpx's own transport does everything that HTTP has, and takes five times the processor time (decisions/wire.md).
"""

import ssl
import time
from collections.abc import AsyncIterator

import httpx

from sidecar.forward.connection import ProxyConnection
from sidecar.forward.opening import authorization_of, head_of, open_connection

_IDLE_CONNECTIONS, _IDLE_S = 64, 55.0


class ProxyTransport(httpx.AsyncBaseTransport):
    """Post to one proxy, through the HTTP proxy `via` if there is one.

    `timeout_s` is the most between one byte and the next, and for each stage of connecting. The extension `early` of a
    response: it came before its request was whole.
    """

    def __init__(self, *, tls: ssl.SSLContext | None, via: str | None, timeout_s: float) -> None:
        self._tls, self._timeout_s = tls, timeout_s
        self._via = httpx.URL(via) if via is not None else None
        self._idle: list[tuple[ProxyConnection, float]] = []  # with the time since when; the one used last stands last

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return what came back. Raises httpx.TransportError."""
        connection = self._take_idle() or await open_connection(
            request.url, tls=self._tls, via=self._via, timeout_s=self._timeout_s
        )
        answer = await connection.exchange(self._head(request), request.content, self._timeout_s)
        if connection.is_usable:
            self._keep(connection)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.body), extensions={"early": answer.early}
        )

    async def aclose(self) -> None:
        """Close the idle connections; those in use close themselves if they are not to be kept."""
        while self._idle:
            self._idle.pop()[0].close()

    def _head(self, request: httpx.Request) -> bytes:
        headers, target = request.headers.raw, request.url.raw_path
        if self._via is not None and request.url.scheme == "http":  # it is asked for the whole URL
            headers, target = [*headers, *authorization_of(self._via)], str(request.url).encode()
        return head_of(request.method.encode(), target, headers)

    def _take_idle(self) -> ProxyConnection | None:
        since_s = time.monotonic() - _IDLE_S
        while self._idle:
            connection, idle_since_s = self._idle.pop()
            if idle_since_s >= since_s and connection.is_usable:
                return connection
            connection.close()
        return None

    def _keep(self, connection: ProxyConnection) -> None:
        self._idle.append((connection, time.monotonic()))
        if len(self._idle) > _IDLE_CONNECTIONS:
            self._idle.pop(0)[0].close()


class _Body(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body
