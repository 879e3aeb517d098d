"""Says each cause of trouble once, however many lanes it holds: when it begins, and when it is over.

lane a ── "HTTP 401: bad token" ──┐
lane b ── "HTTP 401: bad token" ──┴── one cause: a line when a meets it, one when the last of them is through
lane a ── "Connection refused"  ───── another cause, so another line
"""

import re
from collections.abc import Callable, Hashable
from typing import Literal

import msgspec
import structlog

CauseKind = Literal[
    "proxy", "unauthorized", "refused", "loop", "rate_limited", "busy", "storage", "internal", "too_large"
]
_CURES: dict[CauseKind, str] = {
    "unauthorized": "configure the data_id with the right token, then `sidecar reload`; nothing is lost meanwhile",
    "refused": "ask who runs the proxy; nothing is lost meanwhile",
    "loop": "see proxy.urls of the sidecars on the way",
    "internal": "please report this bug; the stream is tried again",
    "too_large": "something on the way takes no body of any size; see what stands between",
}
_NUMBERS = re.compile(r"\d+(\.\d+)?")
log = structlog.get_logger("forward")


class _Cause(msgspec.Struct, eq=False):
    """One cause of failures. `lanes` have it now, the streams `met` had it too, `failures` counts their attempts."""

    since_s: float
    reason: str
    lanes: set[Hashable] = msgspec.field(default_factory=set)
    met: set[str] = msgspec.field(default_factory=set)
    failures: int = 0


class Causes:
    """Log each cause of failed deliveries once for all lanes. `clock` is in seconds and never jumps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._causes: dict[tuple[CauseKind, str], _Cause] = {}  # those that at least one lane has
        self._of: dict[Hashable, tuple[CauseKind, str]] = {}  # the cause of each lane that fails

    def failed(self, lane: Hashable, stream: str, kind: CauseKind, reason: str, level: int) -> bool:
        """Note that `lane`, of `stream`, fails for `reason`. Return True if that is another cause than before."""
        key = kind, _NUMBERS.sub("#", reason)
        before = self._of.get(lane)
        cause = self._causes.get(key)
        if cause is None:
            cause = self._causes[key] = _Cause(self._clock(), reason)
            cure = {"cure": _CURES[kind]} if kind in _CURES else {}
            log.log(level, "delivery failed, will be retried", stream=stream, error=reason, **cure)
        cause.failures += 1
        if before == key:
            return False
        self.forget(lane)
        cause.lanes.add(lane)
        cause.met.add(stream)
        self._of[lane] = key
        return True

    def recovered(self, lane: Hashable) -> None:
        """Note that `lane` gets through; the last one of a cause says that it is over."""
        cause = self._leave(lane)
        if cause is not None and not cause.lanes:
            seconds = round(self._clock() - cause.since_s, 1)
            streams = {"stream": next(iter(cause.met))} if len(cause.met) == 1 else {"streams": len(cause.met)}
            log.info("delivery resumed", **streams, was=cause.reason, failures=cause.failures, after_s=seconds)

    def forget(self, lane: Hashable) -> None:
        """Let go of a lane that is gone, or fails for something else now."""
        self._leave(lane)

    def _leave(self, lane: Hashable) -> _Cause | None:
        key = self._of.pop(lane, None)
        if key is None:
            return None
        cause = self._causes[key]
        cause.lanes.discard(lane)
        if not cause.lanes:
            del self._causes[key]
        return cause
