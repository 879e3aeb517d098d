"""Judges a document as the cloud-area proxy does: JSON, then token (401), then rate (429), then the items (400).

Pure. Sources: the proxy's documentation; bk-collector's `proxy/http.go` and `processor/proxyvalidator/validator.go`.
It reads plain dicts with the standard library, one rule after the other, as the original does.
"""

import json
import re
from typing import Any

import msgspec

from sidecar.core.units import Rate
from sidecar.standin.rates import SlidingWindows

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_FUTURE_S = 3600


class PipeRules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of the stand-in proxy. `tokens` maps a data_id to its token; empty: any non-empty token is valid.

    `burst`: the rate is a bucket of so many requests, refilled at `rate`. None: at most `rate` in any window.
    """

    tokens: dict[int, str] = {}
    rate: Rate | None = Rate(1000, 60.0)
    burst: int | None = None
    max_body_bytes: int = 500_000


class Judgement(msgspec.Struct, frozen=True):
    """The status, the proxy's words, and what was understood of the document."""

    status: int
    message: str
    data_id: int = 0
    token: str = ""
    items: list[dict[str, Any]] = []


class _DataId(msgspec.Struct):
    data_id: Any = None


def data_id_of(body: bytes) -> int | None:
    """Whose request `body` is, before it is judged. None: of nobody, a probe; 0: nobody can tell."""
    try:
        data_id = msgspec.json.decode(body, type=_DataId).data_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    return data_id if data_id is None or type(data_id) is int else 0


def judge(body: bytes, rules: PipeRules, windows: SlidingWindows, now_s: float, *, skew_s: float = 0.0) -> Judgement:
    """Return what the proxy would answer to `body` at `now_s`, seconds since 1970, with a clock ahead by `skew_s`."""
    if len(body) > rules.max_body_bytes:
        return Judgement(413, f"request body larger than {rules.max_body_bytes} bytes")
    if not body:
        return Judgement(400, "empty request body not allowed")
    try:
        document = _document(body)
    except (ValueError, RecursionError) as error:
        return Judgement(400, f"failed to parse: {error}")
    if document is None:
        return Judgement(400, "document expected an object")
    data_id, token = document.get("data_id", 0), document.get("access_token", "")
    if not isinstance(data_id, int) or isinstance(data_id, bool) or not isinstance(token, str):
        return Judgement(400, "data_id expected an integer and access_token a string")
    if not 0 < data_id < 2**31 or not token or rules.tokens.get(data_id, token) != token:
        return Judgement(401, f"invalid token for data_id {data_id}", data_id, token)
    if not windows.allow(token, now_s):
        return Judgement(429, "rate limit exceeded", data_id, token)
    wrong = judge_data(document.get("data"), now_s + skew_s)
    if wrong:
        return Judgement(400, wrong, data_id, token)
    return Judgement(200, "success", data_id, token, document["data"])


def _document(body: bytes) -> dict[str, Any] | None:
    """Decode as sonic does: raw control characters and invalid UTF-8 pass, names of the top level in any case count,
    and of a repeated one the last that is not null. None: it is no object. Raises ValueError or RecursionError.
    """
    pairs: list[list[tuple[str, Any]]] = [[]]

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[0] = found
        return dict(found)

    decoder = json.JSONDecoder(strict=False, parse_constant=_no_constant, object_pairs_hook=keep)
    if not isinstance(decoder.decode(body.decode(errors="surrogateescape")), dict):
        return None
    document: dict[str, Any] = {}
    for name, value in pairs[0]:  # those of the outermost object, which is closed last
        if value is not None or name.lower() not in document:
            document[name.lower()] = value
    return {name: value for name, value in document.items() if value is not None or name == "data"}


def _no_constant(name: str) -> Any:
    raise ValueError(f"invalid value {name}")


def judge_data(data: Any, now_s: float) -> str | None:
    """Return why the items are refused, in the proxy's manner: the rule, not the index. None: they are good.

    The pipe's kind is taken from its first item, since the stand-in has no register of pipes. What has both an event
    and metrics is an event: `bkmonitorbeat -report` puts empty metrics into each.
    """
    if not isinstance(data, list):
        return "data expected an array"
    if not data:
        return "data cannot be empty"
    first = data[0] if isinstance(data[0], dict) else {}
    is_event = isinstance(first.get("event"), dict) and "event_name" in first
    judge_item = _time_series if "metrics" in first and not is_event and first["metrics"] else _event
    for item in data:
        if not isinstance(item, dict):
            return "each item expected an object"
        wrong = judge_item(item) or _dimension(item, named=judge_item is _time_series) or _timestamp(item, now_s)
        if wrong:
            return wrong
    return None


def _event(item: dict[str, Any]) -> str | None:
    target = item.get("target")
    if not isinstance(target, str) or not target:
        return "target expected a string that is not empty"
    if not isinstance(item.get("event_name"), str):
        return "event_name expected a string"
    event = item.get("event")
    if not isinstance(event, dict) or "content" not in event:
        return "event expected an object with content"
    return None


def _time_series(item: dict[str, Any]) -> str | None:
    metrics = item.get("metrics")
    if not isinstance(metrics, dict) or not metrics:
        return "metrics expected an object that is not empty"
    for name, value in metrics.items():
        if not _NAME.fullmatch(name):
            return f"name '{name}' required match regex"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "value expected a number"
    return None


def _dimension(item: dict[str, Any], *, named: bool) -> str | None:
    if "dimension" not in item:
        return None
    dimension = item["dimension"]
    if not isinstance(dimension, dict):
        return "dimension expected an object"
    for name, value in dimension.items():
        if named and not _NAME.fullmatch(name):
            return f"name '{name}' required match regex"
        if isinstance(value, dict | list):
            return f"dimension '{name}' value expected string type"
    return None


def _timestamp(item: dict[str, Any], now_s: float) -> str | None:
    stamp = item.get("timestamp", 0)
    if isinstance(stamp, bool) or not isinstance(stamp, int | float):
        return "timestamp expected a number"
    if int(stamp / 1000) - int(now_s) > _FUTURE_S:
        return "reject future timestamp"
    return None
