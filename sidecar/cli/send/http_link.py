"""Posts reports over HTTP, one after the other, and opens the sidecar's own endpoint for that.

What goes directly to a proxy is made in `direct.py`; what an answer means is the business of `verdict.py`.
"""

import http.client
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from sidecar.cli.send import verdict
from sidecar.cli.send.link import BrokenError, GaveUpError, Patience
from sidecar.cli.send.outbox import ReportOutbox, StoppedError
from sidecar.cli.send.report import Report
from sidecar.core.errors import Rejected, Rejection
from sidecar.forward import Reply

PUSH = "/v2/push/"
_ANSWER_BYTES = 65_536
_STATUS_BYTES = 16_000_000
TIMEOUT_S = 30.0
_STATUS_TIMEOUT_S = 5.0
_PAUSE_S = 1.0
MakeBody = Callable[[Report], tuple[bytes, str]]
"""The body, and a token that the other side might repeat in its words; the sidecar never does. Raises Rejected."""


class NoSidecarThereError(Exception):
    """Something else answers at the address; the text says what it is, as far as that is known."""


class HttpLink:
    """One kept-alive connection; `last_answer` is the body of the last acknowledgement."""

    last_answer = b""

    def __init__(self, name: str, connection: http.client.HTTPConnection, path: str, make_body: MakeBody) -> None:
        self.name = name
        self._connection, self._path, self._make_body = connection, path, make_body
        self._heard = False

    def carry(self, outbox: ReportOutbox, patience: Patience) -> None:
        """Until all is settled. Raises BrokenError, GaveUpError, StoppedError."""
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
                case verdict.Accepted():
                    outbox.taken(report)
                    return
                case Rejection() as why:
                    outbox.rejected(report, why)
                    return
                case verdict.Later(why=words, after_s=after_s):
                    _pause(patience, _PAUSE_S if after_s is None else after_s, f"{self.name}: {words}")
                case verdict.Elsewhere(why=words):
                    raise StoppedError(f"{self.name}: {words}")

    def _post(self, body: bytes, token: str, patience: Patience) -> verdict.Verdict:
        try:
            self._limit_time(patience)
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            answer = response.read(_ANSWER_BYTES)
            _finish(response, self._connection)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise BrokenError(f"{self.name}: {_words(error)}", silent=not self._heard) from None
        self._heard = True
        found = verdict.judge(Reply(response.status, headers, answer), datetime.now(UTC), token=token)
        if isinstance(found, verdict.Accepted):
            self.last_answer = answer
        return found

    def _limit_time(self, patience: Patience) -> None:
        self._connection.timeout = min(TIMEOUT_S, max(0.1, patience.left_s))
        if self._connection.sock is not None:
            self._connection.sock.settimeout(self._connection.timeout)


class _Identity(msgspec.Struct):
    """What only a sidecar's status has, among all that might answer."""

    version: str
    books: dict[str, int | bool]


def open_sidecar(host: str, port: int, own_target: str) -> HttpLink:
    """The sidecar's endpoint at this address. Raises OSError, or NoSidecarThereError if it is somebody else's."""
    connection = http.client.HTTPConnection(host, port, timeout=_STATUS_TIMEOUT_S)
    try:
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
    """Does not wait for what an answer of ours would not have."""
    if not response.isclosed():
        connection.close()


def _pause(patience: Patience, wanted_s: float, why: str) -> None:
    if not patience.left_s:
        raise GaveUpError(why)
    time.sleep(min(wanted_s, patience.left_s))


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
