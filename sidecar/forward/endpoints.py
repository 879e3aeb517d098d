"""Which proxy to send to: an order of preference, and a hold on each proxy that does not answer well. Pure.

up ── a failure ──> down until retry_at ── retry_at passed ──> one attempt is let through ──┐
 ^                     ^                                                                     │
 └── a good answer ────┴──────────────────────── another failure ───────────────────────────┘
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

from sidecar.forward.backoff import Backoff


class Endpoint:
    """One proxy, and what is known of it."""

    __slots__ = ("failed_at_s", "failures", "last_error", "retry_at_s", "state", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.state: Literal["up", "down", "unknown"] = "unknown"
        self.failures = 0
        self.failed_at_s = float("-inf")
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

    def pick(self, now_s: float) -> Endpoint | None:
        """The proxy to use now; None while all are held. A proxy that was down gets one attempt at a time."""
        for endpoint in self.all:
            if endpoint.retry_at_s <= now_s:
                if endpoint.state == "down":
                    endpoint.retry_at_s = now_s + self._patience_s
                return endpoint
        return None

    def wait_s(self, now_s: float) -> float:
        """Seconds until `pick` may find one."""
        return max(0.0, min(endpoint.retry_at_s for endpoint in self.all) - now_s)

    def worked(self, endpoint: Endpoint) -> bool:
        """Notes an answer that only a proxy gives. True if the proxy had been down."""
        recovered = endpoint.state == "down"
        endpoint.state, endpoint.failures, endpoint.last_error = "up", 0, None
        endpoint.retry_at_s = float("-inf")
        return recovered

    def failed(self, endpoint: Endpoint, error: str, *, started_s: float, now_s: float) -> bool:
        """Notes a failure of an attempt that began at `started_s`. True if the proxy had not been known to be down.

        Attempts that were under way when the proxy went down count once, together.
        """
        fresh = endpoint.state != "down"
        endpoint.state, endpoint.last_error = "down", error
        if started_s >= endpoint.failed_at_s:
            endpoint.failures += 1
            endpoint.failed_at_s = now_s
            endpoint.retry_at_s = now_s + self._backoff.delay_s(endpoint.failures, self._random)
        return fresh


def _weight(host: str, url: str) -> bytes:
    """Rendezvous hashing: every host has its own order, and losing a proxy moves only that proxy's hosts."""
    return hashlib.sha256(f"{host}\n{url}".encode()).digest()
