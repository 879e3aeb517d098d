"""The status document: what `GET /status` and `sidecar status --json` answer. Its names are promises.

Pure: `app.py` gathers the facts, this module gives them their shape and decides whether the sidecar is well.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from sidecar.core.model import Books, Kind, LaneName

_NEARLY_FULL = 0.8
_FAR_AHEAD_MS = 600_000
_FULL_SOON_S = 3600.0
_CLOCK_OFF_S = 60.0
_NAMES_SHOWN = 5
_CURES = {
    "unauthorized": "configure the data_id with the right token, then `sidecar reload`; nothing is lost meanwhile",
    "rate_limited": "other hosts use the same token; this one takes its part",
}
"""What to do about streams in such a state."""
_WAL_GROWN_BYTES = 64_000_000
_AMISS = {
    "late": "its pattern took too long for {n} lines, which count as not parsed; simplify it (see `sidecar try`)",
    "not_numbers": "{n} metrics are no numbers, and were left out; see event.metrics, and event.units for 3ms or 1,234"
    " (`sidecar try` counts them)",
    "untimed": "no time could be read from {n} lines, which have that of reading; see its event.timestamp"
    " (`sidecar try` shows them)",
}

_TO_NOWHERE_LINES = 100
"""If so many lines of a tail did not parse, and none did, that is hardly meant."""


class BooksStatus(msgspec.Struct, frozen=True):
    """Promise 4 in numbers."""

    accepted: int
    queued: int
    delivered: int
    dead: int
    dropped: int
    balanced: bool


class QueueStatus(msgspec.Struct, frozen=True):
    """Room and age. `full_in_s` is None while the queue does not grow, `through_in_s` while it does not get shorter.

    `limit` says what `max_bytes` comes from: `queue.max_size`, or the disk that should keep `queue.min_free`.
    `wal_bytes` are those of the write-ahead log; what it has grown beyond the usual is part of `bytes`. `went_back`: so
    many events more had been accepted, or delivered, when the sidecar last ran than the file said at this start.
    `last_dead` is the number of the newest dead letter, to be acknowledged. `refused_by` counts reports that were not
    taken, by reason, since the start.
    """

    bytes: int
    max_bytes: int
    limit: Literal["max_size", "min_free"]
    oldest_age_s: float
    fill_per_s: float
    full_in_s: float | None
    refused_by: dict[str, int]
    wal_bytes: int = 0
    went_back: int = 0
    last_dead: int = 0
    through_in_s: float | None = None


StreamState = Literal["idle", "sending", "held", "unauthorized", "rate_limited"]


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What waits of one stream in one order. `searching`: after how many refused requests a bad event is looked for.

    `token`: the number of its token, as `StreamStatus.tokens` has it. `waits_for`: which limit of bytes it waits for.
    `due_at` is when the next event of lane `scheduled` becomes fresh; `target` is where a replay goes, if not as usual.
    """

    name: LaneName
    queued: int
    queued_bytes: int
    oldest_age_s: float
    state: StreamState
    searching: int
    failures: int
    failing_since: int | None
    next_attempt_at: int | None
    last_error: str | None
    due_at: int | None
    target: str | None
    token: int = 1
    waits_for: str | None = None


class TokenStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a stream that came with one access token, of one kind. `configured`: its token is in conf.d."""

    token: int
    kind: Kind
    configured: bool
    accepted: int
    queued: int
    delivered: int
    dead: int
    dropped: int
    last_delivered_at: int | None


class StreamStatus(msgspec.Struct, frozen=True):
    """One pipe, with all its tokens. `rate_per_min` counts the requests of the last minute; `lanes` are those in which
    something waits. `waits_for`: which limit of bytes it waits for.

    `dead_unseen` are those that nobody has looked at yet.
    `damaged` is the part of `dead` that could not be read from the disk any more.
    `replayed` is the part of `accepted` that was put in again by `sidecar replay`.
    """

    name: str
    data_id: int
    state: StreamState
    accepted: int
    queued: int
    delivered: int
    dead: int
    dropped: int
    queued_bytes: int
    oldest_age_s: float
    rate_per_min: float
    next_attempt_at: int | None
    last_error: str | None
    last_delivered_at: int | None
    dropped_by: dict[str, int]
    dead_bytes: int
    replayed: int
    lanes: list[LaneStatus]
    tokens: list[TokenStatus] = []
    waits_for: str | None = None
    damaged: int = 0
    dead_unseen: int = 0


class ProxyStatus(msgspec.Struct, frozen=True):
    """One proxy. `clock_ahead_s`: of ours; None: not known. `max_body` is what it seems to take."""

    url: str
    state: Literal["up", "down", "unknown"]
    last_error: str | None
    retry_at: int | None
    down_since: int | None
    clock_ahead_s: float | None
    max_body: int


class InputStatus(msgspec.Struct, frozen=True):
    """One input, since the start. `dropped_by` counts what came in datagrams, by reason; `hops_ignored` headers that
    name the sidecars on the way, but were not written by one.

    `connections` are those of now; None where there are none to count. Of a tail: its `stream`, the `files` it follows
    with `lag_bytes` that are not on disk; `lines` by what became of them, beside events, and `recent` those of the last
    ten minutes that say that something is to be mended; `losses`, receipts for bytes that may be lost; `polling`, why
    changes of files are not heard of, though they should be; `waiting`, why nothing is read;
    `unreadable`, how many files or directories cannot be read, and the first of them.
    """

    name: str
    kind: str
    events: int
    rejected: int
    repaired: int
    bytes: int
    connections: int | None
    connections_refused: int
    dropped_by: dict[str, int]
    hops_ignored: int = 0
    stream: str | None = None
    files: int | None = None
    lag_bytes: int | None = None
    lines: dict[str, int] | None = None
    recent: dict[str, int] = {}
    losses: int | None = None
    polling: str | None = None
    waiting: str | None = None
    unreadable: int | None = None
    unreadable_first: str | None = None


class ConfigStatus(msgspec.Struct, frozen=True):
    """The configuration in force."""

    generation: int
    loaded_at: int
    error: str | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. Times are in milliseconds since 1970. `sockets_lost`: those nobody can connect to, and why."""

    version: str
    pid: int
    started_at: int
    state: Literal["ok", "degraded", "failing"]
    reasons: list[str]
    books: BooksStatus
    queue: QueueStatus
    streams: list[StreamStatus]
    proxies: list[ProxyStatus]
    inputs: list[InputStatus]
    config: ConfigStatus
    sockets_lost: dict[str, str] = {}


class Health(msgspec.Struct, frozen=True):
    """A yes or no with its reasons."""

    good: bool
    reasons: list[str]


def books_status(books: Books, mismatches: Sequence[str]) -> BooksStatus:
    """`mismatches` are what the last audit found between the books and the rows."""
    return BooksStatus(
        accepted=books.accepted,
        queued=books.queued,
        delivered=books.delivered,
        dead=books.dead,
        dropped=books.dropped,
        balanced=books.balanced and not mismatches,
    )


def full_in_s(free_bytes: int, fill_per_s: float) -> float | None:
    """Return when the queue will be full if it goes on like this."""
    return max(0, free_bytes) / fill_per_s if fill_per_s > 0 else None


def failures(*, books: BooksStatus, queue: QueueStatus, broken: str | None, refusing: str | None) -> list[str]:
    """Return why reports are refused, or the books cannot be trusted. `refusing`: why there is no capacity."""
    found = []
    if broken:
        found.append(f"storage: {broken}")
    if not books.balanced:
        found.append("the books do not balance; please report this bug")
    if refusing:
        found.append(f"{refusing} ({queue.bytes} of {queue.max_bytes} bytes)")
    return found


def worries(
    *,
    queue: QueueStatus,
    streams: Sequence[StreamStatus],
    proxies: Sequence[ProxyStatus],
    inputs: Sequence[InputStatus],
    sockets_wait: str | None,
    sockets_lost: Mapping[str, str] = MappingProxyType({}),
    crowded: Sequence[str] = (),
    nameless: str | None = None,
    now_ms: int,
) -> list[str]:
    """Things to look at before they become a failure. `crowded`: peers with as many streams as they may.

    `nameless`: the address that stands for this host's own, which is not known."""
    found = [f"sockets wait, nothing of theirs is lost: {sockets_wait}"] if sockets_wait else []
    found += [
        f"socket {name}: nobody can connect: {why}; it is opened anew as soon as its place is free"
        for name, why in sockets_lost.items()
    ]
    if queue.went_back:
        found.append(
            f"queue.db held less at the start than when it was last in use, by {queue.went_back} events at least: its"
            " write-ahead log (queue.db-wal) was lost or damaged, or an older copy is in its place; what was"
            " acknowledged since may be lost, or sent again"
        )
    if queue.wal_bytes > _WAL_GROWN_BYTES:
        found.append(
            f"the queue's write-ahead log has grown to {queue.wal_bytes} bytes: some program keeps reading queue.db"
            " (`fuser queue.db`); end it"
        )
    if nameless:
        found.append(
            f"this host has no address that others could reach: events of tails name it {nameless};"
            " set defaults.ip, or HOST_IP in the environment"
        )
    found += [
        f"{peer} has as many streams that are not configured as one peer may; new data_ids and tokens of it are refused"
        " with 503: configure its streams, or see why they do not drain"
        for peer in crowded
    ]
    found += [f"tail {tail.name} waits, nothing is lost: {tail.waiting}" for tail in inputs if tail.waiting]
    found += [
        f"tail {tail.name} cannot read {tail.unreadable} of its files or directories, the first is"
        f" {tail.unreadable_first}; let the sidecar's user read it (setfacl -m u:sidecar:rX PATH, also for the"
        " directories on the way)"
        for tail in inputs
        if tail.unreadable
    ]
    found += [f"tail {tail.name} looks at its files every second: {tail.polling}" for tail in inputs if tail.polling]
    found += [
        f"tail {tail.name}: {_AMISS[name].format(n=count)}, in the last 10 to 20 minutes"
        for tail in inputs
        for name, count in tail.recent.items()
    ]
    found += [
        f"tail {tail.name}: no event has come of it since the start, since none of {tail.rejected} lines parsed; mend"
        " its `parse` (`sidecar try` shows why)"
        for tail in inputs
        if tail.kind == "tail" and not tail.events and tail.rejected >= _TO_NOWHERE_LINES
    ]
    down = [proxy for proxy in proxies if proxy.state == "down"]
    failing = [stream for stream in streams if stream.last_error and stream.queued]
    waiting = [each for each in failing if len(down) == len(proxies) and each.state in ("held", "sending", "idle")]
    wait = (
        "; 1 stream waits for it" if len(waiting) == 1 else f"; {len(waiting)} streams wait for it" if waiting else ""
    )
    found += [f"proxy {proxy.url} is down: {proxy.last_error}{wait}" for proxy in down]
    found += [
        f"clocks differ: that of proxy {proxy.url} is {abs(proxy.clock_ahead_s):.0f} s "
        f"{'ahead of' if proxy.clock_ahead_s > 0 else 'behind'} this host's"
        for proxy in proxies
        if proxy.clock_ahead_s is not None and abs(proxy.clock_ahead_s) > _CLOCK_OFF_S
    ]
    later = [(stream, lane.queued, lane.due_at) for stream in streams for lane in stream.lanes if lane.due_at]
    found += [
        f"stream {stream.name}: {events} events are dated in the future, and the first is sent in "
        f"{(due_ms - now_ms) / 60_000:.0f} min; is a clock, or a time zone, wrong?"
        for stream, events, due_ms in later
        if due_ms - now_ms > _FAR_AHEAD_MS
    ]
    found += [
        f"stream {stream.name}: the proxy refused {stream.dead_unseen} more events for good; `sidecar dead list` shows"
        " them, and that ends this reason (as does `sidecar dead ack`)"
        for stream in streams
        if stream.dead_unseen > stream.damaged
    ]
    found += [
        f"stream {stream.name}: {stream.damaged} events could not be read from the disk, and are set aside"
        " (`sidecar dead list --reason damaged`); see whether the disk is good, then purge them"
        for stream in streams
        if stream.damaged
    ]
    found += _failing([stream for stream in failing if stream not in waiting])
    if queue.max_bytes >= queue.bytes > _NEARLY_FULL * queue.max_bytes:
        found.append(f"the queue is {100 * queue.bytes // queue.max_bytes} % full")
    elif queue.full_in_s is not None and queue.full_in_s < _FULL_SOON_S:
        found.append(f"the queue will be full in {queue.full_in_s / 60:.0f} min")
    return found


def _failing(streams: Sequence[StreamStatus]) -> list[str]:
    """Return a reason for each cause: many streams of one cause are one reason."""
    by_cause: dict[tuple[str, str], list[str]] = {}
    for stream in streams:
        by_cause.setdefault((stream.state, stream.last_error or ""), []).append(stream.name)
    found = []
    for (state, error), names in by_cause.items():
        cure = f" ({_CURES[state]})" if state in _CURES else ""
        if len(names) == 1:
            found.append(f"stream {names[0]} is {state}: {error}{cure}")
        else:
            shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
            found.append(f"{len(names)} streams are {state}: {error}{cure}; they are {shown}")
    return found


def encode(document: Any) -> bytes:
    """JSON for people's tools, indented."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2)
