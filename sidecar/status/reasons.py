"""Decides whether the sidecar is well, and says why not: what stands in `reasons` of the status document. Pure.

An error: reports are refused, or the books cannot be trusted (`failing`). A warning: something to look at before it
becomes one (`degraded`). One cause is one reason, with its cure.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sidecar.status.document import BooksStatus, InputStatus, ProxyStatus, QueueStatus, StreamStatus

_NEARLY_FULL = 0.8
_FAR_AHEAD_MS = 600_000
_FULL_SOON_S = 3600.0
_CLOCK_OFF_S = 60.0
_NAMES_SHOWN = 5
_CURES = {
    "unauthorized": "configure the data_id with the right token, then `sidecar reload`; nothing is lost meanwhile",
    "rate_limited": "other hosts use the same token; this one takes its part",
}
"""The cure to show for a failing stream, by its state."""
_WAL_GROWN_BYTES = 64_000_000
_AMISS = {
    "late": "its pattern took too long for {n} lines, which count as not parsed; simplify it (see `sidecar try`)",
    "not_numbers": "{n} metrics are no numbers, and were left out; see event.metrics, and event.units for 3ms or 1,234"
    " (`sidecar try` counts them)",
    "untimed": "no time could be read from {n} lines, which have that of reading; see its event.timestamp"
    " (`sidecar try` shows them)",
}

_TO_NOWHERE_LINES = 100
"""Lines of one tail: if this many did not parse, and no line did, the `parse` rule is probably wrong."""


def errors(*, books: BooksStatus, queue: QueueStatus, broken: str | None, refusing: str | None) -> list[str]:
    """Return why reports are refused, or the books cannot be trusted. `refusing`: why there is no capacity."""
    found = []
    if broken:
        found.append(f"storage: {broken}")
    if not books.balanced:
        found.append("books do not balance; please report this bug")
    if refusing:
        found.append(f"{refusing} ({queue.bytes} of {queue.max_bytes} bytes)")
    return found


def warnings(
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
    """Return what to look at before it becomes an error. `crowded`: peers with as many streams as they may.

    `nameless`: the address that stands for this host's own, which is not known."""
    found = [f"sockets are paused, nothing is lost: {sockets_wait}"] if sockets_wait else []
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
    found += [f"tail {tail.name} polls its files every second: {tail.polling}" for tail in inputs if tail.polling]
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
    # While every proxy is down, all streams fail for the same cause, and one cause is told once.
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
        # Damaged events count as dead too, and have their own reason below.
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
