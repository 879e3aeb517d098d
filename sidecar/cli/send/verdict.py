"""What an answer over HTTP means for one report that was sent. Pure: the meaning of the answer itself is `forward`'s.

The sidecar answers as a proxy does, so one table serves for both.
"""

from datetime import datetime

import msgspec

from sidecar.cli.send.outbox import rejected_as
from sidecar.core.errors import Rejection
from sidecar.forward import (
    Busy,
    DataFault,
    Delivered,
    Looped,
    Misrouted,
    ProxyDown,
    RefusedUnknown,
    Reply,
    Throttled,
    TooLarge,
    Unauthorized,
    words_of,
)
from sidecar.forward import judge as judge_reply
from sidecar.inputs.http import REJECTION_HEADER


class Accepted(msgspec.Struct, frozen=True):
    """On disk at the sidecar, or at the proxy."""


class Later(msgspec.Struct, frozen=True):
    """The same again, after so long if that was said."""

    why: str
    after_s: float | None


class Elsewhere(msgspec.Struct, frozen=True):
    """Whoever answers there takes no reports."""

    why: str


Verdict = Accepted | Rejection | Later | Elsewhere


def judge(reply: Reply, now: datetime, *, token: str) -> Verdict:
    """`now` (aware) is for a date in Retry-After; words that repeat the token are not repeated here."""
    match judge_reply(reply, now, secret=token):
        case Delivered():
            return Accepted()
        case DataFault() | TooLarge():
            return _rejected(reply, token, "report")
        case Unauthorized():
            return _rejected(reply, token, "stream")
        case (
            Throttled(reason=reason, retry_after_s=after_s)
            | Busy(reason=reason, retry_after_s=after_s)
            | ProxyDown(reason=reason, retry_after_s=after_s)
        ):
            return Later(reason, after_s)
        case Misrouted(reason=reason) | RefusedUnknown(reason=reason) | Looped(reason=reason):
            return Elsewhere(reason)


class _Said(msgspec.Struct):
    """Holds what a header of the sidecar's answer says as data."""

    place: tuple[str | int, ...] = ()
    problem: str = ""
    scope: str = ""


def _rejected(reply: Reply, token: str, scope: str) -> Rejection:
    """Return what is wrong with the report. `scope`: if the answer does not say.

    With a `token` it is not the sidecar that answers, and its words as data may repeat that.
    """
    words = words_of(reply.body, token) or f"HTTP {reply.status}"
    try:
        said = msgspec.json.decode(reply.headers.get(REJECTION_HEADER, "") if not token else "", type=_Said)
    except msgspec.MsgspecError:
        return rejected_as(words, (), scope)
    return rejected_as(said.problem or words, said.place, said.scope or scope)
