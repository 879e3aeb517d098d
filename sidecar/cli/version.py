"""`sidecar version`: which version this is."""

import click

from sidecar import __version__


@click.command()
def version() -> None:
    """Say which version this is, as --version does."""
    click.echo(f"sidecar, version {__version__}")
