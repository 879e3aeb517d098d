"""`sidecar reload`: puts a changed configuration in force without a restart."""

import click

from sidecar.cli.control import command
from sidecar.cli.options import asking
from sidecar.config import Loaded
from sidecar.service.control_messages import Reload, Reloaded


@click.command()
@asking
def reload(loaded: Loaded) -> None:
    """Read the configuration again and put it in force; whatever was on hold is tried at once.

    A wrong one is refused, and the old one stays in force. http, state, queue.durability, queue.when_full and
    proxy.max_body need a restart.
    """
    done = command(loaded.config.state, "/control/reload", Reload(), Reloaded)
    click.echo(f"configuration {done.generation} is in force")
    if done.at_restart:
        click.echo(f"changed, but only after a restart: {', '.join(done.at_restart)}")
