"""`sidecar dead`: the events that the proxy refused for good: to be seen, sent again, exported, or dropped."""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from sidecar.cli.control import CommandError, NotRunningError, SilentError, command
from sidecar.cli.options import asking
from sidecar.cli.output import console, counted, print_json, printable, progress, table
from sidecar.cli.streams import names_of, numbers_of, open_lookup
from sidecar.cli.times import When
from sidecar.config import Loaded
from sidecar.core.filters import DeadFilter, Moved
from sidecar.core.units import format_moment
from sidecar.service.control_messages import DeadRound, SeenDead

if TYPE_CHECKING:
    from sidecar.queue import DeadLetter

_SHOWN_CHARACTERS = 200
_NUMBER = click.IntRange(0, 2**63 - 1)


@click.group()
def dead() -> None:
    """List, show, retry, export or purge events that the proxy refused for good.

    Each is kept with the proxy's words, for as long as dead.max_age and dead.max_size say.
    """


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Add the filters."""
    for option in (
        click.option("--until", type=When(time.time), metavar="TIME", help="Refused until TIME."),
        click.option("--since", type=When(time.time), metavar="TIME", help="Refused since TIME; 2h: two hours ago."),
        click.option("--reason", metavar="TEXT", help="With a reason that contains TEXT."),
        click.option("--stream", "streams", multiple=True, metavar="NAME", help="Only this stream (or data_id)."),
    ):
        command = option(command)
    return asking(command)


class Selection:
    """The dead letters that a command is about."""

    def __init__(self, loaded: Loaded, filters: dict[str, Any], ids: tuple[int, ...] = ()) -> None:
        self.loaded = loaded
        self.lookup = open_lookup(loaded)
        self.names = names_of(loaded, self.lookup.streams)
        self.filter = DeadFilter(
            ids=ids or None,
            streams=numbers_of(loaded, self.lookup.streams, filters["streams"]),
            reason=filters["reason"],
            from_ms=filters["since"],
            to_ms=filters["until"],
        )

    @property
    def everything(self) -> bool:
        """Return whether neither numbers nor filters were given, so that all dead letters are selected."""
        return self.filter == DeadFilter()

    def count(self) -> int:
        return self.lookup.count_dead(self.filter)

    def document(self, letter: "DeadLetter") -> dict[str, Any]:
        """Return a dead letter for programs; without the token."""
        stream = self.lookup.streams[letter.stream]
        return {"stream": self.names[letter.stream], "data_id": stream.key.data_id, "kind": stream.key.kind} | {
            field: getattr(letter, field) for field in letter.__struct_fields__ if field != "stream"
        }


@dead.command("list")
@filtered
@click.option("--limit", type=_NUMBER, default=50, show_default=True, help="Show at most this many, the newest.")
@click.option("--json", "as_json", is_flag=True, help="For programs, with the events.")
def list_(loaded: Loaded, *, limit: int, as_json: bool, **filters: Any) -> None:
    """List dead letters, the newest last."""
    selection = Selection(loaded, filters)
    letters = list(selection.lookup.dead(selection.filter, limit))
    if as_json:
        print_json([selection.document(letter) for letter in letters])
        return
    shown = table("id", "stream", "buried", "tried", "reason", "event", numbers=("id", "tried"))
    for letter in letters:
        shown.add_row(
            str(letter.id), selection.names[letter.stream], _time(letter.last_ms), str(letter.attempts),
            printable(letter.reason), _excerpt(letter),
        )  # fmt: skip
    console().print(shown)
    total = selection.count()
    click.echo(counted(total, "dead letter") + (f", the newest {len(letters)} shown" if total > len(letters) else ""))
    with contextlib.suppress(NotRunningError, SilentError, CommandError):  # then it is a reason for longer, that is all
        _acknowledge(loaded)


@dead.command()
@asking
def ack(loaded: Loaded) -> None:
    """Acknowledge all present dead letters: they stay, but are no longer a reason in `sidecar status`."""
    _acknowledge(loaded)
    click.echo("taken note of")


def _acknowledge(loaded: Loaded) -> None:
    with open_lookup(loaded) as lookup:
        last = lookup.last_dead()
    command(loaded.config.state, "/control/dead/ack", SeenDead(last), SeenDead)


@dead.command()
@asking
@click.argument("number", metavar="ID", type=_NUMBER)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(loaded: Loaded, number: int, *, as_json: bool) -> None:
    """Show one dead letter whole."""
    selection = Selection(loaded, _NONE, (number,))
    letter = selection.lookup.letter(number)
    if letter is None:
        raise click.ClickException(f"no dead letter has the number {number}; see `sidecar dead list`")
    if as_json:
        print_json(selection.document(letter))
        return
    stream = selection.lookup.streams[letter.stream]
    for name, value in (
        ("stream", f"{selection.names[letter.stream]} (data_id {stream.key.data_id}, {stream.key.kind})"),
        ("reason", letter.reason),
        ("tried", f"{letter.attempts} times, first {_time(letter.first_ms)}, last {_time(letter.last_ms)}"),
        ("accepted", _time(letter.accepted_ms)),
    ):
        click.echo(f"{name:9} {value}")
    for line in msgspec.json.format(letter.event).decode(errors="replace").splitlines():
        click.echo(printable(line))


@dead.command()
@filtered
@click.argument("ids", metavar="[ID]...", type=_NUMBER, nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All of them.")
def retry(
    loaded: Loaded,
    ids: tuple[int, ...],
    *,
    all_: bool,
    **filters: Any,
) -> None:
    """Put dead letters back into the queue, in a lane of their own.

    Which ones: by number, by filter, or --all. What is refused again becomes a dead letter again.
    """
    selection = _chosen(Selection(loaded, filters, ids), all_=all_)
    moved = _in_rounds(selection, "/control/dead/retry", "putting back")
    _report(moved, ids, "put back into the queue")


@dead.command()
@filtered
@click.argument("ids", metavar="[ID]...", type=_NUMBER, nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All of them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(
    loaded: Loaded,
    ids: tuple[int, ...],
    *,
    all_: bool,
    yes: bool,
    **filters: Any,
) -> None:
    """Drop dead letters for good; they are counted as dropped.

    Which ones: by number, by filter, or --all.
    """
    selection = _chosen(Selection(loaded, filters, ids), all_=all_)
    count = selection.count()
    if count and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"{counted(count, 'dead letter')} would be lost; say --yes")
        click.confirm(f"Drop {counted(count, 'dead letter')} for good?", abort=True)
    _report(_in_rounds(selection, "/control/dead/purge", "dropping"), ids, "dropped")


@dead.command()
@filtered
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A new file (mode 0600), else stdout.")
def export(loaded: Loaded, *, output: Path | None, **filters: Any) -> None:
    """Write dead letters as JSON, one a line, with the event and the reason, and without any token."""
    selection = Selection(loaded, filters)
    if output is None:
        for letter in selection.lookup.dead(selection.filter):
            click.echo(msgspec.json.encode(selection.document(letter)))
        return
    try:
        count = _export(selection, output)
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror}") from None
    click.echo(f"{counted(count, 'dead letter')} written to {output}")


def _export(selection: Selection, output: Path) -> int:
    # Events may hold private data, and no file that exists may be overwritten.
    output.touch(0o600, exist_ok=False)
    count = 0
    with output.open("wb") as file, progress("exporting", selection.count()) as show_progress:
        for letter in selection.lookup.dead(selection.filter):
            file.write(msgspec.json.encode(selection.document(letter)) + b"\n")
            count += 1
            show_progress(count)
    return count


_NONE: dict[str, Any] = {"streams": (), "reason": None, "since": None, "until": None}


def _chosen(selection: Selection, *, all_: bool) -> Selection:
    # A forgotten filter would mean every dead letter, so --all must be said explicitly.
    if selection.everything != all_:
        raise click.UsageError("either --all, or numbers or filters that say which")
    return selection


def _report(moved: int, ids: tuple[int, ...], done: str) -> None:
    click.echo(f"{counted(moved, 'dead letter')} {done}")
    if ids and not moved:
        raise click.ClickException("no dead letters have these numbers; see `sidecar dead list`")


def _in_rounds(selection: Selection, path: str, doing: str) -> int:
    total, after_id, unfit = 0, 0, 0
    with progress(doing, selection.count()) as show_progress:
        while True:
            moved = command(selection.loaded.config.state, path, DeadRound(selection.filter, after_id), Moved)
            total += moved.events
            unfit += moved.unfit
            show_progress(total + unfit)
            if moved.last_id is None:
                break
            after_id = moved.last_id
    if unfit:
        stay = f"{counted(unfit, 'dead letter')} cannot be sent as they are, and stay; see their reasons"
        click.echo(f"{stay} in `sidecar dead list`", err=True)
    return total


def _time(at_ms: int) -> str:
    return format_moment(at_ms)


def _excerpt(letter: "DeadLetter") -> str:
    text = printable(bytes(letter.event).decode(errors="replace"))
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
