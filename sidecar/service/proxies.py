"""The proxies in use: what is known of each, the connections to them, and the probes of those that are down."""

import asyncio
import random
import socket
from collections.abc import Callable, Iterable

import structlog

from sidecar.config import Proxy, client_certificate_expires_s, tls_context
from sidecar.core.backoff import Backoff
from sidecar.forward import Client, Endpoint, Endpoints, is_alive
from sidecar.host.clock import boot_clock, wall_ms_at
from sidecar.status.document import ProxyStatus

PATIENCE_S = 5.0
"""Seconds for which other requests wait while one attempt tests a proxy that was down."""
_BACKOFF = Backoff(first_s=0.5, cap_s=30.0)
_PROBE_EVERY_S = 2.0
_SKEW_OF_NOTE_S = 2.0  # the Date header has whole seconds, and an answer takes time on its way
logger = structlog.get_logger("forward")


class Proxies:
    """The proxies of one configuration; a reload makes another object. Event loop only.

    `on_down` is called when a proxy has gone down.
    """

    def __init__(self, settings: Proxy, on_down: Callable[[], None]) -> None:
        self._settings, self._on_down = settings, on_down
        self.client = Client(
            timeout_s=settings.timeout,
            tls=lambda: tls_context(settings),
            connections=settings.connections,
            via=settings.via,
            certificate_expires_s=lambda: client_certificate_expires_s(settings),
        )
        self.endpoints = self._make_endpoints(settings.urls)
        self._targets: dict[str, Endpoints] = {}  # where replays go, by the address that was asked for

    def of(self, target: str | None) -> Endpoints:
        """Return the proxies to send to; where a replay asked for a `target`, only that one."""
        if not target:
            return self.endpoints
        if target not in self._targets:
            self._targets[target] = self._make_endpoints([target])
        return self._targets[target]

    @property
    def skew_s(self) -> float:
        """Return by how much the clock of the proxies in use is ahead of ours; of several, the one furthest behind.

        What is hardly noticeable counts as nothing.
        """
        known = [each.skew_s for each in self.endpoints.all if each.skew_s is not None and each.state == "up"]
        # A proxy whose clock is behind refuses a timestamp that the others still take. So the slowest clock decides.
        skew_s = min(known, default=0.0)
        return skew_s if abs(skew_s) >= _SKEW_OF_NOTE_S else 0.0

    async def probe(self) -> float | None:
        """Look whether proxies that are down have come back, while others do their work.

        Returns the seconds until the next look; None: all are up, or none is.
        """
        await asyncio.gather(*(self._probe_one(endpoint) for endpoint in self.endpoints.to_probe(boot_clock())))
        return _PROBE_EVERY_S if self.endpoints.any_to_watch else None

    async def _probe_one(self, endpoint: Endpoint) -> None:
        alive = is_alive(await self.client.probe(endpoint.url))
        if self.endpoints.probed(endpoint, alive, boot_clock()):
            logger.info("proxy passed its probes and is used again", proxy=endpoint.url)

    def status(self) -> list[ProxyStatus]:
        """Return how each proxy stands."""
        now_s = boot_clock()
        return [
            ProxyStatus(
                endpoint.url,
                endpoint.state,
                endpoint.last_error,
                retry_at=wall_ms_at(endpoint.retry_at_s) if endpoint.state == "down" else None,
                down_since=wall_ms_at(endpoint.down_since_s) if endpoint.state == "down" else None,
                clock_ahead_s=None if endpoint.skew_s is None else round(endpoint.skew_s, 1),
                max_body=endpoint.body.limit_bytes(now_s),
            )
            for endpoint in self.endpoints.all
        ]

    def _make_endpoints(self, urls: Iterable[str]) -> Endpoints:
        return Endpoints(
            tuple(urls),
            self._settings.choose,
            host=socket.gethostname(),
            backoff=_BACKOFF,
            patience_s=PATIENCE_S,
            random=random.random,
            max_body_bytes=self._settings.max_body,
            return_after_s=self._settings.return_after,
            on_down=self._went_down,
        )

    def _went_down(self, url: str) -> None:
        self.client.dismiss(url)
        self._on_down()
