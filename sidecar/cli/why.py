"""`sidecar why`: why a stream, or a single event, has not been delivered."""

import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import msgspec

from sidecar.cli.control import NotRunningError, ask
from sidecar.cli.options import asking
from sidecar.cli.output import counted, print_json, printable
from sidecar.cli.streams import names_of, open_lookup
from sidecar.config import Loaded
from sidecar.core.units import format_moment
from sidecar.status.document import Status, decode
from sidecar.status.explain import explain

if TYPE_CHECKING:
    from sidecar.queue import FoundEvent, Lookup

_PLAIN = re.compile(r"[A-Za-z0-9 _.:@+-]*", re.ASCII)
_FIELDS = ("event_name", "target", "timestamp")


@click.command()
@asking
@click.argument("what", metavar="STREAM|ID|DIMENSION=VALUE", required=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(loaded: Loaded, what: str, *, as_json: bool) -> None:
    """Say why the oldest event of STREAM has not been delivered, and when it is tried next.

    Or find an event in the queue, among dead letters and kept deliveries: by DIMENSION=VALUE, by event_name=, target=
    or timestamp=, or by an ID that any of its dimensions holds. Exits 1 if there is no such thing.
    """
    try:
        status = decode(ask(loaded.config.state, "/status"))
    except NotRunningError:
        status = None
    answer = (_of_stream(status, what) if status else _of_stopped(loaded, what)) or _of_configured(loaded, what)
    if answer is None:
        answer = _of_event(loaded, status, what)
    if as_json:
        print_json(answer)
    else:
        for line in answer["lines"]:
            click.echo(printable(line))
    sys.exit(0 if answer["found"] else 1)


def _of_stream(status: Status, name: str) -> dict[str, Any] | None:
    streams = [stream for stream in status.streams if name in (stream.name, str(stream.data_id))]
    if not streams:
        return None
    lines = [line for stream in streams for line in explain(status, stream, int(time.time() * 1000))]
    return {"found": True, "streams": streams, "lines": lines}


def _of_stopped(loaded: Loaded, name: str) -> dict[str, Any] | None:
    with open_lookup(loaded) as lookup:
        names = names_of(loaded, lookup.streams)
        found = [s for s in lookup.streams.values() if name in (names[s.id], str(s.key.data_id))]
    lines = [f"{names[s.id]}: {counted(s.books.queued, 'event')} waiting, and no sidecar runs" for s in found]
    return {"found": True, "lines": lines} if found else None


def _of_configured(loaded: Loaded, name: str) -> dict[str, Any] | None:
    """Answer for a stream of the configuration that no event ever came for."""
    streams = loaded.config.streams
    found = [known for known, stream in streams.items() if name in (known, str(stream.data_id))]
    lines = [
        f"{each}: configured (data_id {streams[each].data_id}), and no event has come for it yet" for each in found
    ]
    return {"found": True, "lines": lines} if found else None


def _of_event(loaded: Loaded, status: Status | None, what: str) -> dict[str, Any]:
    """Return where the event is; in the queue with why it still is there."""
    matches, needle = matcher(what)
    with open_lookup(loaded) as lookup:
        names = names_of(loaded, lookup.streams)
        found = list(lookup.find(matches, needle))
        lines = [line for each in found for line in describe(lookup, names, each)]
    waiting = {names[each.stream] for each in found if each.place in ("queue", "scheduled")}
    for name in sorted(waiting):
        lines += (
            (_of_stream(status, name) or {"lines": []})["lines"] if status else ["no sidecar runs, so nothing is sent"]
        )
    if not found:
        lines = [f"nothing is known of {what}: no stream is called so, and no event waits, is dead or is kept with it"]
        if not loaded.config.queue.keep_delivered:
            lines.append("delivered events are not kept; queue.keep_delivered: 7d would (see `sidecar replay`)")
    events = [{"stream": names[each.stream], "place": each.place, "lane": each.lane, "at_ms": each.at_ms,
               "due_ms": each.due_ms, "event": each.event} for each in found]  # fmt: skip
    return {"found": bool(found), "events": events, "lines": lines}


def matcher(what: str) -> tuple[Callable[[dict[str, Any]], bool], bytes]:
    """Return whether an event is meant, and bytes that any such event holds."""
    name, equals, value = what.partition("=")
    if not equals:
        name, value = "", what

    def matches(event: dict[str, Any]) -> bool:
        if name in _FIELDS:
            return str(event.get(name)) == value
        dimension = event.get("dimension") or {}
        return str(dimension.get(name)) == value if name else value in map(str, dimension.values())

    # Other characters may be spelled in several ways in JSON.
    return matches, value.encode() if _PLAIN.fullmatch(value) else b""


def describe(lookup: "Lookup", names: dict[int, str], found: "FoundEvent") -> list[str]:
    """Say in lines where an event was found; the queue may have moved it on since."""
    event, at = _excerpt(found.event), _time(found.at_ms)
    name = names[found.stream]
    match found.place:
        case "queue":
            return [f"waits in the queue of {name} (lane {found.lane}), accepted at {at}: {event}"]
        case "scheduled":
            return [
                f"waits in the queue of {name} for its time, {_time(found.due_ms or 0)} by the proxy's clock: {event}"
            ]
        case "kept":
            return [f"was delivered to the proxy from {name} at {at}: {event}"]
    letter = lookup.letter(found.row)
    if letter is None:
        return [f"was a dead letter of {name} a moment ago, and is being sent again or was dropped: {event}"]
    tried = counted(letter.attempts, "attempt")
    return [
        f"was refused by the proxy for good ({name}), at {at} after {tried}: {event}",
        f"  {letter.reason}",
        f"  `sidecar dead retry {letter.id}` sends it again",
    ]


def _excerpt(event: msgspec.Raw) -> str:
    text = bytes(event).decode(errors="replace")
    return text if len(text) <= 160 else f"{text[:160]}..."


def _time(at_ms: int) -> str:
    return format_moment(at_ms)
