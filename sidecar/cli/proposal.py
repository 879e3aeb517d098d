"""Finds out which configuration parses a log file, for `sidecar init tail`.

Each format and preset is tried on the same lines; the first one counts of which enough lines come out with their
fields. What a program wrote in a container is looked at in the same way.
"""

import json
import re
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from sidecar.cli.sample import sample
from sidecar.config import Options, load_config, preset_names
from sidecar.parsing import LineCounts
from sidecar.text.filters import CONTAINER_FIELDS
from sidecar.text.regexes import Pattern

_ENOUGH = 0.8
_NEARLY_ALL = 0.95
"""For formats that fit many a line by chance."""
_SOME = 0.2
"""For presets that know of lines that are no events."""
_SURE, _LOOSE = ("cri", "docker", "zeek", "w3c", "json"), ("logfmt", "csv")
_SHOWN = 3
_DATES = (
    r"^\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d", r"^\[\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d", r"^\d\d:\d\d:\d\d",
    r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d", r"^\d\d?[/.-](?:\d\d?|[A-Z][a-z]{2})[/.-]\d{4}[ :]\d\d:\d\d:\d\d",
)  # fmt: skip
_CONTENT = ("msg", "message", "log", "text", "query")
_DIMENSIONS = ("level", "severity", "lvl", "status", "method", "app", "logger", "stream")
_TIMES = ("time", "timestamp", "@timestamp", "ts", "t", "datetime", "date")
_UNITS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (1e8, "s"))


class Proposal(msgspec.Struct, frozen=True):
    """The keys of a tail, and what they make of the lines: the first events, and the counts.

    `fields` are those that a line can have; None: any.
    """

    settings: dict[str, Any]
    events: list[Any]
    made: int
    counts: LineCounts
    fields: Collection[str] | None

    @property
    def with_fields(self) -> int:
        """Return how many events came out with their fields."""
        return self.made + self.counts.dropped - self.counts.unparsed

    @property
    def parsed(self) -> float:
        """Return which part of the lines, or groups of them, came out with their fields."""
        return self.with_fields / (self.made + self.counts.dropped) if self.made else 0.0


def propose(data: bytes, path: str, name: str) -> Proposal:
    """Return the keys of a tail called `name` for the file at `path` that begins with `data`."""
    base: dict[str, Any] = {}
    if _encoding(data) != "utf-8":
        base["encoding"] = _encoding(data)
    if b"\x1b[" in data or b"\\u001b[" in data:
        base["strip_ansi"] = True
    try_all = partial(_best, data, path, name, base)
    found = try_all(lambda rule: rule, [*_SURE, *preset_names(), *_LOOSE])
    if found is None:
        return _try(data, path, name, base | _groups(data))
    form = found.settings["parse"]
    if form in ("cri", "docker"):
        inner = try_all(lambda rule: {"format": form, "then": rule}, ["json", *preset_names(), "logfmt"])
        found = inner or found
    return _try(data, path, name, found.settings | _events(found, data, path, name))


def _best(
    data: bytes, path: str, name: str, base: Mapping[str, Any], parse: Callable[[str], Any], rules: list[str]
) -> Proposal | None:
    """Return what makes the most events with fields; of several, the first."""
    best: Proposal | None = None
    for rule in rules:
        if rule == "csv" and not path.endswith((".csv", ".csv.gz")):
            continue
        tried = _try(data, path, name, {**base, "parse": parse(rule)})
        enough = _NEARLY_ALL if rule in _LOOSE else _SOME if tried.counts.dropped else _ENOUGH
        if tried.parsed < enough:
            continue
        if rule in _SURE:
            return tried
        if best is None or tried.with_fields > best.with_fields:
            best = tried
    return best


def _try(data: bytes, path: str, name: str, settings: Mapping[str, Any]) -> Proposal:
    document = {
        "proxy": {"urls": ["http://127.0.0.1:1"]},
        "streams": {"s": {"data_id": 1, "access_token": "t"}},
        "tails": {name: {"paths": ["/x"], "stream": "s", **settings}},
    }
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "c.yml"
        file.write_text(json.dumps(document))
        config = load_config(Options(config=file, state=Path(directory)), {"HOST_IP": "127.0.0.1"}).config
    parts = [data, b""]
    events: list[Any] = []
    made, counts = 0, LineCounts()
    for part in sample(config, name, lambda _: parts.pop(0), path, "host", int(time.time() * 1000)):
        made += len(part.events)
        events += part.events[: _SHOWN - len(events)]
        for what, count in msgspec.structs.asdict(part.counts).items():
            if isinstance(count, int):
                setattr(counts, what, getattr(counts, what) + count)
    rule = config.tails[name].parse
    fields: set[str] | None = None
    if isinstance(rule.fields, Pattern):
        fields = set(rule.fields.groups)
    elif rule.fields == "raw" and rule.delimited is None:
        fields = {"message"}
    if fields is not None and rule.container is not None:
        fields.update(CONTAINER_FIELDS)
    return Proposal(dict(settings), events, made, counts, fields)


def _encoding(data: bytes) -> str:
    for encoding in ("utf-8", "gb18030"):
        try:
            data[: data.rfind(b"\n") + 1].decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "utf-8"


def _groups(data: bytes) -> dict[str, Any]:
    """Return the rule for lines that belong together, if some begin with a time and others do not."""
    lines = [line for line in data.decode(errors="replace").split("\n")[:-1] if line]
    for date in _DATES:
        begin = sum(bool(re.match(date, line)) for line in lines)
        if begin > 1 and begin >= len(lines) * 0.02 and re.match(date, lines[0]):
            return {} if begin == len(lines) else {"multiline": {"start": date}}
    return {}


def _events(found: Proposal, data: bytes, path: str, name: str) -> dict[str, Any]:
    """Return templates for what the lines hold, as a first look at the fields of one shows."""
    wanted = dict.fromkeys((*_CONTENT, *_DIMENSIONS, *_TIMES))
    names = [field for field in wanted if found.fields is None or field in found.fields]
    event: dict[str, Any] = {"dimension": {field: f"{{{field}}}" for field in names}}
    shown = _try(data, path, name, {**found.settings, "event": event})
    fields = [event["dimension"] for event in shown.events]
    held = {field for field in names if any(each.get(field) for each in fields)}
    event = {}
    content = next((field for field in _CONTENT if field in held), None)
    if content is not None and found.settings["parse"] not in ("csv", "w3c", "zeek"):
        event["content"] = f"{{{content}}}"
    if dimension := {field: f"{{{field}}}" for field in _DIMENSIONS if field in held}:
        event["dimension"] = dimension | {"file": "{path}"}
    if found.settings["parse"] in ("json", "logfmt") and (stamp := _stamp(fields)):
        event["timestamp"] = stamp
    return {"event": event} if event else {}


def _stamp(fields: list[Mapping[str, str]]) -> dict[str, Any] | None:
    for name in _TIMES:
        text = next((each[name] for each in fields if each.get(name)), "")
        if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", text):
            return {"field": name, "format": "iso8601"}
        if re.fullmatch(r"\d{9,19}(\.\d+)?", text):
            unit = next(unit for least, unit in _UNITS if float(text) >= least)
            return {"field": name, "unit": unit}
    return None
