"""`sidecar drain`: waits until the queue is empty."""

import sys
import time

import click

from sidecar.cli.control import ask
from sidecar.cli.options import asking
from sidecar.cli.output import counted, progress
from sidecar.config import Loaded
from sidecar.core.units import parse_duration
from sidecar.status.document import Status, decode
from sidecar.status.explain import explain

_LOOK_EVERY_S = 0.25


@click.command()
@asking
@click.option("--timeout", metavar="DURATION", help="Give up after this time, such as 10min. Default: wait for ever.")
def drain(loaded: Loaded, timeout: str | None) -> None:
    """Wait until all that waits has been delivered, with an estimate on a terminal.

    Events dated in the future are not waited for. Exits 1 if it takes too long, with the reasons.
    """
    directory = loaded.config.state
    try:
        give_up_s = time.monotonic() + parse_duration(timeout) if timeout else float("inf")
    except ValueError as error:
        raise click.BadParameter(f"expected {error}", param_hint="--timeout") from None
    status = decode(ask(directory, "/status"))
    start = settled(status)
    with progress("delivering", waiting(status)) as show_progress:
        while waiting(status) and time.monotonic() < give_up_s:
            time.sleep(_LOOK_EVERY_S)
            status = decode(ask(directory, "/status"))
            show_progress(settled(status) - start)
    left = status.books.queued - waiting(status)
    if left:
        click.echo(f"still waiting for their time, since dated in the future: {counted(left, 'event')}")
    if not waiting(status):
        click.echo("the queue is empty" if not left else "all others are delivered")
        return
    click.echo(f"gave up after {timeout}", err=True)
    for stream in status.streams:
        if stream.queued:
            click.echo("\n".join(explain(status, stream, int(time.time() * 1000))), err=True)
    sys.exit(1)


def waiting(status: Status) -> int:
    """Return how many events could be sent now."""
    return sum(lane.queued for stream in status.streams for lane in stream.lanes if lane.name != "scheduled")


def settled(status: Status) -> int:
    """Return how many events wait no longer."""
    return status.books.delivered + status.books.dead + status.books.dropped
