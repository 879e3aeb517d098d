"""What is still to be sent, what is open, and what became of the rest. Pure: it knows no connection and no clock.

source ──next──> open ── taken ──> counted
                 ^  │ └─ refused ──> its halves wait; a single event: a complaint
                 │  └─── connection lost: in front again, in its order
              waiting
"""

from collections import deque
from collections.abc import Callable, Iterator

from sidecar.cli.send.event import Item
from sidecar.cli.send.report import Report
from sidecar.core.errors import Place, Rejection, Scope, SidecarError

_END = object()
Complain = Callable[[Item, Rejection], None]


class StoppedError(SidecarError):
    """What was refused holds for everything that would follow."""


def rejected_as(problem: str, place: Place, scope: str) -> Rejection:
    """Return what an answer says. A scope that is not known is that of the report."""
    known: dict[str, Scope] = {"event": "event", "stream": "stream"}
    return Rejection(400, problem, place, known.get(scope, "report"))


class ReportOutbox:
    """`source` gives reports, and None where it would have to wait for more; it is then asked again, and may wait.

    It is not asked while something is open: nobody would listen to the answers. `complain` is told each event that is
    refused for good, `moved` that something new was taken up or settled. With `one_pipe` everything goes to the same
    pipe, and a refusal of that is the end.
    """

    def __init__(
        self, source: Iterator[Report | None], *, complain: Complain, moved: Callable[[], None], one_pipe: bool
    ) -> None:
        self.taken_events = self.refused_events = self.settled_bytes = 0
        self._source, self._complain, self._moved, self._one_pipe = source, complain, moved, one_pipe
        self._waiting: deque[Report] = deque()
        self._open: dict[int, Report] = {}
        self._paused = self._exhausted = False

    @property
    def settled_events(self) -> int:
        """Taken or refused for good."""
        return self.taken_events + self.refused_events

    @property
    def is_done(self) -> bool:
        """Return whether everything is settled."""
        return self._exhausted and not self._waiting and not self._open

    def next(self) -> Report | None:
        """What is to be sent now; None: nothing, until something is settled or, with nothing open, asked again."""
        report = self._waiting.popleft() if self._waiting else self._from_source()
        if report is not None:
            self._open[id(report)] = report
        return report

    def taken(self, report: Report) -> None:
        """It is where it should be."""
        del self._open[id(report)]
        self.taken_events += len(report.items)
        self._settled(report)

    def rejected(self, report: Report, why: Rejection) -> None:
        """Give up a report, or try its halves. Raises StoppedError if nothing else of the one pipe will be taken."""
        for_all = why.scope == "stream"
        if for_all and self._one_pipe:
            raise StoppedError(why.message)
        del self._open[id(report)]
        halves = [] if for_all else report.halves()
        self._waiting.extendleft(reversed(halves))
        if not halves:
            self._give_up(report, why)
        self._moved()

    def take_back(self) -> None:
        """The connection is lost: what is open is to be sent again."""
        self._waiting.extendleft(reversed(self._open.values()))
        self._open.clear()

    def first_unsettled_line(self) -> int | None:
        """Return the first line of the file that is not settled, among those that were read."""
        lines = [report.items[0].line for report in (*self._waiting, *self._open.values())]
        return min(lines) if lines else None

    def _from_source(self) -> Report | None:
        if self._exhausted or (self._paused and self._open):
            return None
        report = next(self._source, _END)
        self._exhausted, self._paused = report is _END, report is None
        if not isinstance(report, Report):
            return None
        self._moved()
        return report

    def _give_up(self, report: Report, why: Rejection) -> None:
        self.refused_events += len(report.items)
        told = None
        for item in report.items:
            if told is None or item.line != told:
                self._complain(item, why)
            told = item.line
        self._settled(report)

    def _settled(self, report: Report) -> None:
        self.settled_bytes += sum(item.size_bytes for item in report.items)
        self._moved()
