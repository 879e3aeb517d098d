"""Chooses the proxy to send to, by an order of preference and by what is known of the health of each. Pure.

One stream's bad luck must not become the others': a stream that fails where others succeed goes to another proxy, or is
held alone (the forwarder sees to that). While another proxy is up, one that is down gets no events, only probes.

up ── a failure ──> down ── well for a while, as the probes say ──> up
 ^                   │ all are down: one attempt is let through at retry_at, and one of each stream that has not tried
 └── a good answer ──┘
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from sidecar.core.backoff import Backoff
from sidecar.forward.body_limit import BodyLimit

FailedAt = Mapping[str, float]
"""The time at which a stream last failed at each proxy, in seconds, by the URL of the proxy."""
_FORGET_S = 300.0
"""Seconds for which a stream prefers other proxies, after it failed at a proxy that works for other streams."""
_MOST_RELAPSES = 6
_LATELY_S = 60.0
_TELL_AGAIN_S = 60.0
_PATIENT_S, _PATIENT_FACTOR = 2.0, 10.0
_NEVER = float("-inf")


class Endpoint:
    """One proxy, and what is known of it, on the event loop only. `skew_s`: how far its clock is ahead of ours."""

    def __init__(self, url: str, *, max_body_bytes: int) -> None:
        self.url = url
        self.state: Literal["up", "down", "unknown"] = "unknown"  # unknown: it was not tried yet
        self.failures = 0  # in a row, of events and of probes; the pauses grow with them
        self.failed_at_s = self.worked_at_s = _NEVER  # the last one of each
        self.down_since_s = self.up_since_s = _NEVER  # the last one of each; `state` says which one counts
        self.retry_at_s = self.probe_at_s = _NEVER  # while it is down: when events, or a probe, may be sent
        self.well_since_s: float | None = None  # while it is down: since when probes are answered; None: they are not
        self.relapses = 0  # failures since it last accepted events; after more of them it must stay well for longer
        self.last_error: str | None = None  # None: it is up
        self.skew_s: float | None = None  # None: no answer has said what time it is there
        self.body = BodyLimit(max_body_bytes)
        self.told = False  # True: the log says that the proxy is down, and does not say yet that it is back
        self._told_at_s = _NEVER  # when the log last said that it is down
        self._answer_s: float | None = None  # how long answers take, smoothed; None: there was none yet

    def tell_down(self, now_s: float) -> bool:
        """Return True if the log should say now that the proxy is down. Once for an outage, even if the proxy flaps."""
        if self.told or now_s - self._told_at_s < _TELL_AGAIN_S:
            return False
        self.told, self._told_at_s = True, now_s
        return True

    def tell_up(self) -> bool:
        """Return True if the log should say now that the proxy is back: only if it said that the proxy was down."""
        told, self.told = self.told, False
        return told

    def answered(self, seconds: float) -> None:
        """Note how long an answer took."""
        self._answer_s = seconds if self._answer_s is None else self._answer_s + (seconds - self._answer_s) / 8

    def patience_s(self, now_s: float) -> float | None:
        """Return how long an answer may take at most, as others of late say; None: nobody can know."""
        if self._answer_s is None or now_s - self.worked_at_s > _LATELY_S:
            return None
        return max(_PATIENT_S, _PATIENT_FACTOR * self._answer_s)


class Endpoints:
    """All proxies of the cloud area. `host` makes the order of `spread` this host's own."""

    def __init__(
        self,
        urls: Sequence[str],
        choose: Literal["failover", "spread"],
        *,
        host: str,
        backoff: Backoff,
        patience_s: float,
        random: Callable[[], float],
        max_body_bytes: int,
        return_after_s: float,
        on_down: Callable[[str], None] = lambda _: None,
    ) -> None:
        ordered = list(urls) if choose == "failover" else sorted(urls, key=lambda url: _weight(host, url))
        self.all = [Endpoint(url, max_body_bytes=max_body_bytes) for url in ordered]
        self._backoff, self._patience_s, self._random = backoff, patience_s, random
        self._return_after_s, self._on_down = return_after_s, on_down

    def pick(self, now_s: float, failed_at: FailedAt) -> Endpoint | None:
        """Return the proxy for a stream to use now; None while all are held. `failed_at`: when it last failed at each.

        Among those that are up the first at which the stream has not failed lately. Else one that is down, if it is
        due, or if the stream has not tried it since it went down. Else the one at which it failed longest ago.
        """
        up = [endpoint for endpoint in self.all if endpoint.state != "down"]
        for endpoint in up:
            if failed_at.get(endpoint.url, _NEVER) < max(endpoint.up_since_s, now_s - _FORGET_S):
                return endpoint
        for endpoint in self.all:
            if endpoint.state == "down" and (endpoint.retry_at_s <= now_s or _untried(endpoint, failed_at)):
                return endpoint
        return min(up, key=lambda endpoint: failed_at[endpoint.url], default=None)

    def wait_s(self, now_s: float, failed_at: FailedAt) -> float:
        """Return the seconds until `pick` may find one."""
        if self.pick(now_s, failed_at) is not None:
            return 0.0
        return max(0.0, min(endpoint.retry_at_s for endpoint in self.all) - now_s)

    def claim(self, endpoint: Endpoint, now_s: float, failed_at: FailedAt) -> bool:
        """Take the attempt that `pick` offered; False if another stream was faster."""
        if endpoint.state != "down" or _untried(endpoint, failed_at):
            return True
        if endpoint.retry_at_s > now_s:
            return False
        endpoint.retry_at_s = now_s + self._patience_s
        return True

    def worked(self, endpoint: Endpoint, now_s: float) -> bool:
        """Note an answer that only a proxy gives. True if the proxy had been down."""
        recovered = endpoint.state == "down"
        endpoint.failures, endpoint.relapses = 0, 0
        endpoint.worked_at_s = now_s
        self._up(endpoint, now_s)
        return recovered

    def failed(
        self, endpoint: Endpoint, error: str, *, started_s: float, now_s: float, at_least_s: float = 0.0
    ) -> bool:
        """Note a failure of an attempt that began at `started_s`. True if the proxy had not been known to be down.

        Attempts that were under way when the proxy went down count once, together.
        """
        fresh = endpoint.state != "down"
        if fresh:
            endpoint.down_since_s = now_s
            endpoint.relapses += 1
            self._on_down(endpoint.url)
        endpoint.state, endpoint.last_error, endpoint.well_since_s = "down", error, None
        if started_s >= endpoint.failed_at_s:
            endpoint.failures += 1
            endpoint.failed_at_s = now_s
            wait_s = at_least_s + self._backoff.delay_s(endpoint.failures, self._random)
            endpoint.retry_at_s = endpoint.probe_at_s = now_s + wait_s
        return fresh

    @property
    def any_to_watch(self) -> bool:
        """Return whether there is one that is down, and may be probed now or later."""
        return len(self.all) > 1 and any(endpoint.state == "down" for endpoint in self.all)

    def to_probe(self, now_s: float) -> list[Endpoint]:
        """Return the proxies that are down while another one is up, and due for a look."""
        if all(endpoint.state == "down" for endpoint in self.all):
            return []  # then events are the probes
        return [endpoint for endpoint in self.all if endpoint.state == "down" and endpoint.probe_at_s <= now_s]

    def probed(self, endpoint: Endpoint, alive: bool, now_s: float) -> bool:
        """Note what a probe found. True if the proxy counts as up again, since it has been well for a while.

        For twice as long each time that it answered probes and then failed events again.
        """
        if not alive:
            endpoint.well_since_s = None
            endpoint.failures += 1
            endpoint.probe_at_s = now_s + self._backoff.delay_s(endpoint.failures, self._random)
            return False
        if endpoint.well_since_s is None:
            endpoint.well_since_s = now_s
        settled_s = self._return_after_s * 2.0 ** (min(endpoint.relapses, _MOST_RELAPSES) - 1)
        if endpoint.state != "down" or now_s - endpoint.well_since_s < settled_s:
            return False
        self._up(endpoint, now_s)
        return True

    def release(self) -> None:
        """Let all that are down be tried at once."""
        for endpoint in self.all:
            endpoint.retry_at_s = endpoint.probe_at_s = _NEVER

    def _up(self, endpoint: Endpoint, now_s: float) -> None:
        if endpoint.state != "up":
            endpoint.up_since_s = now_s
        endpoint.state, endpoint.last_error, endpoint.well_since_s = "up", None, None
        endpoint.retry_at_s = endpoint.probe_at_s = _NEVER


def _untried(endpoint: Endpoint, failed_at: FailedAt) -> bool:
    return failed_at.get(endpoint.url, _NEVER) < endpoint.down_since_s


def _weight(host: str, url: str) -> bytes:
    """Rank a proxy by rendezvous hashing: every host has its own order, and a lost one moves only its own hosts."""
    return hashlib.sha256(f"{host}\n{url}".encode()).digest()
