"""Does what the options say: finds the way, sends, tells how far it came, and says at the end what is on disk."""

import contextlib
import time
import uuid
from collections.abc import Iterator

import click
import msgspec

from sidecar.cli.output import counted, printable, progress
from sidecar.cli.send.beat import Beat, make_message, make_report
from sidecar.cli.send.delivery import GaveUpError, Patience, SendError, deliver
from sidecar.cli.send.destination import SendWay, Where, find_way, find_way_of_beat
from sidecar.cli.send.event import Given, Item
from sidecar.cli.send.lines import Line, items_of
from sidecar.cli.send.outbox import Complain, Pipe, Report, ReportOutbox, StoppedError, gather
from sidecar.cli.send.reading import opened, read_lines
from sidecar.core.errors import Rejected, Rejection
from sidecar.core.units import format_duration

_TIMEOUT_S, _FILE_TIMEOUT_S = 30.0, 300.0


class SendJob(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one `sidecar send`, except the events. `timeout_s` None: the default for what is sent."""

    where: Where
    timeout_s: float | None
    quiet: bool


class ErrorReport:
    """Says what is wrong with events, each with its place, on standard error; counts them."""

    def __init__(self, file: str | None) -> None:
        self.count = 0
        self._file = file

    def line(self, number: int, why: str) -> None:
        """Say that a line of the file is no event, or cannot be one."""
        self.count += 1
        place = "" if self._file is None else f"{self._file}:{number}: "
        click.echo(f"sidecar: {place}{printable(why)}", err=True)

    def item(self, item: Item, why: Rejection) -> None:
        """Say that an event was refused; it went alone, so its place in the report was the first."""
        place = why.place
        if place[:2] == ("data", 0):
            place = place[2:] if item.index is None else ("data", item.index, *place[2:])
        self.line(item.line, msgspec.structs.replace(why, place=place).message)

    def whole(self, _: Item, why: Rejection) -> None:
        """Say that a report was refused, which was not to be divided."""
        self.line(0, why.message)


def send_event(job: SendJob, pipe: Pipe, item: Item) -> None:
    """Send one event. Raises SidecarError unless it is on disk."""
    errors = ErrorReport(None)
    way = find_way(job.where)
    sent = _run(job, way, iter([Report(pipe, (item,))]), errors.item, one_pipe=True)
    if errors.count:
        raise click.exceptions.Exit(1)
    _say(job, sent)


def send_file(job: SendJob, pipe: Pipe | None, given: Given, name: str) -> None:
    """Send what stands in a file. Raises SidecarError unless all of it is on disk."""
    errors = ErrorReport("<stdin>" if name == "-" else name)
    with opened(name) as (file, size):
        way = find_way(job.where)
        found = _found(read_lines(file), pipe, given, errors)
        sent = _run(
            job, way, gather(found, way.limits), errors.item, one_pipe=pipe is not None, name=name, size=size
        )  # fmt: skip
    _say(job, sent)
    if errors.count:
        raise SendError(f"{errors.count} refused, see above")


def send_as_beat(job: SendJob, beat: Beat) -> None:
    """Do what `bkmonitorbeat -report` would do, but through the sidecar. Raises SidecarError unless it is done."""
    try:
        message = make_message(beat, _now_ms())
    except ValueError as error:
        raise SendError(str(error)) from None
    report, errors = make_report(message, beat["report.message.kind"]), ErrorReport(None)
    way = find_way_of_beat(job.where, beat)
    _run(job, way, iter([report]), errors.whole, one_pipe=True)
    if errors.count:
        raise click.exceptions.Exit(1)
    if beat.over_http and not job.quiet:
        click.echo(printable(way.link.last_answer.decode(errors="replace").strip()) or _acknowledgement())


def _found(
    lines: Iterator[Line | None], pipe: Pipe | None, given: Given, errors: ErrorReport
) -> Iterator[tuple[Pipe, Item] | None]:
    for line in lines:
        if line is None:
            yield None
            continue
        try:
            its_pipe, items = items_of(line, pipe, given, _now_ms())
        except Rejected as rejected:
            errors.line(line.number, rejected.why.message)
            continue
        for item in items:
            yield its_pipe, item


def _run(
    job: SendJob, way: SendWay, source: Iterator[Report | None], complain: Complain, *,
    one_pipe: bool, name: str | None = None, size: int = 0,
) -> int:  # fmt: skip
    """Return how many events are where they should be."""
    timeout_s = job.timeout_s or (_TIMEOUT_S if name is None else _FILE_TIMEOUT_S)
    patience = Patience(timeout_s, time.monotonic)
    shown = contextlib.nullcontext(_nothing) if name is None else progress("sending, KB", size // 1000)
    with shown as show_progress:

        def moved() -> None:
            patience.moved()
            show_progress(outbox.settled_bytes // 1000)

        outbox = ReportOutbox(source, complain=complain, moved=moved, one_pipe=one_pipe)
        try:
            deliver(way.link, outbox, patience, connect=way.connect, distrust=way.distrust)
        except StoppedError as stopped:
            raise SendError(f"{printable(str(stopped))}{_so_far(outbox, name)}") from None
        except GaveUpError as gave_up:
            how = "" if patience.left_s else f"gave up after {format_duration(timeout_s)}: "
            raise SendError(f"{how}{gave_up}{_so_far(outbox, name)}") from None
        except KeyboardInterrupt:
            raise SendError(f"interrupted{_so_far(outbox, name)}") from None
    return outbox.taken_events


def _so_far(outbox: ReportOutbox, name: str | None) -> str:
    """Return what may be relied upon, where not all was done."""
    if name is None:
        return ""
    line = outbox.first_unsettled_line()
    rest = "" if line is None or line < 2 else f", all good ones before line {line} among them"
    return f"; {counted(outbox.taken_events, 'event')} on disk{rest}"


def _say(job: SendJob, sent: int) -> None:
    if not job.quiet:
        click.echo(f"{counted(sent, 'event')} on disk")


def _nothing(_: int) -> None:
    pass


def _acknowledgement() -> str:
    answer = {"code": "200", "message": "success", "request_id": str(uuid.uuid4()), "result": "true"}
    return msgspec.json.encode(answer).decode()


def _now_ms() -> int:
    return int(time.time() * 1000)
