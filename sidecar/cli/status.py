"""`sidecar status`: the books and the state of everything, from the running sidecar or from the disk."""

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table

from sidecar.cli.control import NotRunningError, SilentError, ask, ask_over_http
from sidecar.cli.options import configured, load_to_ask
from sidecar.cli.output import console, counted, print_json, table
from sidecar.config import Options, load_readable
from sidecar.core.errors import ConfigError, SidecarError, StartError
from sidecar.core.model import Books
from sidecar.core.units import format_duration, format_size
from sidecar.service.paths import queue_file
from sidecar.status.document import InputStatus, Status, StreamStatus, decode
from sidecar.status.figures import figures_of, numbers_of

_MOST_STREAMS = 40
_OK, _WARNING, _CRITICAL, _UNKNOWN = range(4)
_NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_COLOURS = {"ok": "green", "degraded": "yellow", "failing": "red"}


@click.command()
@configured
@click.option("--json", "as_json", is_flag=True, help="The status document, as GET /status gives it.")
@click.option("--all", "all_", is_flag=True, help="Every stream, also if there are hundreds.")
@click.option("--check", is_flag=True, help="One line, and the exit code of a monitoring plugin: 0, 1, 2 or 3.")
def status(
    config: Path | None, proxies: tuple[str, ...], state: Path | None, *, as_json: bool, check: bool, all_: bool
) -> None:
    """Show the books, the queue, the streams, the proxies and the inputs.

    Exits 1 if the sidecar is failing, or not running; then the books come from the disk. A user
    who may not use the control socket gets the status over HTTP (http.listen).
    """
    try:
        answer = _ask(config, proxies, state)
    except NotRunningError as error:
        if check:
            _exit_as_plugin(_CRITICAL, str(error))
        _show_stopped(load_to_ask(config, proxies, state).config.state, as_json=as_json)
        sys.exit(1)
    except SilentError as error:
        if check:
            _exit_as_plugin(_CRITICAL, str(error))
        raise
    except SidecarError as error:
        if check:
            _exit_as_plugin(_UNKNOWN, str(error))
        raise
    document = decode(answer)
    if check:
        _check(document)
    if as_json:
        print_json(answer)
    else:
        _show(document, console(), most=len(document.streams) if all_ else _MOST_STREAMS)
    sys.exit(1 if document.state == "failing" else 0)


def _ask(config: Path | None, proxies: tuple[str, ...], state: Path | None) -> bytes:
    """Return the status document. Raises ConfigError, NotRunningError or SilentError."""
    try:
        return ask(load_to_ask(config, proxies, state).config.state, "/status")
    except NotRunningError as error:
        # A sidecar may well run here: this user just may not open its control socket. So HTTP is tried.
        if not isinstance(error.__cause__, PermissionError):
            raise
    except ConfigError:
        if config is not None or state is not None:
            raise
    return ask_over_http(load_readable(Options(config=config), os.environ).config.http.listen)


def _check(document: Status) -> NoReturn:
    books = document.books
    words = "; ".join(document.reasons) or f"{books.delivered} events delivered, {books.queued} wait"
    figures = " ".join(f"{name}={getattr(books, name)}" for name in ("queued", "dead", "dropped"))
    used = f"queue={document.queue.bytes}B;;;0;{document.queue.max_bytes}"
    _exit_as_plugin({"ok": _OK, "degraded": _WARNING, "failing": _CRITICAL}[document.state], words, f"{figures} {used}")


def _exit_as_plugin(code: int, words: str, figures: str = "") -> NoReturn:
    """Print one line and exit, as the Monitoring Plugins guidelines have it."""
    line = " ".join(words.replace("|", "/").split())
    click.echo(f"SIDECAR {_NAMES[code]} - {line}{f' | {figures}' if figures else ''}")
    sys.exit(code)


def _show(document: Status, out: Console, *, most: int) -> None:
    out.print(document.state, style=_COLOURS[document.state], end="")
    out.print(f"  sidecar {document.version}, pid {document.pid}")
    for reason in document.reasons:
        out.print(f"  {reason}")
    books, queue = document.books, document.queue
    out.print(
        _books_line(Books(books.accepted, books.queued, books.delivered, books.dead, books.dropped), books.balanced)
    )
    full = f", full in {format_duration(queue.full_in_s)}" if queue.full_in_s is not None else ""
    if queue.through_in_s is not None:
        full = f", through in about {format_duration(queue.through_in_s)}"
    oldest = f", oldest event {format_duration(queue.oldest_age_s)} old" if queue.oldest_age_s else ""
    out.print(f"queue: {format_size(queue.bytes)} of {format_size(queue.max_bytes)}{oldest}{full}\n")
    shown = sorted(document.streams, key=_by_interest)[:most] if len(document.streams) > most else document.streams
    out.print(_streams(shown))
    if len(shown) < len(document.streams):
        out.print(f"... and {len(document.streams) - len(shown)} more, in which less is going on; --all shows them")
    for proxy in document.proxies:
        error = f": {proxy.last_error}" if proxy.last_error else ""
        clock = proxy.clock_ahead_s
        ahead = f", its clock {clock:+.0f} s" if clock is not None and abs(clock) >= 2 else ""
        out.print(f"proxy {proxy.url} {proxy.state}{ahead}{error}")
    for figure in _figures(queue):
        out.print(figure)
    for entry in document.inputs:
        out.print(_input_line(entry))


def _by_interest(stream: StreamStatus) -> tuple[bool, int, int, int]:
    """Order what has trouble first, then what waits, then what does most."""
    return stream.last_error is None, -stream.queued, -stream.dead, -stream.accepted


def _streams(streams: list[StreamStatus]) -> Table:
    numbers = ("accepted", "queued", "delivered", "dead", "dropped", "oldest", "req/min")
    shown = table("stream", "data_id", "state", *numbers, "next", "last error", numbers=numbers)
    now_ms = int(time.time() * 1000)
    for s in streams:
        counts = map(str, (s.accepted, s.queued, s.delivered, s.dead, s.dropped))
        oldest = format_duration(s.oldest_age_s) if s.oldest_age_s else "-"
        wait_ms = s.next_attempt_at - now_ms if s.next_attempt_at else None
        after = "-" if wait_ms is None else f"in {format_duration(wait_ms / 1000)}" if wait_ms > 0 else "now"
        aside = ", ".join(f"{lane.queued} {lane.name}" for lane in s.lanes if lane.name != "fresh")
        state = f"{s.state} ({aside})" if aside else s.state
        shown.add_row(
            s.name, str(s.data_id), state, *counts, oldest, f"{s.rate_per_min:.0f}", after,
            s.last_error or (f"waits: {s.waits_for}" if s.waits_for else ""),
        )  # fmt: skip
    return shown


def _input_line(entry: InputStatus) -> str:
    parts = [counted(entry.events, "event"), f"{entry.rejected} refused", *_figures(entry)]
    return f"input {entry.name}: {', '.join(parts)}"


def _figures(part: msgspec.Struct) -> list[str]:
    """Return in words the figures that have no place of their own, where they are not zero."""
    return [
        f"{figure.words}{f' ({key})' if key else ''}: {format_size(int(number)) if figure.size else int(number)}"
        for name, figure in figures_of(type(part)).items()
        if figure.words
        for key, number in numbers_of(part, name, figure)
        if number
    ]


def _books_line(books: Books, balanced: bool) -> str:
    verdict = "balanced" if balanced else "NOT BALANCED, please report this bug"
    return (
        f"books: accepted {books.accepted} = queued {books.queued} + delivered {books.delivered}"
        f" + dead {books.dead} + dropped {books.dropped}: {verdict}"
    )


def _show_stopped(directory: Path, *, as_json: bool) -> None:
    path = queue_file(directory)
    if not path.exists():
        raise StartError(f"no sidecar runs on {directory}, and none ever did: there is no {path.name}")
    from sidecar.queue import books_on_disk  # noqa: PLC0415  # half of the start, for where no sidecar runs

    books, mismatches = books_on_disk(path)
    balanced = books.balanced and not mismatches
    if as_json:
        counts = msgspec.to_builtins(books) | {"balanced": balanced}
        print_json({"state": "stopped", "reasons": mismatches, "books": counts})
        return
    click.echo(f"stopped  no sidecar runs on {directory}")
    click.echo(_books_line(books, balanced))
    for line in mismatches:
        click.echo(f"  {line}")
