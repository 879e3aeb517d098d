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

from sidecar.cli.options import configured, options_of
from sidecar.config import load_config
from sidecar.core.errors import Rejected
from sidecar.host import log
from sidecar.service.app import Sidecar

_LAST_LINES_S = 1.0
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
    SIGTERM or Ctrl-C stops it in order; a second one at once. SIGUSR1 reads the configuration again.
    """
    hold_standard_descriptors()
    # The state holds events and access tokens: new files are for this user alone.
    os.umask(0o077)
    options = options_of(config, proxies, state)
    sidecar = Sidecar(lambda: load_config(options, os.environ), os.environ)
    log.set_up(log_format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(sidecar))
    finally:
        # A daemon thread writes the log, and would end with the process before its last lines.
        log.flush(_LAST_LINES_S)


async def _run(sidecar: Sidecar) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # SIGHUP means here that the terminal has gone; SIGUSR1 is for the reload.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) wants it to stay ignored
            loop.add_signal_handler(number, _signalled, stop)
    reloads: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGUSR1, _reload, sidecar, reloads)
    starting, told = asyncio.create_task(sidecar.start()), asyncio.create_task(stop.wait())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
        await told
    await sidecar.stop()


def _reload(sidecar: Sidecar, reloads: set[asyncio.Task[None]]) -> None:
    """Reload as `sidecar reload` does; who sends a signal finds the outcome in the log."""
    task = asyncio.get_running_loop().create_task(_reload_and_say(sidecar), name="reload")
    # The event loop keeps only a weak reference: without this one the task could vanish half-way.
    reloads.add(task)
    task.add_done_callback(reloads.discard)


async def _reload_and_say(sidecar: Sidecar) -> None:
    if not sidecar.is_running:
        logger.warning("reload ignored while starting or stopping")
        return
    with contextlib.suppress(Rejected):  # which it has logged
        await sidecar.reloader.reload()


def hold_standard_descriptors() -> None:
    """Let no socket get the number of a standard stream that was closed: whatever prints there would write into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one


def _signalled(stop: asyncio.Event) -> None:
    if stop.is_set():
        logger.warning("second signal: stopping at once; acknowledged events are on disk")
        log.flush(_LAST_LINES_S)
        # Not sys.exit(): that would go on with the orderly stop, which the second signal is to cut short.
        os._exit(1)
    stop.set()
