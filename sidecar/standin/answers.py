"""Answers of the stand-in proxy: its own words, and what a fault makes of them or puts in their place.

It decides nothing: which fault is in force, and what a document deserves, is told to it.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.standin.faults import Faults

TRANSPORT: Final = "sidecar.transport"
"""The key of a request's ASGI scope that holds its connection (transport)."""

_HTML = b"<!DOCTYPE html><html><body><h1>Welcome</h1><p>Please log in to use this network.</p></body></html>"
_ELSEWHERE = "http://127.0.0.1:9/login"
_LARGE_CHARACTERS = 100_000  # more than the 64 KB that a client should be ready to read
_BODILESS = (204, 205, 304)
_NOT_THE_PROXYS_WORD = {
    "html": (_HTML, "text/html"),
    "empty": (b"", None),
    "garbled": (bytes(range(256)) * 2, "application/octet-stream"),
    "array": (b"[]", "application/json"),
    "string": (b'"ok"', "application/json"),
    "no-result": (b'{"code":"200"}', "application/json"),
}
_GARBAGE = b"SSH-2.0-OpenSSH_9.2p1\r\n\x00\x00\x01\xfc\x0a\x14\xff\xfe"


class Broken(Response):
    """No answer as HTTP has it: some bytes, and then the connection's end, or nothing until the client gives up."""

    def __init__(self, sent: bytes = b"", then: Callable[[asyncio.Transport], None] | None = None) -> None:
        super().__init__()
        self._sent, self._then = sent, then

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as ASGI has it
        """Return when the connection has ended, so that uvicorn adds nothing."""
        transport = scope[TRANSPORT]
        if self._sent:
            transport.write(self._sent)
        if self._then is not None:
            self._then(transport)
        while (await receive())["type"] != "http.disconnect":
            pass


async def fault_answer(faults: Faults) -> Response | None:
    """Return what comes instead of a judgement, after a delay if there is one. None: the document is judged."""
    retry_after = {"retry-after": faults.retry_after} if faults.retry_after is not None else {}
    match faults.mode:
        case "slow":
            await asyncio.sleep(faults.delay_s)
            return None
        case "busy":
            await asyncio.sleep(faults.delay_s)
            return Response(status_code=429, headers=retry_after)
        case "redirect":
            return Response(status_code=302, headers={"location": _ELSEWHERE, **retry_after})
        case "false":
            return answer(200, "not stored", result="false")
        case "large":
            return answer(200, "x" * _LARGE_CHARACTERS)
        case mode if mode in _NOT_THE_PROXYS_WORD:
            body, media_type = _NOT_THE_PROXYS_WORD[mode]
            return Response(body, media_type=media_type)
        case _:
            return _status_answer(faults, retry_after) or _broken(faults)


def _status_answer(faults: Faults, headers: dict[str, str]) -> Response | None:
    if faults.status is None:
        return None
    if faults.status in _BODILESS:
        return Response(status_code=faults.status, headers=headers)
    if 300 <= faults.status < 400:
        headers = {"location": _ELSEWHERE, **headers}
    return answer(faults.status, f"fault {faults.mode}", headers)


def _broken(faults: Faults) -> Response | None:
    head, body = _success(faults.skew_s)
    match faults.mode:
        case "reset-before":
            return Broken(then=reset)
        case "cut-head":
            return Broken(head[: len(head) // 2], _close)
        case "cut-body":
            return Broken(head + body[: len(body) // 2], _close)
        case "garbage":
            return Broken(_GARBAGE, _close)
        case "hang":
            return Broken()
        case _:
            return None


def answer(status: int, message: str, headers: dict[str, str] | None = None, *, result: str | None = None) -> Response:
    """Answer in the proxy's own form; it gives no request_id, though its documentation shows one."""
    good = result or ("true" if status == 200 else "false")
    document = {"code": str(status), "result": good, "message": message}
    return Response(msgspec.json.encode(document), status, headers)  # like the proxy, without application/json


def dated(app: ASGIApp, skew_s: Callable[[], float]) -> ASGIApp:
    """Return `app` with a Date in every answer, by a clock that is ahead by `skew_s`."""

    async def with_date(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", _date(skew_s()).encode())]
            await send(message)

        await app(scope, receive, send_dated)

    return with_date


def _success(skew_s: float) -> tuple[bytes, bytes]:
    body = bytes(answer(200, "success").body)
    head = f"HTTP/1.1 200 OK\r\ndate: {_date(skew_s)}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode(), body


def _date(skew_s: float) -> str:
    return formatdate(time.time() + skew_s, usegmt=True)


def _close(transport: asyncio.Transport) -> None:
    transport.close()


def reset(transport: asyncio.Transport) -> None:
    """End the connection with a TCP RST instead of a FIN."""
    sock = transport.get_extra_info("socket")
    # With a linger time of zero the kernel ends the connection with RST.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
