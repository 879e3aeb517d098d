"""`sidecar try`: shows what the lines of a file would become, without queueing anything."""

import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import BinaryIO

import click
import msgspec

from sidecar.cli.options import located
from sidecar.cli.output import counted
from sidecar.cli.sample import sample
from sidecar.config import Loaded
from sidecar.inputs.tail import SUFFIXES, OpenFile, open_source


class _Inside:
    """The content of a compressed file, from the beginning on."""

    def __init__(self, source: OpenFile) -> None:
        self._source, self._place = source, 0

    def read(self, size: int) -> bytes:
        """Empty at the end."""
        part = self._source.read(size, self._place)
        self._place += len(part)
        return part


@click.command("try")
@click.option("--tail", "name", metavar="NAME", required=True, help="The tail of the configuration whose rules count.")
@click.option("--path", metavar="PATH", help="As if the file were there. Default: its own path.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Show at most N events.")
@click.argument("file", type=click.File("rb"), metavar="FILE")
@located
def try_(loaded: Loaded, name: str, path: str | None, limit: int | None, file: BinaryIO) -> None:
    """Show what each line of FILE (- for standard input) would become: events as JSON, one on a line.

    What would become none is counted on standard error. Nothing is queued, and no sidecar needs to run.
    """
    tails = loaded.config.tails
    if name not in tails:
        raise click.BadParameter(
            f"no tail {name} is configured; there are: {', '.join(tails) or 'none'}", param_hint="--tail"
        )
    where = path or os.path.abspath(getattr(file, "name", "-"))  # noqa: PTH100
    read: Callable[[int], bytes] = file.read
    if where.endswith(SUFFIXES) and path is None:
        read = _Inside(open_source(where)).read
    shown, totals = 0, Counter[str]()
    dead = 0
    for part in sample(loaded.config, name, read, where, socket.gethostname(), int(time.time() * 1000)):
        totals.update({what: n for what, n in msgspec.structs.asdict(part.counts).items() if isinstance(n, int)})
        for event in part.events:
            if limit is not None and shown >= limit:
                return
            click.echo(msgspec.json.encode(event).decode())
            shown += 1
        for event, reason in part.dead:
            dead += 1
            click.echo(f"dead letter ({reason}): {msgspec.json.encode(event).decode()}", err=True)
    notes = [f"{count} {what}" for what, count in totals.items() if count]
    click.echo(
        ", ".join([counted(shown, "event"), *([counted(dead, "dead letter")] if dead else []), *notes]), err=True
    )
    sys.stdout.flush()
