"""Posts one report to one proxy. The exceptions of httpx end here.

It is used at the level of its transport: no cookies, redirects or encodings, so that nothing that a server says changes
the next request, or hides an acknowledgement.
"""

import asyncio
import os
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

import httpx

from sidecar import __version__
from sidecar.forward.connection import ANSWER_MAX_BYTES
from sidecar.forward.fair_queue import FairQueue, Standing
from sidecar.forward.outcome import Failure, Reply
from sidecar.forward.transport import ProxyTransport

_PUSH = "/v2/push/"
_HEADERS = {
    "User-Agent": f"bkmonitor-sidecar/{__version__}",
    "Content-Type": "application/json",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}
_GZIP_OR_ZLIB = 47  # zlib's wbits
_WHOLE_REQUEST = 4  # times the time-out of one stage
_PROBE_WITHIN_S = 5.0


class _Line:
    """The connections to one proxy, and what all requests to it have in common."""

    def __init__(self, base_url: str, transport: ProxyTransport) -> None:
        self.transport = transport
        self.url = httpx.URL(push_url(base_url))
        self.headers = httpx.Headers({"Host": self.url.netloc.decode()} | _HEADERS)
        self.under_way = 0  # requests in flight


class Client:
    """Kept-alive connections to all proxies, to each at most `connections` at a time.

    `via`: an HTTP proxy on the way; none is ever taken from the environment. `timeout_s` bounds each stage, four times
    that a whole request; `tls` makes what https needs.

    After a failure the next request opens a connection of its own, for which the proxy's name is looked up again: the
    kept ones may lead to where the proxy no longer is, and each would take a time-out to say so.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        tls: Callable[[], ssl.SSLContext],
        connections: int,
        via: str | None = None,
        certificate_expires_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._timeout_s = timeout_s
        self.deadline_s = timeout_s * _WHOLE_REQUEST
        self._connections, self._via = connections, via
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None  # None until the first connection with https
        self._find_expiry = certificate_expires_s
        self._expires_s: float | None = None  # when our own certificate does, in seconds since 1970
        self._lines: dict[str, _Line] = {}  # to each proxy, by its URL
        self._turns: dict[str, FairQueue] = {}  # who may use them next, by the same

    def turn(
        self, base_url: str, stream: Hashable, size: int, standing: Standing = "proven"
    ) -> AbstractAsyncContextManager[bool]:
        """Wait for the turn of `stream` to post about `size` bytes. False: `dismiss` was called, choose again."""
        return self._turns_of(base_url).turn(stream, size, standing)

    def is_contended(self, base_url: str) -> bool:
        """Return whether anybody waits for a turn."""
        return self._turns_of(base_url).contended

    def dismiss(self, base_url: str | None = None) -> None:
        """End every wait for a turn at this proxy (None: at all proxies), so that the streams choose a proxy again."""
        for url, turns in self._turns.items():
            if base_url in (None, url):
                turns.dismiss()

    async def post(self, base_url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply | Failure:
        """Return what came back, as a value; raises nothing but CancelledError. `headers`: beside the usual ones."""
        return await self._ask(base_url, body, self.deadline_s, headers or {})

    async def probe(self, base_url: str) -> Reply | Failure:
        """Return the answer to an empty document, which costs a proxy nothing, and no rate."""
        return await self._ask(base_url, b"{}", _PROBE_WITHIN_S, {})

    def _turns_of(self, base_url: str) -> FairQueue:
        turns = self._turns.get(base_url)
        if turns is None:
            turns = self._turns[base_url] = FairQueue(self._connections)
        return turns

    async def _ask(self, base_url: str, body: bytes, within_s: float, headers: Mapping[str, str]) -> Reply | Failure:
        line = self._lines.get(base_url)
        if line is None:
            line = self._lines[base_url] = self._open(base_url)
        line.under_way += 1
        try:
            answer = await self._attempt(line, body, headers, base_url, within_s)
            if isinstance(answer, Failure) and self._lines.get(base_url) is line:
                del self._lines[base_url]
            return answer
        finally:
            line.under_way -= 1
            if not line.under_way and self._lines.get(base_url) is not line:
                await line.transport.aclose()

    async def close(self) -> None:
        """Close all connections."""
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            await line.transport.aclose()

    def _open(self, base_url: str) -> _Line:
        if self._tls is None and urlsplit(base_url).scheme == "https":
            self._tls, self._expires_s = self._make_tls(), self._find_expiry()
            self._tls.set_alpn_protocols(["http/1.1"])  # a gateway that also speaks HTTP/2 asks for the choice
        return _Line(base_url, ProxyTransport(tls=self._tls, via=self._via, timeout_s=self._timeout_s))

    async def _attempt(
        self, line: _Line, body: bytes, headers: Mapping[str, str], base_url: str, within_s: float
    ) -> Reply | Failure:
        try:
            async with asyncio.timeout(within_s):
                return await _exchange(line, body, headers)
        except TimeoutError:
            return Failure(f"no complete answer within {within_s:g} s", hung=True)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            hung = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)
            words = f"{type(error).__name__}: {self._why(error, base_url)}".rstrip(": ")
            return Failure(f"{words}{self._via_note()}{self._certificate_note(base_url)}", hung=hung)

    def _via_note(self) -> str:
        """Return which HTTP proxy is on the way, which may be what failed; without its password."""
        return f"; on the way through proxy.via, {_address_of(self._via)}" if self._via else ""

    def _certificate_note(self, base_url: str) -> str:
        """Return what is to be known of our own certificate; many servers just end the connection."""
        expired = self._expires_s is not None and self._expires_s < time.time()
        if not expired or urlsplit(base_url).scheme != "https":
            return ""
        return "; our client certificate has expired: renew proxy.client_cert, then `sidecar reload`"

    def _why(self, error: Exception, base_url: str) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"not within {self._timeout_s:g} s"
        host = urlsplit(self._via or base_url).hostname  # an HTTP proxy on the way looks up the rest
        return _words(error.__cause__ or error, host) or str(error)


async def _exchange(line: _Line, body: bytes, headers: Mapping[str, str]) -> Reply | Failure:
    request = httpx.Request("POST", line.url, headers=line.headers, content=body)
    request.headers.update(headers)
    response = await line.transport.handle_async_request(request)
    status = response.status_code
    assert isinstance(response.stream, httpx.AsyncByteStream)
    answer = b"".join([piece async for piece in response.stream])
    if len(answer) > ANSWER_MAX_BYTES:
        return Failure(f"HTTP {status}: answer larger than {ANSWER_MAX_BYTES} bytes")
    if status == 200 and response.extensions["early"]:
        return Failure(f"HTTP {status}: answered before the whole request was sent")
    return Reply(status, {name.lower(): value for name, value in response.headers.items()}, _decoded(answer, response))


def _decoded(answer: bytes, response: httpx.Response) -> bytes:
    """Return the body decoded; as it came if it cannot be decoded, or grows too large. Nobody asked for an encoding."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return answer
    try:
        inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
        plain = inflater.decompress(answer, ANSWER_MAX_BYTES)
    except zlib.error:
        return answer
    return plain if inflater.eof else answer


def push_url(base_url: str) -> str:
    """Return the push endpoint below `base_url`, unless that names it already."""
    path = urlsplit(base_url).path.rstrip("/")
    return f"{base_url.rstrip('/')}/" if path.endswith(_PUSH.rstrip("/")) else f"{base_url.rstrip('/')}{_PUSH}"


def _address_of(url: str) -> str:
    """Return host and port of `url`, as it has them."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _words(cause: BaseException, host: str | None) -> str:
    match cause:
        case socket.gaierror():
            return f"cannot look up {host}: {cause.strerror}"
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed: {cause.verify_message}"
        case ssl.SSLError() if cause.reason:
            return cause.reason.lower().replace("_", " ")
        case OSError() if cause.errno and not isinstance(cause, ssl.SSLError):
            return os.strerror(cause.errno)
        case _:
            return str(cause)
