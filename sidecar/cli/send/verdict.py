"""What an answer over HTTP means for one report that was sent. Pure: the meaning of the answer itself is `forward`'s.

The sidecar answers as a proxy does, so one table serves for both.
"""

from datetime import datetime

import msgspec

from sidecar.forward import outcome
from sidecar.forward.outcome import Reply


class Taken(msgspec.Struct, frozen=True):
    """On disk at the sidecar, or at the proxy."""


class Rejected(msgspec.Struct, frozen=True):
    """This report will never be taken as it is; `for_all`: nor any other of its pipe."""

    why: str
    for_all: bool


class Later(msgspec.Struct, frozen=True):
    """The same again, after so long if that was said."""

    why: str
    after_s: float | None


class Elsewhere(msgspec.Struct, frozen=True):
    """Whoever answers there takes no reports."""

    why: str


Verdict = Taken | Rejected | Later | Elsewhere


def judge(reply: Reply, now: datetime, *, token: str) -> Verdict:
    """`now` (aware) is for a date in Retry-After; words that repeat the token are not repeated here."""
    prefix = f"HTTP {reply.status}: "
    match outcome.judge(reply, now, secret=token):
        case outcome.Delivered():
            return Taken()
        case outcome.DataFault(reason=reason) | outcome.TooLarge(reason=reason):
            return Rejected(reason.removeprefix(prefix), for_all=False)
        case outcome.Unauthorized(reason=reason):
            return Rejected(reason.removeprefix(prefix), for_all=True)
        case (
            outcome.Throttled(reason=reason, retry_after_s=after_s)
            | outcome.Busy(reason=reason, retry_after_s=after_s)
            | outcome.ProxyDown(reason=reason, retry_after_s=after_s)
        ):
            return Later(reason, after_s)
        case outcome.Misrouted(reason=reason) | outcome.Refused(reason=reason) | outcome.Looped(reason=reason):
            return Elsewhere(reason)
