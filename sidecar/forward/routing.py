"""One lane's way to the proxies: which one it uses, and whose fault it is when that fails."""

from collections.abc import Callable

import structlog

from sidecar.core.backoff import Backoff
from sidecar.forward.endpoints import Endpoint, Endpoints
from sidecar.forward.hold import Hold
from sidecar.forward.outcome import Misrouted, ProxyDown

_GO_LAST_S = 0.1
"""Seconds: a stream that failed at a proxy retries there this much later than the streams that did not fail."""
log = structlog.get_logger("forward")


class Routing:
    """Choose the proxy for one lane, and note where the lane failed.

    `endpoints` may return other proxies later, when a replay goes to another address.

    `wake_all` is called when a proxy is back.
    """

    def __init__(
        self,
        endpoints: Callable[[], Endpoints],
        hold: Hold,
        backoff: Backoff,
        *,
        clock: Callable[[], float],
        wake_all: Callable[[], None],
    ) -> None:
        self._endpoints = endpoints
        self._hold, self._backoff, self._clock, self._wake_all = hold, backoff, clock, wake_all
        self._failed_at: dict[str, float] = {}  # when this lane last failed, by the proxy's URL

    @property
    def endpoints(self) -> Endpoints:
        """Return all of them."""
        return self._endpoints()

    def pick(self) -> Endpoint | None:
        """Return the proxy to use now."""
        return self.endpoints.pick(self._clock(), self._failed_at)

    def wait_s(self) -> float:
        """Return the seconds until there may be one."""
        return self.endpoints.wait_s(self._clock(), self._failed_at)

    def claim(self, endpoint: Endpoint) -> bool:
        """Take what was picked; False if another lane was faster."""
        return self.endpoints.claim(endpoint, self._clock(), self._failed_at)

    def elsewhere(self, endpoint: Endpoint) -> bool:
        """Let this lane prefer other proxies for a while. Returns False if none is left to try."""
        self._failed_at[endpoint.url] = self._clock()
        other = self.pick()
        return other is not None and other is not endpoint and other.url not in self._failed_at

    def worked(self, endpoint: Endpoint) -> None:
        """Note that the proxy answered as only a proxy does, whatever it said."""
        self._failed_at.pop(endpoint.url, None)
        if self.endpoints.worked(endpoint, self._clock()):
            if endpoint.tell_up():
                log.info("proxy is up again", proxy=endpoint.url)
            self._wake_all()

    def failed(self, endpoint: Endpoint, outcome: ProxyDown | Misrouted, started_s: float) -> None:
        """Blame the proxy; or this lane alone, if others got through there meanwhile."""
        now_s, reason = self._clock(), outcome.reason
        at_least_s = outcome.retry_after_s or 0.0 if isinstance(outcome, ProxyDown) else 0.0
        failed_before_s = self._failed_at.get(endpoint.url, float("inf"))
        self._failed_at[endpoint.url] = now_s
        self._hold.failed(reason, "proxy")
        hung_alone = (
            isinstance(outcome, ProxyDown) and outcome.hung and (started_s < endpoint.worked_at_s or outcome.gave_way)
        )
        if failed_before_s < endpoint.worked_at_s or hung_alone:
            if self.endpoints.pick(now_s, self._failed_at) is endpoint:
                self._hold.back_off("held", self._backoff, at_least_s=at_least_s)
            return
        self.endpoints.failed(endpoint, reason, started_s=started_s, now_s=now_s, at_least_s=at_least_s)
        if endpoint.tell_down(now_s):
            if isinstance(outcome, Misrouted):
                log.error("not a proxy at this address, events wait in the queue", proxy=endpoint.url, error=reason)
            else:
                log.warning("proxy is down, events wait in the queue", proxy=endpoint.url, error=reason)
        if (wait_s := self.wait_s()) > 0:
            self._hold.until("held", now_s + wait_s + _GO_LAST_S)

    def release(self) -> None:
        """Forget what failed."""
        self._failed_at.clear()
        self.endpoints.release()
