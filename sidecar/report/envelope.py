"""Opens a report: the bytes of a body become its `data_id`, its token and the untouched bytes of its `data`.

It decides what is JSON and what can be made JSON; what stands inside the items is for `check.py`.

    good JSON, only the known fields, none of them null    decoded at once
    other fields too                                        decoded by name: `DATA_ID` is meant as well
    a known field twice, or null; escapes or depth that     scanned: of a repeated field the last counts that is not
    only a field may have that nobody looks at              null (sonic, which decodes in the proxy)
"""

from typing import Any

import msgspec

from sidecar.core.errors import Rejected
from sidecar.core.model import MAX_DATA_ID, MAX_TOKEN_CHARACTERS
from sidecar.report.repair import mended, valid_utf8
from sidecar.report.scanner import NotScannable, members
from sidecar.report.words import describe, describe_json, foreign

_BOM = b"\xef\xbb\xbf"
_NULL = b"null"
_FIELDS = ("data_id", "access_token", "data")
"""The fields that the proxy knows, in upper or lower case. `stream` is our own field, in lower case only."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An opened report. `data` is a JSON array in valid UTF-8; `repaired` tells that characters had to be replaced.

    `token` is empty and `stream` None where the report does not name them.
    """

    data_id: int | None
    token: str
    stream: str | None
    data: bytes
    repaired: bool


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """A report as most are. A field that is not there is UNSET, so that null can be told from that."""

    data_id: Any = msgspec.UNSET
    access_token: Any = msgspec.UNSET
    stream: Any = msgspec.UNSET
    data: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Body).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def open_envelope(body: bytes) -> Envelope:
    """Return what stands in `body`.

    Raises Rejected (400) unless that is an object with a `data_id` or a `stream`, and an array `data`.

    Characters that are no characters (invalid UTF-8, half a surrogate pair) become U+FFFD: a mangled character must not
    cost an event. Raw control characters are escaped. A byte order mark is ignored (RFC 8259, 8.1).
    """
    if not body:
        raise Rejected(
            400,
            'empty, expected a report such as {"data_id": 1500006, "access_token": "...", "data": [...]}',
            ("body",),
        )
    clean, repaired = valid_utf8(body.removeprefix(_BOM))
    try:
        document = _decode(clean)
    except msgspec.ValidationError:
        return _by_name(clean, repaired)
    except (msgspec.DecodeError, RecursionError):
        return _refused_by_decoder(clean, repaired)
    # Of a repeated field the proxy takes the last that is not null, the decoder takes the last.
    has_null = document.data_id is None or document.access_token is None or bytes(document.data) == _NULL
    if has_null and _may_repeat(clean):
        return _scanned(clean, repaired)
    return _checked(document, repaired)


def _may_repeat(clean: bytes) -> bool:
    # With an escape a name may be written in another way, and then counting does not find it.
    return b"\\u" in clean or any(clean.count(b'"%b"' % name.encode()) > 1 for name in _FIELDS)


def _refused_by_decoder(clean: bytes, repaired: bool) -> Envelope:
    better = mended(clean)
    if better != clean:
        clean, repaired = better, True
    return _by_name(clean, repaired)


def _by_name(clean: bytes, repaired: bool) -> Envelope:
    """Open a report that has unknown fields, or known ones with other letters."""
    try:
        fields = _decode_members(clean)
    except msgspec.ValidationError as error:
        raise Rejected(400, foreign(error), ("body",)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        return _scanned(clean, repaired, error)
    known = [(field, bytes(value)) for name, value in fields.items() if (field := _field(name))]
    if len(dict(known)) < len(known) or any(value == _NULL for _, value in known):
        return _scanned(clean, repaired)
    return _named(dict(known), repaired)


def _field(name: str) -> str | None:
    lower = name.lower()
    return lower if lower in _FIELDS else name if name == "stream" else None


def _scanned(clean: bytes, repaired: bool, error: Exception | None = None) -> Envelope:
    """Open a report by looking at one field after the other. `error`: what the decoder had against it."""
    try:
        found = [(field, value) for name, value in members(clean) if (field := _field(name))]
    except NotScannable as unreadable:
        if isinstance(error, RecursionError):
            raise Rejected(400, f"nested too deep, and {unreadable}", ("body",)) from None
        problem = foreign(error) if error else f"a field is repeated or null, and {unreadable}"
        raise Rejected(400, problem, ("body",)) from None
    known: dict[str, bytes] = {}
    for name, value in found:
        if value != _NULL or name not in known:
            known[name] = value
    return _named(known, repaired)


def _named(known: dict[str, bytes], repaired: bool) -> Envelope:
    values: dict[str, Any] = {name: _value(name, text) for name, text in known.items() if name != "data"}
    return _checked(_Body(**values, data=msgspec.Raw(known.get("data", b""))), repaired)


def _value(name: str, text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Rejected(400, foreign(error), (name,)) from None
    except RecursionError:
        raise Rejected(400, "nested too deep", (name,)) from None


def _checked(document: _Body, repaired: bool) -> Envelope:
    named = (document.data_id, document.access_token, document.stream)
    data_id, token, stream = (None if value is msgspec.UNSET else value for value in named)
    if data_id is not None and type(stream) is not str:
        stream = None  # to the proxy it is a field like any other
    if stream is not None and type(stream) is not str:
        raise Rejected.for_stream(400, "stream", f"expected a string, got {describe(stream)}")
    if data_id is None:
        if stream is None:
            raise Rejected.for_stream(
                400, "data_id", "missing, expected a positive integer (or `stream` with a configured name)"
            )
    elif type(data_id) is not int or data_id <= 0:
        raise Rejected.for_stream(400, "data_id", f"expected a positive integer, got {describe(data_id)}")
    # The proxy would answer 401 to it for ever.
    elif data_id > MAX_DATA_ID:
        raise Rejected.for_stream(
            400, "data_id", f"{describe(data_id)} is no pipe of any proxy; expected at most {MAX_DATA_ID}"
        )
    if token is None:
        token = ""
    if type(token) is not str:
        raise Rejected.for_stream(400, "access_token", f"expected a string, got {describe(token)}")
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise Rejected.for_stream(
            400, "access_token", f"{len(token)} characters, expected at most {MAX_TOKEN_CHARACTERS}"
        )
    data = bytes(document.data)
    if not data:
        raise Rejected(400, "missing, expected an array of items", ("data",))
    if data[:1] != b"[":
        raise Rejected(400, f"expected an array, got {describe_json(data)}", ("data",))
    return Envelope(data_id, token, stream, data, repaired)
