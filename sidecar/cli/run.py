"""`sidecar run`: the sidecar in the foreground, until a signal."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Literal

import click
import structlog
import uvloop

from sidecar import log
from sidecar.app import Sidecar
from sidecar.cli.options import configured, options_of
from sidecar.config import load_config

logger = structlog.get_logger("sidecar")


@click.command()
@configured
@click.option(
    "--log-format",
    type=click.Choice(["logfmt", "json"]),
    default="logfmt",
    show_default=True,
    help="Lines of key=value, or one JSON object a line.",
)
def run(
    config: Path | None, proxies: tuple[str, ...], state: Path | None, log_format: Literal["logfmt", "json"]
) -> None:
    """Run the sidecar in the foreground.

    Takes reports on http.listen (127.0.0.1:10205) like the proxy itself, keeps them on disk, and forwards them.
    SIGTERM or Ctrl-C stops it in order; a second one at once.
    """
    os.umask(0o077)
    options = options_of(config, proxies, state)
    sidecar = Sidecar(lambda: load_config(options, os.environ), os.environ)
    log.set_up(log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(sidecar))


async def _run(sidecar: Sidecar) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, _signalled, stop)
    starting, told = asyncio.create_task(sidecar.start()), asyncio.create_task(stop.wait())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
        await told
    await sidecar.stop()


def _signalled(stop: asyncio.Event) -> None:
    if stop.is_set():
        logger.warning("forced to stop; what was acknowledged is on disk")
        os._exit(1)
    stop.set()
