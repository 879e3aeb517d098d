"""Reports on their way, what is open, and what became of the rest. Pure: it knows no connection and no clock.

events ──gather──> reports of one pipe and one kind, as many as fit
source ──next──> open ── taken ──> counted
                 ^  │ └─ refused ──> its halves wait; a single event: a complaint
                 │  └─── connection lost: in front again, in its order
              waiting
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from sidecar.cli.send.event import Item, with_fields
from sidecar.core.errors import Place, Rejection, Scope, SidecarError

_TARGET_BYTES = 64
"""About the bytes that a target needs if it is added when the report is sent."""


class Pipe(msgspec.Struct, frozen=True):
    """The destination of events: a configured stream by name, or a data_id with its token."""

    data_id: int | None
    token: str
    stream: str | None

    def __repr__(self) -> str:
        return f"Pipe(data_id={self.data_id}, token=***, stream={self.stream})"

    @property
    def head(self) -> bytes:
        """Return a report up to its first event."""
        named: dict[str, int | str] = {} if self.stream is None else {"stream": self.stream}
        if self.data_id is not None:
            named |= {"data_id": self.data_id, "access_token": self.token}
        return msgspec.json.encode(named)[:-1] + b',"data":['


class Report(msgspec.Struct, frozen=True):
    """Events that are sent together. `divisible`: when they are refused, the good ones may go without the bad."""

    pipe: Pipe
    items: tuple[Item, ...]
    divisible: bool = True

    def body(self, own_target: str | None) -> bytes:
        """Return the report as JSON, in one line.

        `own_target` stands in where there is none, unless it is None itself.
        """
        return self.pipe.head + self.events(own_target) + b"]}"

    def events(self, own_target: str | None) -> bytes:
        """Return the events, with commas between them."""
        more = {} if own_target is None else {"target": own_target}
        return b",".join([item.json if item.has_target else with_fields(item.json, more) for item in self.items])

    def halves(self) -> "list[Report]":
        """Return the same events in two reports; none if there is nothing to divide."""
        if not self.divisible or len(self.items) < 2:
            return []
        half = len(self.items) // 2
        return [Report(self.pipe, self.items[:half]), Report(self.pipe, self.items[half:])]


class SendLimits(msgspec.Struct, frozen=True):
    """The limits of one report. A single event may be larger: it is sent alone, and the other side decides."""

    events: int
    bytes: int


def gather(found: Iterable[tuple[Pipe, Item] | None], limits: SendLimits) -> Iterator[Report | None]:
    """Report of events in a row; None where there is nothing more at the moment, which goes through at once."""
    gathered: list[Item] = []
    pipe, size = None, 0
    for one in found:
        if one is None:
            yield from _flush(pipe, gathered)
            yield None
            pipe, gathered, size = None, [], 0
            continue
        item_bytes = _size(one[1])
        fits = len(gathered) < limits.events and size + item_bytes <= limits.bytes
        if not gathered or not fits or one[0] != pipe or one[1].kind != gathered[0].kind:
            yield from _flush(pipe, gathered)
            pipe, gathered, size = one[0], [], len(one[0].head) + 2
        gathered.append(one[1])
        size += item_bytes
    yield from _flush(pipe, gathered)


def _flush(pipe: Pipe | None, gathered: list[Item]) -> Iterator[Report]:
    if pipe is not None and gathered:
        yield Report(pipe, tuple(gathered))


def _size(item: Item) -> int:
    return len(item.json) + 1 + (0 if item.has_target else _TARGET_BYTES)


_END = object()
Complain = Callable[[Item, Rejection], None]


class StoppedError(SidecarError):
    """Stop sending: the reason for this refusal applies to all later reports too."""


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
        self.taken_events = self.refused_events = 0  # for good
        self.settled_bytes = 0  # of the file
        self._source, self._complain, self._moved, self._one_pipe = source, complain, moved, one_pipe
        self._waiting: deque[Report] = deque()  # reports to be sent again, or in halves; ahead of the source
        self._open: dict[int, Report] = {}  # by their identity, in the order of sending
        self._paused = self._exhausted = False  # the source has nothing at the moment; or nothing any more

    @property
    def settled_events(self) -> int:
        """Taken or refused for good."""
        return self.taken_events + self.refused_events

    @property
    def is_done(self) -> bool:
        """Return whether everything is settled."""
        return self._exhausted and not self._waiting and not self._open

    def next(self) -> Report | None:
        """Return what is to be sent now.

        None: nothing, until something is settled or, with nothing open, asked again.
        """
        report = self._waiting.popleft() if self._waiting else self._from_source()
        if report is not None:
            self._open[id(report)] = report
        return report

    def taken(self, report: Report) -> None:
        """Note that it is where it should be."""
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
        # In front of all others, and in their order: nothing of the file overtakes them.
        self._waiting.extendleft(reversed(halves))
        if not halves:
            self._give_up(report, why)
        self._moved()

    def take_back(self) -> None:
        """Have what is open sent again, since the connection is lost."""
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
