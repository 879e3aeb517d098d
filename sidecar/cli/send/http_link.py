"""Posts reports over HTTP, one after the other, and opens the sidecar's own endpoint for that.

What an answer itself means is the business of `forward`; what goes directly to a proxy is made in `direct.py`.
"""

import http.client
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from sidecar.cli.send.delivery import BrokenError, GaveUpError, NoSidecarThereError, Patience
from sidecar.cli.send.outbox import Report, ReportOutbox, StoppedError, rejected_as
from sidecar.core.errors import REJECTION_HEADER, Rejected, Rejection, in_words
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
    judge,
    words_of,
)

PUSH = "/v2/push/"
_ANSWER_BYTES = 65_536
_STATUS_BYTES = 16_000_000
TIMEOUT_S = 30.0
_STATUS_TIMEOUT_S = 5.0
_PAUSE_S = 1.0
MakeBody = Callable[[Report], tuple[bytes, str]]
"""Makes of a report the body, and the token to hide if the other side repeats it (the sidecar never does).

Raises Rejected."""


class Accepted(msgspec.Struct, frozen=True):
    """The report was accepted: it is on disk at the sidecar, or at the proxy."""


class Later(msgspec.Struct, frozen=True):
    """Send the same report again later; after how long, if the answer said it."""

    why: str
    after_s: float | None


class Elsewhere(msgspec.Struct, frozen=True):
    """Whoever answers there takes no reports."""

    why: str


Verdict = Accepted | Rejection | Later | Elsewhere


def verdict_on(reply: Reply, now: datetime, *, token: str) -> Verdict:
    """Return what an answer means for one report. The sidecar answers as a proxy does, so one table serves for both.

    `now` (aware) is for a date in Retry-After; words that repeat the token are not repeated here.
    """
    match judge(reply, now, secret=token):
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


class HttpLink:
    """One kept-alive connection; `last_answer` is the body of the last acknowledgement."""

    last_answer = b""

    def __init__(self, name: str, connection: http.client.HTTPConnection, path: str, make_body: MakeBody) -> None:
        self.name = name
        self._connection, self._path, self._make_body = connection, path, make_body
        self._heard = False  # something has answered on this connection

    def carry(self, outbox: ReportOutbox, patience: Patience) -> None:
        """Send until all is settled. Raises BrokenError, GaveUpError, StoppedError."""
        while not outbox.is_done:
            report = outbox.next()
            if report is not None:
                self._settle(report, outbox, patience)

    def close(self) -> None:
        self._connection.close()

    def _settle(self, report: Report, outbox: ReportOutbox, patience: Patience) -> None:
        try:
            body, token = self._make_body(report)
        except Rejected as rejected:
            outbox.rejected(report, rejected.why)
            return
        while True:
            match self._post(body, token, patience):
                case Accepted():
                    outbox.taken(report)
                    return
                case Rejection() as why:
                    outbox.rejected(report, why)
                    return
                case Later(why=words, after_s=after_s):
                    _pause(patience, _PAUSE_S if after_s is None else after_s, f"{self.name}: {words}")
                case Elsewhere(why=words):
                    raise StoppedError(f"{self.name}: {words}")

    def _post(self, body: bytes, token: str, patience: Patience) -> Verdict:
        try:
            self._limit_time(patience)
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            answer = response.read(_ANSWER_BYTES)
            _finish(response, self._connection)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise BrokenError(f"{self.name}: {in_words(error)}", silent=not self._heard) from None
        self._heard = True
        found = verdict_on(Reply(response.status, headers, answer), datetime.now(UTC), token=token)
        if isinstance(found, Accepted):
            self.last_answer = answer
        return found

    def _limit_time(self, patience: Patience) -> None:
        self._connection.timeout = min(TIMEOUT_S, max(0.1, patience.left_s))
        if self._connection.sock is not None:
            self._connection.sock.settimeout(self._connection.timeout)


class _Identity(msgspec.Struct):
    """The fields of a status document by which a sidecar is told from other servers."""

    version: str
    books: dict[str, int | bool]


def open_sidecar(host: str, port: int, own_target: str) -> HttpLink:
    """Open the sidecar's endpoint at this address. Raises OSError, or NoSidecarThereError if it is somebody else's."""
    connection = http.client.HTTPConnection(host, port, timeout=_STATUS_TIMEOUT_S)
    try:
        # Another program may have this port: no event may be posted to a stranger.
        connection.request("GET", "/status")
        response = connection.getresponse()
        text = response.read(_STATUS_BYTES)
        _finish(response, connection)
        if response.status != 200:
            raise NoSidecarThereError(f"no sidecar answers there, HTTP {response.status}")
        msgspec.json.decode(text, type=_Identity)
    except (http.client.HTTPException, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        connection.close()
        raise NoSidecarThereError("no sidecar answers there") from None
    except BaseException:
        connection.close()
        raise
    name = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return HttpLink(name, connection, PUSH, lambda report: (report.body(own_target), ""))


def _finish(response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
    """Close it rather than wait for what an answer of ours would not have."""
    if not response.isclosed():
        connection.close()


def _pause(patience: Patience, wanted_s: float, why: str) -> None:
    if not patience.left_s:
        raise GaveUpError(why)
    time.sleep(min(wanted_s, patience.left_s))
