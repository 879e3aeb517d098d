"""Does what `bkmonitorbeat -report` does: reads its options, and makes its message of them. Pure.

Source: bkmonitor-datalink, `pkg/bkmonitorbeat/report`: `report.go` for the options and what overrides what,
`message/schema.go` for what a message must have; Go's package `flag` for how options are written. Like there, only the
first event is looked at here; the sidecar looks at all of them.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from sidecar.cli.send.event import Item
from sidecar.cli.send.outbox import Pipe, Report
from sidecar.core.model import Kind
from sidecar.report import describe

_NAMES = (
    "report.type", "report.http.server", "report.http.token", "report.agent.address", "report.bk_data_id",
    "report.message.kind", "report.message.body", "report.event.name", "report.event.content", "report.event.target",
    "report.event.timestamp",
)  # fmt: skip
_IGNORED = ("c",)
"""Its configuration file: scripts give it, and nothing here needs it."""
_NUMBERS = ("report.bk_data_id", "report.event.timestamp")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
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


class Beat(msgspec.Struct, frozen=True):
    """The options that were given, by their names without dashes."""

    options: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.options.get(name, "")

    @property
    def over_http(self) -> bool:
        """Return whether the original would have posted to a proxy, and shown its answer."""
        return self["report.type"] == "http"

    def number(self, name: str) -> int:
        """0 where it is not given, as in the original."""
        return _whole(name, self[name]) if self[name] else 0


def split_arguments(arguments: Sequence[str], with_value: Collection[str]) -> tuple[Beat | None, list[str]]:
    """Return the beat's options, with one or two dashes as Go takes them, and all other arguments.

    `with_value` names the other options that take the next argument for their value, whatever it looks like. The first
    is None where no option of the beat is given. Raises ValueError that says what would be right.
    """
    options: dict[str, str] = {}
    others: list[str] = []
    left = list(arguments)
    is_beat = any(_name_of(argument) == "report" for argument in arguments)
    while left:
        argument = left.pop(0)
        name = _name_of(argument)
        if argument == "--":
            others += [argument, *left]
            break
        if name == "report" or (name in _IGNORED and is_beat and not argument.startswith("--")) or name in _NAMES:
            options[name] = _value(argument, name, left)
        elif name.startswith("report."):
            raise ValueError(f"{argument.partition('=')[0]}: no such option; there are {', '.join(_NAMES)}")
        else:
            others.append(argument)
            if argument in with_value and left:
                others.append(left.pop(0))
    return (Beat(options) if options else None), others


def _name_of(argument: str) -> str:
    """Return the name of an option as Go reads it, else nothing."""
    name = argument[2:] if argument.startswith("--") else argument[1:] if argument.startswith("-") else ""
    return name.partition("=")[0]


def _value(argument: str, name: str, left: list[str]) -> str:
    _, equals, value = argument.partition("=")
    if name == "report":
        if equals and value not in _TRUE + _FALSE:
            raise ValueError(f"-report: expected true or false, got {value}")
        if value in _FALSE:
            raise ValueError("-report=false: there is nothing else to do here than to report")
        return "true"
    if not equals:
        if not left:
            raise ValueError(f"{argument}: its value is missing")
        value = left.pop(0)
    if name in _NUMBERS:
        _whole(name, value)
    return value


def _whole(name: str, text: str) -> int:
    try:
        if len(text) > 20:
            raise ValueError
        return int(text)
    except ValueError:
        raise ValueError(f"-{name}: expected a whole number, got {text[:40]}") from None


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
