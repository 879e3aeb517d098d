"""The proxy's answers, word for word: `code` and `result` are strings, `request_id` is a fresh UUID."""

import os
from http import HTTPStatus

import msgspec

_IDS_AT_ONCE = 256


class _Ids:
    """Random UUIDs (version 4, RFC 9562) from one read of the system's random source for many."""

    def __init__(self) -> None:
        self._hex = ""
        self._used = 0

    def next(self) -> str:
        if self._used >= len(self._hex):
            self._hex, self._used = os.urandom(16 * _IDS_AT_ONCE).hex(), 0
        h = self._hex[self._used : self._used + 32]
        self._used += 32
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}"


_ids = _Ids()
_SUCCESS = '{"code":"200","message":"success","request_id":"%s","result":"true"}'
_SUCCESS_BYTES = len(_SUCCESS) - 2 + 36


def success_body() -> str:
    """The body of an acknowledgement."""
    return _SUCCESS % _ids.next()


def refusal_body(status: int, message: str) -> bytes:
    """The body of any other answer."""
    return msgspec.json.encode({"code": str(status), "message": message, "request_id": _ids.next(), "result": "false"})


def success(*, close: bool) -> bytes:
    """A whole HTTP response that acknowledges a report."""
    end = "connection: close\r\n\r\n" if close else "\r\n"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {_SUCCESS_BYTES}\r\n"
    return f"{head}{end}{success_body()}".encode()


def refusal(status: int, message: str, *, close: bool, retry_after_s: int | None = None) -> bytes:
    """A whole HTTP response that refuses a report."""
    body = refusal_body(status, message)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    if retry_after_s is not None:
        lines.append(f"retry-after: {retry_after_s}")
    if close:
        lines.append("connection: close")
    return "\r\n".join([*lines, "\r\n"]).encode() + body
