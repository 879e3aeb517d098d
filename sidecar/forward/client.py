"""Posts one report to one proxy. The only module that knows httpx; its exceptions end here."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

import httpx

from sidecar import __version__
from sidecar.forward.outcome import Failure, Reply
from sidecar.forward.turns import Turns

_PUSH = "/v2/push/"
_ANSWER_MAX_BYTES = 65_536
_WHOLE_REQUEST = 4  # times the time-out of one stage
_PROBE_WITHIN_S = 5.0


class _Line:
    """The connections to one proxy, and how many requests are under way on them."""

    __slots__ = ("http", "under_way")

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http, self.under_way = http, 0


class Client:
    """Kept-alive connections to all proxies, to each at most `connections` at a time.

    `timeout_s` bounds each stage, four times that a whole request; `tls` makes what https needs.

    After a failure the next request opens a connection of its own, for which the proxy's name is looked up again: the
    kept ones may lead to where the proxy no longer is, and each would take a time-out to say so.
    """

    def __init__(self, *, timeout_s: float, tls: Callable[[], ssl.SSLContext], connections: int) -> None:
        self._timeout_s = timeout_s
        self.deadline_s = timeout_s * _WHOLE_REQUEST
        self._connections = connections
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._lines: dict[str, _Line] = {}
        self._turns: dict[str, Turns] = {}

    def turn(self, base_url: str, stream: Hashable, size: int) -> AbstractAsyncContextManager[bool]:
        """Waits for the turn of `stream` to post about `size` bytes. False: it has to think again first."""
        return self._turns_of(base_url).turn(stream, size)

    def is_contended(self, base_url: str) -> bool:
        """Whether anybody waits for a turn."""
        return self._turns_of(base_url).contended

    def dismiss(self, base_url: str | None = None) -> None:
        """Those who wait for a turn at this proxy, or at any, shall think again."""
        for url, turns in self._turns.items():
            if base_url in (None, url):
                turns.dismiss()

    async def post(self, base_url: str, body: bytes) -> Reply | Failure:
        """What came back, as a value; raises nothing but CancelledError."""
        return await self._ask(base_url, body, self.deadline_s)

    async def probe(self, base_url: str) -> Reply | Failure:
        """The answer to an empty document, which costs a proxy nothing, and no rate."""
        return await self._ask(base_url, b"{}", _PROBE_WITHIN_S)

    def _turns_of(self, base_url: str) -> Turns:
        turns = self._turns.get(base_url)
        if turns is None:
            turns = self._turns[base_url] = Turns(self._connections)
        return turns

    async def _ask(self, base_url: str, body: bytes, within_s: float) -> Reply | Failure:
        line = self._lines.get(base_url)
        if line is None:
            line = self._lines[base_url] = _Line(self._open(base_url))
        line.under_way += 1
        try:
            answer = await self._attempt(line.http, base_url, body, within_s)
            if isinstance(answer, Failure) and self._lines.get(base_url) is line:
                del self._lines[base_url]
            return answer
        finally:
            line.under_way -= 1
            if not line.under_way and self._lines.get(base_url) is not line:
                await line.http.aclose()

    async def close(self) -> None:
        """Closes all connections."""
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            await line.http.aclose()

    def _open(self, base_url: str) -> httpx.AsyncClient:
        if self._tls is None and urlsplit(base_url).scheme == "https":
            self._tls = self._make_tls()
        return httpx.AsyncClient(
            verify=self._tls if self._tls is not None else False,  # False only where no https is
            timeout=httpx.Timeout(self._timeout_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=55),
            follow_redirects=False,
            trust_env=False,  # HTTP_PROXY and .netrc are meant for other programs
            headers={
                "user-agent": f"bkmonitor-sidecar/{__version__}",
                "content-type": "application/json",
                "accept-encoding": "identity",
            },
        )

    async def _attempt(self, http: httpx.AsyncClient, base_url: str, body: bytes, within_s: float) -> Reply | Failure:
        try:
            async with asyncio.timeout(within_s):
                return await _post(http, push_url(base_url), body)
        except TimeoutError:
            return Failure(f"no complete answer within {within_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            return Failure(f"{type(error).__name__}: {self._why(error, base_url)}".rstrip(": "))

    def _why(self, error: Exception, base_url: str) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"not within {self._timeout_s:g} s"
        found = dict.fromkeys(_words(cause, base_url) for cause in _causes(error))
        return ", ".join(filter(None, found)) or str(error)


async def _post(http: httpx.AsyncClient, url: str, body: bytes) -> Reply | Failure:
    async with http.stream("POST", url, content=body) as response:
        answer = b""
        async for piece in response.aiter_raw():
            answer += piece
            if len(answer) > _ANSWER_MAX_BYTES:
                return Failure(f"HTTP {response.status_code}: answer larger than {_ANSWER_MAX_BYTES} bytes")
        reply = Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, answer)
    # httpx ties response and stream in a circle, which would keep the body until the garbage collector comes by.
    response.stream = httpx.ByteStream(b"")
    return reply


def push_url(base_url: str) -> str:
    """The push endpoint below `base_url`, unless that names it already."""
    path = urlsplit(base_url).path.rstrip("/")
    return f"{base_url.rstrip('/')}/" if path.endswith(_PUSH.rstrip("/")) else f"{base_url.rstrip('/')}{_PUSH}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Where `error` began; in several places, if several addresses were tried.

    The libraries wrap what the system said, and all but drop its words ("All connection attempts failed").
    """
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        inner = error.__cause__ or error.__context__  # httpcore raises some "from None"
        yield from _causes(inner) if inner is not None else [error]


def _words(cause: BaseException, base_url: str) -> str:
    match cause:
        case socket.gaierror():
            return f"cannot look up {urlsplit(base_url).hostname}: {cause.strerror}"
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed: {cause.verify_message}"
        case ssl.SSLError() if cause.reason:
            return cause.reason.lower().replace("_", " ")
        case OSError() if cause.errno and not isinstance(cause, ssl.SSLError):
            return os.strerror(cause.errno)
        case _:
            return str(cause)
