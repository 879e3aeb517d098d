"""`sidecar tails`: every tailed file, how far it was read, what it waits for; and to read it anew, or not at all."""

import time
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from sidecar.cli.control import command
from sidecar.cli.options import load_to_ask, nearer, placed
from sidecar.cli.output import console, counted, print_json, printable, table
from sidecar.config import Loaded
from sidecar.core.units import format_duration, format_moment, format_size
from sidecar.service.control_messages import AskTails, Files, MoveTail
from sidecar.status.tails import ShownFile, ShownLoss, ShownTails

_CATCHING_UP_BYTES = 10_000_000
_LOOK_EVERY_S = 0.5
_MOST_BARS = 20
_MOST_LOSSES = 20


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs: tails, files, losses.")
@click.option("--once", is_flag=True, help="Do not follow files that catch up on a terminal; show them once.")
@placed
@click.pass_context
def tails(ctx: click.Context, *, config: Path | None, state: Path | None, as_json: bool, once: bool) -> None:
    """Show the files of all tails: identity, offset, size, lag, rate, state and why; and what may be lost of them.

    On a terminal, while files catch up, with their progress, until they have.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = (config, state)
        return
    loaded = load_to_ask(config, (), state)
    shown = _ask(loaded)
    if as_json:
        print_json(shown)
        return
    out = console()
    if out.is_terminal and not once and _behind(shown):
        _follow(loaded, out)
        shown = _ask(loaded)
    _show(shown, out)


def _move(action: Literal["reset", "skip"], help_text: str) -> click.Command:
    @click.command(action, help=help_text)
    @click.argument("name")
    @click.option("--path", metavar="PATH", help="Only the file that is there now.")
    @placed
    @click.pass_obj
    def run(
        above: tuple[Path | None, Path | None], *, name: str, path: str | None, config: Path | None, state: Path | None
    ) -> None:
        loaded = load_to_ask(nearer("config", config, above[0]), (), nearer("state", state, above[1]))
        moved = command(
            loaded.config.state, "/control/tails/move", MoveTail(tail=name, action=action, path=path), Files
        )
        done = "read from the beginning" if action == "reset" else "not read up to now"
        click.echo(f"{counted(moved.files, 'file')} of {name}: {done}")

    return run


tails.add_command(
    _move("reset", "Read the files of tail NAME again, except rotated ones: every line is sent once more.")
)
tails.add_command(_move("skip", "Skip the lines that are now in the files of tail NAME; each file gets a receipt."))


def _ask(loaded: Loaded) -> ShownTails:
    return command(loaded.config.state, "/control/tails", AskTails(), ShownTails)


def _behind(shown: ShownTails) -> list[ShownFile]:
    return [file for file in shown.files if file.lag_bytes > _CATCHING_UP_BYTES]


def _follow(loaded: Loaded, out: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    bars = Progress(*columns, console=out)
    tasks: dict[tuple[str, int], int] = {}
    with Live(bars, console=out, transient=True, refresh_per_second=4):
        while behind := _behind(shown := _ask(loaded)):
            for file in behind[:_MOST_BARS]:
                key = (file.tail, file.inode)
                if key not in tasks:
                    tasks[key] = bars.add_task(f"{file.tail} {printable(file.at)}", total=file.size)
            for file in shown.files:
                if (file.tail, file.inode) in tasks:
                    bars.update(tasks[file.tail, file.inode], completed=file.offset, total=file.size)  # type: ignore[arg-type]
            time.sleep(_LOOK_EVERY_S)


def _show(shown: ShownTails, out: Console) -> None:
    for tail in shown.tails:
        notes = [f"waits: {tail.waiting}" if tail.waiting else "", f"polls: {tail.polling}" if tail.polling else ""]
        more = "".join(f"; {note}" for note in notes if note)
        out.print(f"tail {tail.name} -> {tail.stream}: {counted(tail.files, 'file')}, "
                  f"{format_size(tail.lag_bytes)} behind{more}")  # fmt: skip
    numbers = ("offset", "size", "lag", "rate")
    files = table("tail", "file", "inode", *numbers, "last event", "state", "why", numbers=numbers)
    now_ms = int(time.time() * 1000)
    for file in shown.files:
        at = f" (now {printable(file.at)})" if file.at != file.path else ""
        lag = f"{format_size(file.lag_bytes)}, {format_duration(file.lag_s)}" if file.lag_bytes else "-"
        last = f"{format_duration((now_ms - file.last_event_at) / 1000)} ago" if file.last_event_at else "-"
        files.add_row(
            file.tail, printable(file.path) + at, f"{file.device}:{file.inode}", str(file.offset), str(file.size), lag,
            f"{format_size(file.rate_bytes_s)}/s", last, file.state, printable(file.why or ""),
        )  # fmt: skip
    if shown.files:
        out.print()
        out.print(files)
    if shown.losses:
        out.print("\nwhat may be lost of files:")
        for loss in shown.losses[-_MOST_LOSSES:]:
            out.print(f"  {_loss_line(loss)}")


def _loss_line(loss: ShownLoss) -> str:
    many = "nobody knows how many bytes" if loss.at_most is None else f"at most {counted(loss.at_most, 'byte')}"
    return (
        f"{_time(loss.found_at)}  {loss.tail} {printable(loss.path)} from offset {loss.offset}: {many}, "
        f"between {_time(loss.since_at)} and then: {printable(loss.why)}"
    )


def _time(moment_ms: int) -> str:
    return format_moment(moment_ms)
