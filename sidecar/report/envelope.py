"""Opens a report: the bytes of a body become its `data_id`, its token and the untouched bytes of its `data`.

It decides what is JSON and what can be made JSON; what stands inside the items is for `check.py`.
"""

from typing import Any

import msgspec

from sidecar.errors import Refused
from sidecar.model import MAX_TOKEN_CHARACTERS
from sidecar.report.repair import valid_utf8, without_halves
from sidecar.report.words import describe, describe_json

_BOM = b"\xef\xbb\xbf"
_MAX_DATA_ID = 2**63 - 1  # int64 in bk-collector


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An opened report. `data` is a JSON array in valid UTF-8; `repaired` tells that characters had to be replaced.

    `token` is empty and `stream` None where the report does not name them.
    """

    data_id: int | None
    token: str
    stream: str | None
    data: bytes
    repaired: bool


class _Body(msgspec.Struct):
    data_id: Any = None
    access_token: Any = ""
    stream: Any = None
    data: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Body).decode


def open_envelope(body: bytes) -> Envelope:
    """Raises Refused (400) unless `body` is a JSON object with a `data_id` or a `stream`, and an array `data`.

    Characters that are no characters (invalid UTF-8, half a surrogate pair) become U+FFFD, as Go's decoder in the
    proxy makes them: a mangled character must not cost an event. A byte order mark is ignored (RFC 8259, 8.1).
    """
    if not body:
        raise Refused(400, "body: empty, expected a report such as {"
                           '"data_id": 1500006, "access_token": "...", "data": [...]}')  # fmt: skip
    clean, repaired = valid_utf8(body.removeprefix(_BOM))
    try:
        document = _decode(clean)
    except msgspec.ValidationError as error:
        raise Refused(400, f"body: {foreign(error)}") from None
    except msgspec.DecodeError as error:
        mended = without_halves(clean)
        if mended == clean:
            raise Refused(400, f"body: {foreign(error)}") from None
        return msgspec.structs.replace(open_envelope(mended), repaired=True)
    except RecursionError:
        raise Refused(400, "body: nested too deep") from None
    return _checked(document, repaired)


def _checked(document: _Body, repaired: bool) -> Envelope:
    data_id, token, stream = document.data_id, document.access_token, document.stream
    if stream is not None and type(stream) is not str:
        raise Refused(400, f"stream: expected a string, got {describe(stream)}")
    if data_id is None:
        if stream is None:
            raise Refused(400, "data_id: missing, expected a positive integer (or `stream` with a configured name)")
    elif type(data_id) is not int or not 0 < data_id <= _MAX_DATA_ID:
        raise Refused(400, f"data_id: expected a positive integer, got {describe(data_id)}")
    if token is None:
        token = ""
    if type(token) is not str:
        raise Refused(400, f"access_token: expected a string, got {describe(token)}")
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise Refused(400, f"access_token: {len(token)} characters, expected at most {MAX_TOKEN_CHARACTERS}")
    data = bytes(document.data)
    if not data:
        raise Refused(400, "data: missing, expected an array of items")
    if data[:1] != b"[":
        raise Refused(400, f"data: expected an array, got {describe_json(data)}")
    return Envelope(data_id, token, stream, data, repaired)


def foreign(error: Exception) -> str:
    """What msgspec has against a text, in our words."""
    text = str(error)
    if text.startswith("Expected `object`"):
        return text.replace("Expected `object`, got", "expected a JSON object, got").split(" - at")[0]
    return "not valid JSON: " + text.removeprefix("JSON is malformed: ")
