"""Answers in plain words why the oldest event of a stream has not been delivered, and when it will be tried next.

Pure: it reads the status document, and nothing else.
"""

from collections.abc import Iterator

from sidecar.core.units import format_duration, format_moment
from sidecar.status.document import LaneStatus, ProxyStatus, Status, StreamStatus

_LANES = {
    "fresh": "{n} waiting",
    "suspect": "{n} set aside, since a bad one is among them, and there were more of these than may be looked for "
    "at once (proxy.isolation)",
    "retry": "{n} put back by `sidecar dead retry`",
    "replay": "{n} put in again by `sidecar replay`",
    "scheduled": "{n} dated in the future, beyond what the proxy takes",
}

_PARTS = {
    "suspect": "proxy.isolation, for all that are under suspicion with this access token",
    "retry": "a quarter, behind what is new",
    "replay": "a quarter, behind what is new",
}


def explain(status: Status, stream: StreamStatus, now_ms: int) -> list[str]:
    """Return one line for each thing to know, the first about the stream as a whole."""
    lines = [*_head(stream), *_left_out(status, stream)]
    for lane in stream.lanes:
        what = _LANES[lane.name].format(n=_events(lane.queued))
        lines.append(f"{what}{_token(stream, lane)}{_where(lane)}{_age(lane)}:")
        reasons = _scheduled(lane, now_ms) if lane.name == "scheduled" else _lane(status, stream, lane, now_ms)
        lines += [f"  {line}" for line in reasons]
    return lines


def _head(stream: StreamStatus) -> Iterator[str]:
    if not stream.queued:
        last = "nothing was delivered yet"
        if stream.last_delivered_at is not None:
            last = f"the last delivery was at {format_moment(stream.last_delivered_at)}"
        yield f"{stream.name}: nothing waits; {last}"
    else:
        yield f"{stream.name}: {_events(stream.queued)} not delivered yet, {stream.delivered} delivered"
    if stream.dead:
        yield f"{_events(stream.dead)} refused for good; see `sidecar dead list --stream {stream.name}`"


def _left_out(status: Status, stream: StreamStatus) -> Iterator[str]:
    """Say which tails send it nothing, since their filters let nothing through."""
    for tail in status.inputs:
        filtered = (tail.lines or {}).get("filtered", 0)
        if tail.stream == stream.name and filtered and not tail.events:
            yield (
                f"tail {tail.name} has sent it nothing since the start: its where and where_not left out all of"
                f" {filtered} lines (`sidecar try` shows what they find)"
            )


def _lane(status: Status, stream: StreamStatus, lane: LaneStatus, now_ms: int) -> Iterator[str]:
    down = [proxy for proxy in status.proxies if proxy.state == "down"]
    since = f" since {_clock(lane.failing_since)} ({_times(lane.failures)})" if lane.failing_since else ""
    if lane.state == "unauthorized":
        yield f"the proxy refuses the access token{since}: {lane.last_error}"
        yield f"configure data_id {stream.data_id} with the right token, then `sidecar reload`; nothing is lost"
    elif lane.target is None and len(down) == len(status.proxies) > 0:
        yield "no proxy can be reached" if len(down) > 1 else "the proxy cannot be reached"
        yield from (_down(proxy) for proxy in down)
    elif lane.searching:
        yield f"behind the search for a bad event: the proxy refused it {_times(lane.searching)} so far"
    elif lane.waits_for:
        yield f"waits: {lane.waits_for}; more at once would be lost behind the proxy (proxy.bytes_per_data_id)"
    elif lane.state == "rate_limited" and lane.name in _PARTS and not lane.last_error:
        yield f"it may take only a part of the rate: {_PARTS[lane.name]}"
    elif lane.state == "rate_limited":
        sent = f"{stream.rate_per_min:.0f} requests of {stream.name} in the last minute, and those of others"
        yield f"the rate of its access token allows no request now: {sent}"
        if lane.last_error:
            yield f"the proxy said: {lane.last_error}"
    elif lane.last_error:
        yield f"it fails{since}: {lane.last_error}"
    elif lane.state == "sending":
        yield "it is on its way"
    else:
        yield "its turn has not come yet"
    yield _next(lane.next_attempt_at, now_ms)


def _scheduled(lane: LaneStatus, now_ms: int) -> Iterator[str]:
    if lane.due_at is not None:
        when = f"in {format_duration((lane.due_at - now_ms) / 1000)}" if lane.due_at > now_ms else "any moment"
        yield f"the next becomes valid {when}"


def _down(proxy: ProxyStatus) -> str:
    since = f" since {_clock(proxy.down_since)}" if proxy.down_since else ""
    return f"{proxy.url} is down{since}: {proxy.last_error}"


def _next(at_ms: int | None, now_ms: int) -> str:
    if at_ms is None or at_ms <= now_ms:
        return "next attempt: now"
    return f"next attempt in {format_duration((at_ms - now_ms) / 1000)}, at {_clock(at_ms)}"


def _token(stream: StreamStatus, lane: LaneStatus) -> str:
    """Say which part of the stream it is, where there are several."""
    if len(stream.tokens) < 2:
        return ""
    part = stream.tokens[lane.token - 1]
    return f", {part.kind} with {'the configured token' if part.configured else f'token {part.token}'}"


def _where(lane: LaneStatus) -> str:
    return f", for {lane.target}" if lane.target else ""


def _age(lane: LaneStatus) -> str:
    return f", the oldest for {format_duration(lane.oldest_age_s)}" if lane.name != "scheduled" else ""


def _clock(at_ms: int | None) -> str:
    return "?" if at_ms is None else format_moment(at_ms)


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
