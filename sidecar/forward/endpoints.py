"""Which proxy to send to: an order of preference, and a hold on each proxy that does not answer well. Pure.

One stream's bad luck must not become the others': a stream that has not failed itself since the proxy went down may
try for itself, and a stream that fails where others succeed is held alone (the forwarder sees to that).

up ── a failure ──> down until retry_at ── retry_at passed ──> one attempt is let through ──┐
 ^                     ^                                                                     │
 └── a good answer ────┴──────────────────────── another failure ───────────────────────────┘
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from sidecar.forward.backoff import Backoff

FailedAt = Mapping[str, float]
"""When a stream last failed at a proxy, by the proxy's URL."""


class Endpoint:
    """One proxy, and what is known of it."""

    __slots__ = ("down_since_s", "failed_at_s", "failures", "last_error", "retry_at_s", "state", "url", "worked_at_s")

    def __init__(self, url: str) -> None:
        self.url = url
        self.state: Literal["up", "down", "unknown"] = "unknown"
        self.failures = 0
        self.failed_at_s = self.worked_at_s = self.down_since_s = float("-inf")
        self.retry_at_s = float("-inf")
        self.last_error: str | None = None


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
    ) -> None:
        ordered = list(urls) if choose == "failover" else sorted(urls, key=lambda url: _weight(host, url))
        self.all = [Endpoint(url) for url in ordered]
        self._backoff, self._patience_s, self._random = backoff, patience_s, random

    def pick(self, now_s: float, failed_at: FailedAt) -> Endpoint | None:
        """The proxy for a stream to use now; None while all are held.

        `failed_at`: when the stream itself last failed at each. A proxy that is down gets one attempt at a time from
        all streams together, and beside that one from each stream that has not failed there since.
        """
        for endpoint in self.all:
            if endpoint.retry_at_s <= now_s:
                if endpoint.state == "down":
                    endpoint.retry_at_s = now_s + self._patience_s
                return endpoint
        return next((endpoint for endpoint in self.all if _untried(endpoint, failed_at)), None)

    def wait_s(self, now_s: float, failed_at: FailedAt) -> float:
        """Seconds until `pick` may find one."""
        if any(_untried(endpoint, failed_at) for endpoint in self.all):
            return 0.0
        return max(0.0, min(endpoint.retry_at_s for endpoint in self.all) - now_s)

    def worked(self, endpoint: Endpoint, now_s: float) -> bool:
        """Notes an answer that only a proxy gives. True if the proxy had been down."""
        recovered = endpoint.state == "down"
        endpoint.state, endpoint.failures, endpoint.last_error = "up", 0, None
        endpoint.retry_at_s = float("-inf")
        endpoint.worked_at_s = now_s
        return recovered

    def failed(self, endpoint: Endpoint, error: str, *, started_s: float, now_s: float) -> bool:
        """Notes a failure of an attempt that began at `started_s`. True if the proxy had not been known to be down.

        Attempts that were under way when the proxy went down count once, together.
        """
        fresh = endpoint.state != "down"
        if fresh:
            endpoint.down_since_s = now_s
        endpoint.state, endpoint.last_error = "down", error
        if started_s >= endpoint.failed_at_s:
            endpoint.failures += 1
            endpoint.failed_at_s = now_s
            endpoint.retry_at_s = now_s + self._backoff.delay_s(endpoint.failures, self._random)
        return fresh


def _untried(endpoint: Endpoint, failed_at: FailedAt) -> bool:
    return endpoint.state == "down" and failed_at.get(endpoint.url, float("-inf")) < endpoint.down_since_s


def _weight(host: str, url: str) -> bytes:
    """Rendezvous hashing: every host has its own order, and losing a proxy moves only that proxy's hosts."""
    return hashlib.sha256(f"{host}\n{url}".encode()).digest()
