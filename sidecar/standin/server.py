"""The shell of the stand-in proxy: one port that behaves like the proxy, one to command it while it runs."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sidecar.config import Address
from sidecar.host.http_server import HttpServer
from sidecar.host.listeners import listen_tcp
from sidecar.standin.answers import TRANSPORT, Broken, answer, dated, fault_answer, reset
from sidecar.standin.behind import Behind
from sidecar.standin.faults import MODES, Faults
from sidecar.standin.judge import PipeRules, data_id_of, judge
from sidecar.standin.rates import SlidingWindows, TokenBuckets
from sidecar.standin.record import Kept, Record, Traffic

_CUT_OFF_BYTES = 64_000_000
_ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]  # the real proxy looks at none
MERGE_S = 3.0
"""Seconds for which the real proxy gathers accepted items of a data_id into one message (`flush_interval`)."""
_LOOK_S = 0.02


class _Protocol(HttpToolsProtocol):
    """Lets the application get at the connection, to break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[typeddict-unknown-key]


class StandIn:
    """A stand-in proxy on loopback. `faults` may be replaced at any time; `down` needs `set_faults`. `behind`: what
    becomes of what it accepts; None: the same as at the real one.

    With `tls` it speaks https; its commands stay in plain text.
    """

    def __init__(
        self,
        listen: Address,
        control: Address | None,
        rules: PipeRules,
        record: Path | None = None,
        tls: ssl.SSLContext | None = None,
        behind: Behind | None = None,
    ) -> None:
        self.behind = behind or Behind(MERGE_S, lossless=False)
        self.faults = Faults()
        self.rules = rules
        self.record = Record(record)
        self.windows = (
            TokenBuckets(rules.rate, rules.burst) if rules.rate and rules.burst else SlidingWindows(rules.rate)
        )
        self._listen, self._control_address, self._tls = listen, control, tls
        self._passing_on: asyncio.Task[None] | None = None
        self._proxy: HttpServer | None = None
        self._control: HttpServer | None = None

    async def start(self) -> None:
        """Start it. Raises StartError if an address is taken."""
        if self._control_address is not None:
            listener = listen_tcp(self._control_address.host, self._control_address.port)
            self._control_address = Address(*listener.getsockname()[:2])
            self._control = HttpServer(self._control_app(), listener)
            await self._control.start()
        await self._up()
        self._passing_on = asyncio.create_task(self._pass_on(), name="stand-in-behind")

    async def stop(self) -> None:
        """Stop, and lose what was not passed on yet, as the real proxy does; may be called twice."""
        await self._down()
        if self._passing_on is not None:
            self._passing_on.cancel()
            self._passing_on = None
        self.behind.stop()
        if self._control is not None:
            await self._control.stop(abort=True)
            self._control = None

    @property
    def url(self) -> str:
        """Return where the proxy listens, or listened before it went down."""
        return f"{'https' if self._tls else 'http'}://{self._listen}"

    @property
    def control_url(self) -> str:
        """Return where commands go."""
        return f"http://{self._control_address}"

    async def set_faults(self, faults: Faults) -> None:
        """Put `faults` in force at once."""
        self.faults = faults
        if faults.mode == "down":
            await self._down()
        else:
            await self._up()

    async def _up(self) -> None:
        if self._proxy is None:
            listener = listen_tcp(self._listen.host, self._listen.port)
            self._listen = Address(*listener.getsockname()[:2])
            self._proxy = HttpServer(self._proxy_app(), listener, _Protocol, self._tls)
            await self._proxy.start()

    async def _down(self) -> None:
        if self._proxy is not None:
            proxy, self._proxy = self._proxy, None
            # A proxy that went down does not finish the answers to requests that it has already read.
            await proxy.stop(abort=True)

    def _proxy_app(self) -> ASGIApp:
        app = Starlette(routes=[Route("/v2/push/", self._push, methods=_ANY_METHOD)])
        # The real proxy answers 404 without the final slash, and redirects nobody.
        app.router.redirect_slashes = False
        return dated(app, lambda: self.faults.skew_s)

    async def _push(self, request: Request) -> Response:
        body = await _body(request)
        data_id = data_id_of(body)
        counted = self.record.asked(data_id)
        faults = self._faults_for(data_id)
        response = await fault_answer(faults)
        if response is None:
            response = self._judged(body, faults)
        if faults.mode == "reset-after":
            response = Broken(then=reset)
        outcome = faults.mode if isinstance(response, Broken) else str(response.status_code)
        for traffic in counted:
            traffic.answers[outcome] += 1
        return response

    def _faults_for(self, data_id: int | None) -> Faults:
        """Return what befalls the next request, if it is for `data_id`; uses up one of its times."""
        faults = self.faults
        if not faults.concern(data_id):
            return Faults(skew_s=faults.skew_s)
        self.faults = faults.after_one()
        return faults

    def _judged(self, body: bytes, faults: Faults) -> Response:
        verdict = judge(body, self.rules, self.windows, time.time(), skew_s=faults.skew_s)
        if verdict.status == 200 and _poisoned(verdict.items, faults.poison):
            return answer(faults.poison_status, "poison event")
        if verdict.status == 200:
            at_ms = int(time.time() * 1000)
            document = self.record.accept(verdict.data_id, verdict.items, size=len(body), at_ms=at_ms)
            self.behind.accept(document, time.monotonic())
            self.record.arrive(self.behind.take())
        return answer(verdict.status, verdict.message)

    async def _pass_on(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self.behind.flush(time.monotonic())
            self.record.arrive(self.behind.take())

    def _control_app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._show),
                Route("/faults", self._change, methods=["PUT"]),
                Route("/accepted", _lines_of(self.record.accepted)),
                Route("/arrived", _lines_of(self.record.arrived)),
            ]
        )

    async def _show(self, _: Request) -> Response:
        return JSONResponse(self.summary())

    def summary(self) -> dict[str, Any]:
        """Return counts and faults, as the control port shows them."""
        return {
            "documents": self.record.documents,
            "events": self.record.events,
            "bytes": self.record.bytes,
            "behind": {
                "arrived": self.behind.arrived,
                "waiting": self.behind.waiting,
                "messages": self.behind.messages,
                "lost": dict(self.behind.lost),
            },
            **_shown(self.record.all),
            "probes": _shown(self.record.probes),
            "by_data_id": {str(data_id): _shown(traffic) for data_id, traffic in self.record.by_data_id.items()},
            "most_requests_in_a_window": self.windows.most,
            "faults": msgspec.to_builtins(self.faults),
        }

    async def _change(self, request: Request) -> Response:
        try:
            faults = msgspec.json.decode(await _body(request), type=Faults)
        except msgspec.MsgspecError as error:
            return JSONResponse({"error": f"{error}; modes: {', '.join(MODES)}"}, 400)
        await self.set_faults(faults)
        return JSONResponse(msgspec.to_builtins(self.faults))


def _lines_of(kept: Kept) -> Callable[[Request], Awaitable[Response]]:
    async def show(request: Request) -> Response:
        after = request.query_params.get("after", "0")

        async def lines() -> AsyncIterator[bytes]:
            for line in kept.since(int(after) if after.isdecimal() else 0):
                yield line

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    return show


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        # Read to the end in any case: a client that is still writing might never read the 413.
        if len(body) <= _CUT_OFF_BYTES:
            body += part
    return bytes(body)


def _poisoned(items: list[dict[str, Any]], poison: tuple[str, ...]) -> bool:
    return any(text in msgspec.json.encode(item).decode() for text in poison for item in items)


def _shown(traffic: Traffic) -> dict[str, Any]:
    return {"requests": traffic.requests, "answers": dict(traffic.answers)}
