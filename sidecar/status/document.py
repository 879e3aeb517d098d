"""The status document: what `GET /status` and `sidecar status --json` answer. Its names are promises. Pure.

Each part of the sidecar fills in what it knows of itself (`status()`); `service/status_collector.py` puts it together,
`reasons.py` decides whether the sidecar is well. A field that is declared as a figure is a metric too, and is shown.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from sidecar.core.model import Books, Kind, LaneName
from sidecar.status.figures import counter, gauge

_UP = {"ok": 1.0, "degraded": 0.5, "failing": 0.0}


class BooksStatus(msgspec.Struct, frozen=True):
    """The counters of promise 4 (every accepted event is accounted for), and whether they balance."""

    accepted: int
    queued: int
    delivered: int
    dead: int
    dropped: int
    balanced: Annotated[bool, gauge("sidecar_books_balanced", "1 while the books balance.")]


class QueueStatus(msgspec.Struct, frozen=True):
    """Capacity and age. `full_in_s` is None while the queue does not grow, `through_in_s` while it gets no shorter.

    `limit` says what `max_bytes` comes from: `queue.max_size`, or the disk that should keep `queue.min_free`.
    `wal_bytes` are those of the write-ahead log; what it has grown beyond the usual is part of `bytes`. `went_back`: so
    many events more had been accepted, or delivered, when the sidecar last ran than the file said at this start.
    `last_dead` is the number of the newest dead letter, to be acknowledged. `refused_by` counts reports that were not
    taken, by reason, since the start.
    """

    bytes: Annotated[int, gauge("sidecar_queue_bytes", "Bytes in use by the queue.")]
    max_bytes: Annotated[int, gauge("sidecar_queue_max_bytes", "Bytes that the queue may use.")]
    limit: Literal["max_size", "min_free"]
    oldest_age_s: Annotated[
        float, gauge("sidecar_queue_oldest_age_seconds", "Age of the oldest waiting event in seconds.")
    ]
    fill_per_s: float
    full_in_s: float | None
    refused_by: Annotated[
        dict[str, int],
        counter(
            "sidecar_reports_refused",
            "Reports not taken since the start, for want of room.",
            label="reason",
            words="reports not taken since the start",
        ),
    ] = {}
    wal_bytes: Annotated[int, gauge("sidecar_queue_wal_bytes", "Bytes of the queue's write-ahead log.")] = 0
    went_back: Annotated[
        int,
        gauge(
            "sidecar_queue_went_back",
            "Events accepted or delivered when the sidecar last ran, and not in the file at the start.",
        ),
    ] = 0
    last_dead: int = 0
    through_in_s: float | None = None


StreamState = Literal["idle", "sending", "held", "unauthorized", "rate_limited"]
_WORST: tuple[StreamState, ...] = ("unauthorized", "held", "rate_limited", "sending", "idle")


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One lane: the waiting events of one stream that are sent in one order.

    `searching`: how many requests the proxy refused while a bad event is searched for.

    `token`: the number of its token, as `StreamStatus.tokens` has it. `waits_for`: which limit of bytes it waits for.
    `due_at` is when the next event of lane `scheduled` becomes fresh; `target` is where a replay goes, if not as usual.
    """

    name: LaneName
    queued: int
    queued_bytes: int
    oldest_age_s: float
    state: StreamState = "idle"
    searching: int = 0
    failures: int = 0
    failing_since: int | None = None
    next_attempt_at: int | None = None
    last_error: str | None = None
    due_at: int | None = None
    target: str | None = None
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


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One pipe, with all its tokens. `rate_per_min` counts the requests of the last minute; `lanes` are those in which
    something waits. `waits_for`: which limit of bytes it waits for.

    `dead_unseen` are those that nobody has looked at yet.
    `damaged` is the part of `dead` that could not be read from the disk any more.
    `replayed` is the part of `accepted` that was put in again by `sidecar replay`.
    """

    name: str
    data_id: int
    state: StreamState = "idle"
    accepted: Annotated[int, counter("sidecar_events_accepted", "Events taken, with their promise of delivery.")]
    queued: Annotated[int, gauge("sidecar_stream_queued", "Events that wait.")]
    delivered: Annotated[int, counter("sidecar_events_delivered", "Events that the proxy acknowledged.")]
    dead: Annotated[int, gauge("sidecar_stream_dead", "Events that the proxy refused for good, and that are kept.")]
    dropped: Annotated[int, counter("sidecar_events_dropped", "Events dropped under the operator's policy.")]
    queued_bytes: Annotated[
        int, gauge("sidecar_stream_queued_bytes", "Bytes of events that wait, uncompressed.", size=True)
    ]
    oldest_age_s: Annotated[
        float, gauge("sidecar_stream_oldest_age_seconds", "Age of the oldest waiting event in seconds.")
    ]
    rate_per_min: Annotated[float, gauge("sidecar_stream_rate_per_min", "Requests of the last minute.")] = 0.0
    next_attempt_at: int | None = None
    last_error: str | None = None
    last_delivered_at: int | None
    dropped_by: Annotated[
        dict[str, int], counter("sidecar_events_dropped_by_reason", "Dropped events by reason.", label="reason")
    ]
    dead_bytes: int
    replayed: Annotated[
        int, counter("sidecar_events_replayed", "Events that were accepted once more, by `sidecar replay`.")
    ]
    lanes: list[LaneStatus]
    tokens: list[TokenStatus] = []
    waits_for: str | None = None
    damaged: Annotated[
        int,
        gauge(
            "sidecar_stream_damaged",
            "Events that could not be read from the disk, and are set aside; a part of the dead ones.",
        ),
    ] = 0
    dead_unseen: int = 0


class ProxyStatus(msgspec.Struct, frozen=True):
    """One proxy.

    `clock_ahead_s`: seconds by which its clock is ahead of ours; None: not known. `max_body`: the largest body that it
    seems to take, in bytes.
    """

    url: str
    state: Annotated[
        Literal["up", "down", "unknown"],
        gauge("sidecar_proxy_up", "1 if the proxy answers, 0 if it is down.", value=lambda state: state != "down"),
    ]
    last_error: str | None
    retry_at: int | None
    down_since: int | None
    clock_ahead_s: Annotated[
        float | None, gauge("sidecar_proxy_clock_ahead_seconds", "By how much the proxy's clock is ahead of ours.")
    ]
    max_body: int


class InputStatus(msgspec.Struct, frozen=True):
    """One input, since the start. `dropped_by` counts what came in datagrams, by reason; `hops_ignored` headers that
    name the sidecars on the way, but were not written by one.

    `connections` are those of now; None where there are none to count. Of a tail: its `stream`, the `files` it follows
    with `lag_bytes` that are not on disk; `lines` that became no event, or not as they were, by what happened;
    `recent`, those of the last ten minutes that show a fault to repair; `losses`, receipts for bytes that may be lost;
    `polling`, why the system does not report changes of files, though it should; `waiting`, why nothing is read;
    `unreadable`, how many files or directories cannot be read, and the first of them.
    """

    name: str
    kind: str
    events: Annotated[int, counter("sidecar_input_events", "Events taken by the input since the start.")]
    rejected: Annotated[
        int, counter("sidecar_input_rejected", "Reports, lines or frames refused by the input since the start.")
    ]
    repaired: Annotated[
        int, counter("sidecar_input_repaired", "Reports, lines or frames in which characters were replaced.")
    ]
    bytes: Annotated[int, counter("sidecar_input_bytes", "Bytes of events taken by the input since the start.")]
    connections: Annotated[int | None, gauge("sidecar_input_connections", "Open connections.", words="connections")]
    connections_refused: Annotated[
        int,
        counter(
            "sidecar_input_connections_refused",
            "Connections that were refused since the start.",
            words="connections refused",
        ),
    ]
    dropped_by: Annotated[
        dict[str, int],
        counter(
            "sidecar_input_dropped",
            "Lines of datagrams that were not taken, by reason.",
            label="reason",
            words="dropped",
        ),
    ]
    hops_ignored: Annotated[
        int, counter("sidecar_input_hops_ignored", "Headers of hops that no sidecar wrote, since the start.")
    ] = 0
    stream: str | None = None
    files: Annotated[int | None, gauge("sidecar_tail_files", "Files that the tail follows.", words="files")] = None
    lag_bytes: Annotated[
        int | None,
        gauge(
            "sidecar_tail_lag_bytes", "Bytes of these files that are not in the queue yet.", words="behind", size=True
        ),
    ] = None
    lines: Annotated[
        dict[str, int] | None,
        counter(
            "sidecar_tail_lines", "Lines that became no event, or not as they were, by what happened.", label="what"
        ),
    ] = None
    recent: dict[str, int] = {}
    losses: Annotated[
        int | None,
        counter(
            "sidecar_tail_losses",
            "Receipts for bytes that may be lost.",
            words="receipts for what may be lost, see `sidecar tails`",
        ),
    ] = None
    polling: str | None = None
    waiting: str | None = None
    unreadable: Annotated[
        int | None,
        gauge(
            "sidecar_tail_unreadable",
            "Files and directories that the sidecar's user may not read.",
            words="unreadable files or directories",
        ),
    ] = None
    unreadable_first: str | None = None


class ConfigStatus(msgspec.Struct, frozen=True):
    """The configuration in force."""

    generation: Annotated[int, gauge("sidecar_config_generation", "How often a configuration was loaded.")]
    loaded_at: int
    error: str | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. Times are in milliseconds since 1970. `sockets_lost`: those nobody can connect to, and why."""

    version: str
    pid: int
    started_at: Annotated[
        int, gauge("sidecar_start_time_seconds", "When the sidecar started.", value=lambda at_ms: at_ms / 1000)
    ]
    state: Annotated[
        Literal["ok", "degraded", "failing"],
        gauge("sidecar_up", "1 if ok, 0.5 if degraded, 0 if failing.", value=_UP.__getitem__),
    ]
    reasons: list[str]
    books: BooksStatus
    queue: QueueStatus
    streams: list[StreamStatus]
    proxies: list[ProxyStatus]
    inputs: list[InputStatus]
    config: ConfigStatus
    sockets_lost: Annotated[
        dict[str, str],
        gauge("sidecar_sockets_lost", "Sockets that nobody can connect to, since their file is gone.", value=len),
    ] = {}


class Health(msgspec.Struct, frozen=True):
    """A yes or no with its reasons."""

    good: bool
    reasons: list[str]


def books_status(books: Books, mismatches: Sequence[str]) -> BooksStatus:
    """Return the books. `mismatches` are what the last audit found between the books and the rows."""
    return BooksStatus(
        accepted=books.accepted,
        queued=books.queued,
        delivered=books.delivered,
        dead=books.dead,
        dropped=books.dropped,
        balanced=books.balanced and not mismatches,
    )


def merged(parts: Sequence[StreamStatus]) -> StreamStatus:
    """Return one row for all streams of a data_id: what came with one token or another, of either kind.

    Numbers are added, lists joined and words taken from the first that has any, if `_MERGED` says nothing else.
    """
    lanes = [lane for part in parts for lane in part.lanes]
    found = {name: _MERGED.get(name, _together)([getattr(part, name) for part in parts]) for name in _STREAM_FIELDS}
    return StreamStatus(**found | {"state": _state(lanes)})


def _state(lanes: Sequence[LaneStatus]) -> StreamState:
    """Return the state of the first lane of each token; of several tokens the worst."""
    first: dict[int, StreamState] = {}
    for lane in lanes:
        # Events dated in the future wait by design: their lane says nothing about how sending goes.
        if lane.name != "scheduled":
            first.setdefault(lane.token, lane.state)
    return min(first.values(), key=_WORST.index, default="idle")


def _together(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], str):
        return next(iter(known), None)
    if isinstance(known[0], dict):
        return dict(sum(map(Counter, known), Counter()))
    return sum(known, type(known[0])())


def _first(values: Sequence[Any]) -> Any:
    return values[0]


def _latest(values: Sequence[int | None]) -> int | None:
    return max(value or 0 for value in values) or None


def _soonest(values: Sequence[int | None]) -> int | None:
    return min((value for value in values if value), default=None)


_STREAM_FIELDS = StreamStatus.__struct_fields__
_MERGED: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "name": _first,
    "data_id": _first,
    "state": _first,
    "oldest_age_s": max,
    "next_attempt_at": _soonest,
    "last_delivered_at": _latest,
}


def decode(document: bytes) -> Status:
    """Return the document that a running sidecar answered. Raises msgspec.DecodeError or msgspec.ValidationError."""
    return msgspec.json.decode(document, type=Status)


def encode(document: Any) -> bytes:
    """Return a document as JSON for people's tools, indented."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2)
