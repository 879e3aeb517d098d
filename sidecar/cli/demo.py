"""`sidecar demo`: the main job before your eyes, in real processes on loopback, with an outage and a kill -9."""

import click


@click.command()
def demo() -> None:
    """See the whole thing work."""
