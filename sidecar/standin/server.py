"""The shell of the stand-in proxy: one port that behaves like the proxy, one to command it while it runs."""

import asyncio
import socket
import struct
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sidecar.config.model import Address
from sidecar.standin.faults import MODES, Faults
from sidecar.standin.judge import PipeRules, judge
from sidecar.standin.rates import SlidingWindows, TokenBuckets
from sidecar.standin.record import Record
from sidecar.web import HttpServer, listen_tcp

_HTML = b"<!DOCTYPE html><html><body><h1>Welcome</h1><p>Please log in to use this network.</p></body></html>"
_CUT_OFF_BYTES = 64_000_000


class _Protocol(HttpToolsProtocol):
    """Lets the application get at the connection, to break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["sidecar.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


class StandIn:
    """A stand-in proxy on loopback. `faults` may be replaced at any time; `down` needs `set_faults`."""

    def __init__(self, listen: Address, control: Address | None, rules: PipeRules, record: Path | None = None) -> None:
        self.faults = Faults()
        self.rules = rules
        self.record = Record(record)
        self.windows = (
            TokenBuckets(rules.rate, rules.burst) if rules.rate and rules.burst else SlidingWindows(rules.rate)
        )
        self._listen, self._control_address = listen, control
        self._proxy: HttpServer | None = None
        self._control: HttpServer | None = None

    async def start(self) -> None:
        """Raises StartError if an address is taken."""
        if self._control_address is not None:
            listener = listen_tcp(self._control_address.host, self._control_address.port)
            self._control_address = Address(*listener.getsockname()[:2])
            self._control = HttpServer(self._control_app(), listener)
            await self._control.start()
        await self._up()

    async def stop(self) -> None:
        """May be called twice."""
        await self._down()
        if self._control is not None:
            await self._control.stop(abort=True)
            self._control = None

    @property
    def url(self) -> str:
        """Where the proxy listens, or listened before it went down."""
        return f"http://{self._listen}"

    @property
    def control_url(self) -> str:
        """Where commands go."""
        return f"http://{self._control_address}"

    async def set_faults(self, faults: Faults) -> None:
        """Puts `faults` in force at once."""
        self.faults = faults
        if faults.mode == "down":
            await self._down()
        else:
            await self._up()

    async def _up(self) -> None:
        if self._proxy is None:
            listener = listen_tcp(self._listen.host, self._listen.port)
            self._listen = Address(*listener.getsockname()[:2])
            self._proxy = HttpServer(self._proxy_app(), listener, _Protocol)
            await self._proxy.start()

    async def _down(self) -> None:
        if self._proxy is not None:
            proxy, self._proxy = self._proxy, None
            await proxy.stop(abort=True)

    def _proxy_app(self) -> Starlette:
        app = Starlette(routes=[Route(path, self._push, methods=["POST"]) for path in ("/v2/push/", "/v2/push")])
        app.router.redirect_slashes = False
        return app

    async def _push(self, request: Request) -> Response:
        faults, self.faults = self.faults, self.faults.after_one()
        body = await _body(request)
        response = await self._faulty(faults, request)
        if response is None:
            response = self._judged(body, faults)
        if faults.mode == "reset-after":
            _reset(request)
        self.record.answers[str(response.status_code)] += 1
        return response

    async def _faulty(self, faults: Faults, request: Request) -> Response | None:
        retry_after = {"retry-after": faults.retry_after} if faults.retry_after is not None else {}
        match faults.mode:
            case "500" | "503" | "429" | "413" | "401":
                return _answer(int(faults.mode), f"fault {faults.mode}", retry_after)
            case "html":
                return Response(_HTML, media_type="text/html")
            case "false":
                return _answer(200, "not stored", result="false")
            case "redirect":
                return Response(status_code=302, headers={"location": "http://127.0.0.1:9/login"})
            case "slow":
                await asyncio.sleep(faults.delay_s)
            case "reset-before":
                _reset(request)
                return Response(status_code=500)
            case _:
                pass
        return None

    def _judged(self, body: bytes, faults: Faults) -> Response:
        verdict = judge(body, self.rules, self.windows, time.time())
        if verdict.status == 200 and _poisoned(verdict.items, faults.poison):
            return _answer(400, "poison event")
        if verdict.status == 200:
            self.record.accept(verdict.data_id, verdict.items, size=len(body), at_ms=int(time.time() * 1000))
        return _answer(verdict.status, verdict.message)

    def _control_app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._show),
                Route("/faults", self._change, methods=["PUT"]),
                Route("/accepted", self._accepted),
            ]
        )

    async def _show(self, _: Request) -> Response:
        return JSONResponse(self.summary())

    def summary(self) -> dict[str, Any]:
        """Counts and faults, as the control port shows them."""
        return {
            "documents": self.record.documents,
            "events": self.record.events,
            "bytes": self.record.bytes,
            "answers": dict(self.record.answers),
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

    async def _accepted(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")

        async def lines() -> AsyncIterator[bytes]:
            for accepted in self.record.since(int(after) if after.isdecimal() else 0):
                yield msgspec.json.encode(accepted) + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        if len(body) <= _CUT_OFF_BYTES:
            body += part
    return bytes(body)


def _poisoned(items: list[dict[str, Any]], poison: tuple[str, ...]) -> bool:
    return any(text in msgspec.json.encode(item).decode() for text in poison for item in items)


def _answer(status: int, message: str, headers: dict[str, str] | None = None, *, result: str | None = None) -> Response:
    good = result or ("true" if status == 200 else "false")
    document = {"code": str(status), "message": message, "request_id": str(uuid.uuid4()), "result": good}
    return Response(msgspec.json.encode(document), status, headers)  # like the proxy, without application/json


def _reset(request: Request) -> None:
    """Ends the connection with a TCP RST instead of a FIN."""
    transport = request.scope["sidecar.transport"]
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
