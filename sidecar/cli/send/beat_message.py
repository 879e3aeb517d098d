"""The message that `bkmonitorbeat -report` makes of its options, checked as it checks it. Pure.

Source: bkmonitor-datalink, `pkg/bkmonitorbeat/report`: `report.go` for what overrides what, `message/schema.go` for
what a message must have. Like there, only the first event is looked at here; the sidecar looks at all of them.
"""

from typing import Any

import msgspec

from sidecar.cli.send.beat import Beat
from sidecar.cli.send.event import Item
from sidecar.cli.send.report import Pipe, Report
from sidecar.core.model import Kind
from sidecar.report import describe

_SKELETON = '{"access_token":"","data":[{"event_name":"","event":{"content":""},"target":"","dimension":{}}]}'
_OVERRIDES = (
    ("report.event.name", ("event_name",)),
    ("report.event.target", ("target",)),
    ("report.event.content", ("event", "content")),
)

_EVENT = ("event_name", "event.content", "target", "dimension", "timestamp")
_SERIES = ("metrics", "target", "dimension", "timestamp")
_WORDS = {"event_name", "event.content", "target"}
_OBJECTS = {"metrics", "dimension"}


def make_message(beat: Beat, now_ms: int) -> dict[str, Any]:
    """Return the message, checked as the original does. Raises ValueError with the reason."""
    kind = beat["report.message.kind"]
    if kind not in ("event", "timeseries"):
        raise ValueError(f"unexpected message kind: {kind}".rstrip(": "))
    message = _body(beat["report.message.body"] or (_SKELETON if kind == "event" else ""))
    if kind == "event":
        _override_event(message, beat, now_ms)
    elif beat["report.http.token"] and not message.get("access_token"):
        message["access_token"] = beat["report.http.token"]
    if data_id := beat.number("report.bk_data_id"):
        message["data_id"] = data_id
    problems = [*_problems(message, _EVENT if kind == "event" else _SERIES)]
    if problems:
        raise ValueError("; ".join(problems))
    if beat["report.type"] not in ("agent", "http"):
        raise ValueError(f"report.type: expected agent or http, got {beat['report.type'] or 'nothing'}")
    return message


def make_report(message: dict[str, Any], kind: str) -> Report:
    """Return the message as a report, which is taken whole or refused whole."""
    item_kind: Kind = "event" if kind == "event" else "time_series"
    items = [Item(msgspec.json.encode(event), item_kind, has_target=True) for event in message["data"]]
    pipe = Pipe(int(message["data_id"]), message["access_token"], None)
    return Report(pipe, tuple(items), divisible=False)


def _body(text: str) -> dict[str, Any]:
    try:
        message = msgspec.json.decode(text.encode(errors="replace"))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"report.message.body: not JSON: {error}") from None
    if type(message) is not dict:
        raise ValueError(f"report.message.body: expected an object, got {describe(message)}")
    return message


def _override_event(message: dict[str, Any], beat: Beat, now_ms: int) -> None:
    if beat["report.http.token"]:
        message["access_token"] = beat["report.http.token"]
    data = message.setdefault("data", [{}])
    if type(data) is not list or not data or type(data[0]) is not dict:
        return  # what is wrong there is said later
    event = data[0]
    for option, path in _OVERRIDES:
        if beat[option]:
            _set(event, path, beat[option])
    if stamp := beat.number("report.event.timestamp"):
        event["timestamp"] = stamp
    elif event.get("timestamp") in (None, 0, ""):
        event["timestamp"] = now_ms


def _set(event: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    *above, last = path
    for name in above:
        if type(event.get(name)) is not dict:
            event[name] = {}
        event = event[name]
    event[last] = value


def _problems(message: dict[str, Any], fields: tuple[str, ...]) -> list[str]:
    found = []
    if not _is_whole(message.get("data_id")) or not 1 <= message["data_id"] < 2**63:
        found.append(f"data_id: expected a whole number from 1 on, got {describe(message.get('data_id'))}")
    if type(message.get("access_token")) is not str:
        found.append(f"access_token: expected a string, got {describe(message.get('access_token'))}")
    data = message.get("data")
    if type(data) is not list or not data:
        return [*found, f"data: expected an array of events, got {'an empty one' if data == [] else describe(data)}"]
    if type(data[0]) is not dict:
        return [*found, f"data[0]: expected an object, got {describe(data[0])}"]
    return found + [f"data[0].{name}: {problem}" for name in fields if (problem := _field_problem(data[0], name))]


def _field_problem(event: dict[str, Any], name: str) -> str | None:
    value: Any = event
    for part in name.split("."):
        value = value.get(part) if type(value) is dict else None
    if name in _WORDS:
        expected, good = "a string that is not empty", type(value) is str and value != ""
    elif name in _OBJECTS:
        expected, good = "an object", type(value) is dict
    else:
        expected, good = "a whole number", _is_whole(value)
    if good:
        return None
    return f"expected {expected}, got {'an empty one' if value == '' else describe(value)}"


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())
