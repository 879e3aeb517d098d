"""`sidecar retry`: tries a stream at once, whatever it waits for."""

import click

from sidecar.cli.control import command
from sidecar.cli.options import asking
from sidecar.cli.output import counted
from sidecar.config import Loaded
from sidecar.core.model import Books
from sidecar.service.control_messages import Retry


@click.command()
@asking
@click.argument("stream")
def retry(loaded: Loaded, stream: str) -> None:
    """Try STREAM (a name or a data_id) at once, whatever it waits for; only the rate still counts."""
    directory = loaded.config.state
    books = command(directory, "/control/retry", Retry(stream), Books)
    waiting = counted(books.queued, "event")
    click.echo(f"{stream}: released, {waiting} waiting; `sidecar why {stream}` tells how it goes")
