"""`sidecar replay`: sends kept deliveries again, after an incident behind the proxy."""

import time

import click

from sidecar.cli.control import command
from sidecar.cli.options import asking
from sidecar.cli.output import counted, progress
from sidecar.cli.streams import numbers_of, open_lookup
from sidecar.cli.times import When
from sidecar.config import Loaded, is_own_listener, parse_url
from sidecar.core.filters import KeptFilter, Moved
from sidecar.service.control_messages import Cancel, ReplayRound


@click.command()
@asking
@click.option("--from", "from_ms", type=When(time.time), metavar="TIME",
              help="Only deliveries since TIME: 2026-01-31T08:00, or 2h for two hours ago.")  # fmt: skip
@click.option("--to", "to_ms", type=When(time.time), metavar="TIME", help="Only deliveries until TIME. Default: now.")
@click.option("--stream", "streams", multiple=True, metavar="NAME", help="Of this stream (or data_id) only.")
@click.option("--proxy", "target", metavar="URL", help="Send them to this proxy instead of the usual ones.")
@click.option("--cancel", is_flag=True, help="Drop what still waits to be replayed instead.")
@click.option("--dry-run", is_flag=True, help="Only say how many events that would be.")
def replay(
    loaded: Loaded,
    from_ms: int | None,
    to_ms: int | None,
    streams: tuple[str, ...],
    target: str | None,
    *,
    dry_run: bool,
    cancel: bool,
) -> None:
    """Send deliveries again that queue.keep_delivered has kept.

    They go out in a lane of their own, after new events, and are counted as accepted once more.
    """
    if cancel:
        if from_ms is not None or to_ms is not None or streams or target or dry_run:
            raise click.UsageError("--cancel takes back every replay, and goes with no other option")
        moved = command(loaded.config.state, "/control/replay/cancel", Cancel(), Moved)
        click.echo(f"{counted(moved.events, 'event')} dropped that waited to be replayed")
        return
    # A fixed end: deliveries that happen during the replay must not be replayed as well.
    to_ms = int(time.time() * 1000) if to_ms is None else to_ms
    if from_ms is None:
        raise click.UsageError("--from is missing")
    try:
        target = parse_url(target) if target else None
    except ValueError as error:
        raise click.BadParameter(f"expected {error}", param_hint="--proxy") from None
    if target and is_own_listener(target, loaded.config.http.listen):
        raise click.BadParameter("this is the sidecar's own http.listen", param_hint="--proxy")
    if from_ms > to_ms:
        raise click.UsageError("--from is later than --to")
    with open_lookup(loaded) as lookup:
        wanted = KeptFilter(streams=numbers_of(loaded, lookup.streams, streams), from_ms=from_ms, to_ms=to_ms)
        count = lookup.count_kept(wanted)
    if not count and not loaded.config.queue.keep_delivered:
        raise click.ClickException("nothing is kept: queue.keep_delivered is 0s")
    if dry_run:
        click.echo(f"{counted(count, 'event')} would be sent again")
        return
    total, after_id = 0, 0
    with progress("queueing again", count) as show_progress:
        while True:
            asked = ReplayRound(wanted, target, after_id)
            moved = command(loaded.config.state, "/control/replay", asked, Moved)
            total += moved.events
            show_progress(total)
            if moved.last_id is None:
                break
            after_id = moved.last_id
    click.echo(f"{counted(total, 'event')} queued again; `sidecar drain` waits for them")
