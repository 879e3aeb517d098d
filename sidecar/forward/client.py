"""Posts one report to one proxy. The only module that knows httpx; its exceptions end here."""

import asyncio
from collections.abc import Hashable
from urllib.parse import urlsplit

import httpx

from sidecar import __version__
from sidecar.forward.outcome import Failure, Reply
from sidecar.forward.turns import Turns

_PUSH = "/v2/push/"
_ANSWER_MAX_BYTES = 65_536
_WHOLE_REQUEST = 4  # times the time-out of one stage
_PROBE_WITHIN_S = 5.0


class Client:
    """Kept-alive connections to all proxies, to each at most `connections` at a time.

    `timeout_s` bounds each stage, four times that a whole request.
    """

    def __init__(self, *, timeout_s: float, tls: bool, connections: int) -> None:
        self._deadline_s = timeout_s * _WHOLE_REQUEST
        self._connections = connections
        self._turns: dict[str, Turns] = {}
        self._http = httpx.AsyncClient(
            verify=tls if tls is not None else False,
            timeout=httpx.Timeout(timeout_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=55),
            follow_redirects=False,
            trust_env=False,  # HTTP_PROXY and .netrc are meant for other programs
            headers={
                "user-agent": f"bkmonitor-sidecar/{__version__}",
                "content-type": "application/json",
                "accept-encoding": "identity",
            },
        )

    async def post(self, base_url: str, body: bytes, *, turn_of: Hashable) -> Reply | Failure:
        """What came back, as a value; raises nothing but CancelledError.

        Where connections are short, the streams named by `turn_of` share them fairly.
        """
        turns = self._turns.get(base_url)
        if turns is None:
            turns = self._turns[base_url] = Turns(self._connections)
        async with turns.turn(turn_of, len(body)):
            return await self._within(self._deadline_s, base_url, body)

    async def probe(self, base_url: str) -> Reply | Failure:
        """The answer to an empty document, which costs a proxy nothing, and no rate."""
        return await self._within(_PROBE_WITHIN_S, base_url, b"{}")

    async def _within(self, seconds: float, base_url: str, body: bytes) -> Reply | Failure:
        try:
            async with asyncio.timeout(seconds):
                return await self._post(push_url(base_url), body)
        except TimeoutError:
            return Failure(f"no complete answer within {seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            return Failure(f"{type(error).__name__}: {error}".rstrip(": "))

    async def _post(self, url: str, body: bytes) -> Reply | Failure:
        async with self._http.stream("POST", url, content=body) as response:
            answer = b""
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > _ANSWER_MAX_BYTES:
                    return Failure(f"HTTP {response.status_code}: answer larger than {_ANSWER_MAX_BYTES} bytes")
            reply = Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, answer)
        # httpx ties response and stream in a circle, which would keep the body until the garbage collector comes by.
        response.stream = httpx.ByteStream(b"")
        return reply

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()


def push_url(base_url: str) -> str:
    """The push endpoint below `base_url`, unless that names it already."""
    path = urlsplit(base_url).path.rstrip("/")
    return f"{base_url.rstrip('/')}/" if path.endswith(_PUSH.rstrip("/")) else f"{base_url.rstrip('/')}{_PUSH}"
