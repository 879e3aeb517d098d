"""The proxy's answers, word for word: `code` and `result` are strings, `request_id` is a fresh UUID."""

import json
import os
from http import HTTPStatus

import msgspec

from sidecar.core.errors import REJECTION_HEADER, Rejection

_HEADER_CHARACTERS = 4096
_IDS_AT_ONCE = 256  # one system call serves so many answers


class _Ids:
    """Random UUIDs (version 4, RFC 9562), made many at a time."""

    def __init__(self) -> None:
        self._ready: list[str] = []  # made, and not given away yet

    def next(self) -> str:
        if not self._ready:
            random = os.urandom(16 * _IDS_AT_ONCE).hex()
            self._ready = [_uuid(random[i : i + 32]) for i in range(0, len(random), 32)]
        return self._ready.pop()


def _uuid(h: str) -> str:
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}"


_ids = _Ids()
# The content-length can be fixed, since a UUID always has 36 characters.
_SUCCESS = (
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 102\r\n{}\r\n"
    '{{"code":"200","message":"success","request_id":"{}","result":"true"}}'
).format


def success(*, close: bool) -> bytes:
    """Return a whole HTTP response that acknowledges a report."""
    return _SUCCESS("connection: close\r\n" if close else "", _ids.next()).encode()


def refusal_body(status: int, message: str) -> bytes:
    """Return the body of any other answer."""
    return msgspec.json.encode({"code": str(status), "message": message, "request_id": _ids.next(), "result": "false"})


def rejection(why: Rejection, *, close: bool) -> bytes:
    """Return a whole HTTP response that says what is wrong with a report.

    As data in a header, which no proxy's answer has.
    """
    data = json.dumps({"place": why.place, "problem": why.problem, "scope": why.scope})  # in ASCII
    more = [f"{REJECTION_HEADER}: {data}"] if len(data) <= _HEADER_CHARACTERS else []
    return _response(why.status, why.message, more, close=close)


def refusal(status: int, message: str, *, close: bool, retry_after_s: int | None = None) -> bytes:
    """Return a whole HTTP response that refuses a report for another reason."""
    return _response(status, message, [] if retry_after_s is None else [f"retry-after: {retry_after_s}"], close=close)


def _response(status: int, message: str, more: list[str], *, close: bool) -> bytes:
    body = refusal_body(status, message)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *more,
    ]
    if close:
        lines.append("connection: close")
    return "\r\n".join([*lines, "\r\n"]).encode() + body
