"""Gives one attempt its meaning: status, headers and body, or the failure to get them, become one value. Pure.

    200, JSON object, result true      Delivered       delete the rows
    400, 422                           DataFault       isolate the bad event and bury it
    413                                TooLarge        send less at once; a single event is buried
    401, 403                           Unauthorized    hold the stream, a person is needed
    other 4xx                          RefusedUnknown         hold the stream, a person is needed
    3xx, 404, 405                      Misrouted       this is no proxy's address: hold the proxy, a person is needed
    400, 401, 403, 422 without result  Misrouted       not the proxy's word either: a gateway, an https port
    429                                Throttled       slow down, all streams of the token
    408, 425, 429 without a word       Busy            the same again, later
    508 in a sidecar's words           Looped          it has been there before: hold the stream, a person is needed
    5xx                                ProxyDown       another proxy, or later
    200, anything else; 1xx; 2xx       ProxyDown       not the proxy's word: a portal, a broken gateway
    no answer                          ProxyDown       another proxy, or later

Whatever it is but Delivered, the rows stay where they are. Sources: the proxy's documentation, and bk-collector's
`proxy/http.go`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

_RETRY_AFTER_MAX_S = 300.0
_REASON_MAX = 200
_LOOK_AT = 800
_SECRET_PART = 8
_SECRET_LEAST = 4


class Reply(msgspec.Struct, frozen=True):
    """An answer over HTTP. Names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Failure(msgspec.Struct, frozen=True):
    """No answer, or none that could be read. `hung`: the request was sent, and nothing came in time.

    `gave_way`: the sidecar ended the request so that other streams could send; this says nothing about the proxy.
    """

    error: str
    hung: bool = False
    gave_way: bool = False


class Delivered(msgspec.Struct, frozen=True):
    """The proxy took the batch."""


class DataFault(msgspec.Struct, frozen=True):
    """The proxy finds something wrong with an event; it refuses the whole report and does not say which."""

    reason: str
    status: int


class TooLarge(msgspec.Struct, frozen=True):
    """The body was too large for something on the way."""

    reason: str
    status: int


class Unauthorized(msgspec.Struct, frozen=True):
    """The proxy says that the access token is wrong for the data_id (401, 403)."""

    reason: str


class RefusedUnknown(msgspec.Struct, frozen=True):
    """Refused with a status that no proxy is known to use (other 4xx)."""

    reason: str


class Looped(msgspec.Struct, frozen=True):
    """The other side is a sidecar, and has forwarded these events to us before, or we to it."""

    reason: str


class Misrouted(msgspec.Struct, frozen=True):
    """Something answers at the address, but it is not the push endpoint of a proxy."""

    reason: str


class Throttled(msgspec.Struct, frozen=True):
    """The token has used up its rate (429). Retry after `retry_after_s` seconds; None: the proxy did not say when."""

    reason: str
    retry_after_s: float | None


class Busy(msgspec.Struct, frozen=True):
    """The proxy, or a gateway, is overloaded (408, 425, or 429 without a body). Send the same batch again later."""

    reason: str
    retry_after_s: float | None


class ProxyDown(msgspec.Struct, frozen=True):
    """The address failed: the batch was not judged, or nobody knows. Another proxy may do better. See Failure."""

    reason: str
    retry_after_s: float | None = None
    hung: bool = False
    gave_way: bool = False


Outcome = (
    Delivered | DataFault | TooLarge | Unauthorized | RefusedUnknown | Looped | Misrouted | Throttled | Busy | ProxyDown
)


def judge(answer: Reply | Failure, now: datetime, *, secret: str) -> Outcome:
    """Give an answer its meaning, which happens nowhere else. `now` (aware) turns a date in Retry-After into seconds.

    Words of the other side that hold a part of `secret`, the access token, are not repeated.
    """
    if isinstance(answer, Failure):
        return ProxyDown(_one_line(answer.error, secret), hung=answer.hung, gave_way=answer.gave_way)
    words = words_of(answer.body, secret)
    reason = f"HTTP {answer.status}: {words}" if words else f"HTTP {answer.status}"
    later_s = retry_after_s(answer.headers.get("retry-after"), now)
    match answer.status:
        case 200:
            if _is_acknowledgement(answer.body):
                return Delivered()
            return ProxyDown(f"{reason}: not a proxy's acknowledgement")
        case 429 if answer.body:
            return Throttled(reason, later_s)
        case 408 | 425 | 429:
            return Busy(reason, later_s)
        case 508 if is_own(answer):
            return Looped(reason)
        case status if 300 <= status < 500:
            return _refusal(status, reason, own=is_own(answer))
        case _:
            return ProxyDown(reason, later_s)


def _refusal(status: int, reason: str, *, own: bool) -> Outcome:
    match status:
        case 413:
            return TooLarge(reason, status)
        case 400 | 422 if own:
            return DataFault(reason, status)
        case 401 | 403 if own:
            return Unauthorized(reason)
        case 400 | 401 | 403 | 422:
            return Misrouted(f"{reason}: not in a proxy's words")
        case 404 | 405:
            return Misrouted(reason)
        case _:
            return Misrouted(reason) if status < 400 else RefusedUnknown(reason)


def is_own(reply: Reply) -> bool:
    """Return whether these are the proxy's own words, and not those of a portal or a gateway."""
    return "result" in (_object(reply.body) or {})


def is_alive(answer: Reply | Failure) -> bool:
    """Return True if the answer to an empty document came from a proxy: it refuses in its own words, at no cost."""
    return isinstance(answer, Reply) and answer.status < 500 and is_own(answer)


def skew_s(reply: Reply, sent_s: float, received_s: float) -> float | None:
    """Return the seconds by which the proxy's clock is ahead of ours, from its Date header, to about a second.

    `sent_s` and `received_s` are ours, since 1970. None if it does not say.
    """
    try:
        date = parsedate_to_datetime(reply.headers.get("date", ""))
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    half_a_second = 0.5  # the header is cut off to whole seconds
    return date.timestamp() + half_a_second - (sent_s + received_s) / 2


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds from a Retry-After header in either of its forms (RFC 9110, 10.2.3), capped.

    None if there is none.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), _RETRY_AFTER_MAX_S)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        return min(max(0.0, (when - now).total_seconds()), _RETRY_AFTER_MAX_S)
    except OverflowError:  # a time zone beyond the calendar
        return None


def _is_acknowledgement(body: bytes) -> bool:
    result = (_object(body) or {}).get("result")
    return result == "true" or result is True


def words_of(body: bytes, secret: str) -> str:
    """Return the proxy's own message, or the beginning of whatever else came; nothing that gives `secret` away."""
    document = _object(body)
    message = document.get("message") if document is not None else body[:_LOOK_AT].decode(errors="replace")
    return _one_line(message, secret) if isinstance(message, str) else ""


def _one_line(text: str, secret: str) -> str:
    """Return the beginning of `text` in printable characters; nothing if eight characters of `secret` are in it."""
    text = text[:_LOOK_AT]
    squeezed, hidden = "".join(text.split()).casefold(), secret.casefold()
    length = min(len(hidden), _SECRET_PART)
    if length >= _SECRET_LEAST and any(hidden[i : i + length] in squeezed for i in range(len(hidden) - length + 1)):
        return "(its words are not shown, since they repeat the access token)"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_REASON_MAX]


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
