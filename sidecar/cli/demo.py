"""`sidecar demo`: the main job before your eyes, in real processes on loopback, with an outage and a kill -9.

producer ──POST───> sidecar ──> stand-in proxy        every event is numbered; at the end the numbers that the
producer ──socket─> (process)   (process)             sidecar acknowledged, or that were logged, are held against
producer ──file───>                                   those that arrived
(threads)
"""

import contextlib
import itertools
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from sidecar.cli.demo_parts import SidecarProcess, StandInProcess, free_port
from sidecar.cli.demo_producers import HttpProducer, LogProducer, Producer, SocketProducer
from sidecar.cli.output import console, table
from sidecar.core.model import Books

_LOOK_EVERY_S = 0.2
_DRAIN_S = 45.0


@click.command()
@click.option("--pace", type=click.FloatRange(0.1, 10), default=1.0, show_default=True, help="0.5: half as long.")
def demo(pace: float) -> None:
    """See the whole thing work: events, an outage, a kill -9, the recovery and the books.

    Everything runs on free ports of 127.0.0.1 in a temporary directory, and is gone afterwards. Exits 1 if an
    acknowledged event was lost or the books do not balance.
    """
    with (
        tempfile.TemporaryDirectory(prefix="sidecar-demo-") as directory,
        StandInProcess(Path(directory)) as stand_in,
        SidecarProcess(Path(directory), free_port(), stand_in.url) as sidecar,
    ):
        play = _Play(stand_in, sidecar, console(), pace)
        play.run()
        good = play.settle()
    sys.exit(0 if good else 1)


class _Play:
    """The scenes, one after the other."""

    def __init__(self, stand_in: StandInProcess, sidecar: SidecarProcess, out: Console, pace: float) -> None:
        self._stand_in, self._sidecar, self._out, self._pace = stand_in, sidecar, out, pace
        numbers = itertools.count()  # one for all: to take the next is atomic
        self._producers: list[Producer] = [
            HttpProducer(sidecar.port, numbers),
            SocketProducer(sidecar.socket, numbers),
            LogProducer(sidecar.log_file, numbers),
        ]
        self._started_s = time.monotonic()

    def run(self) -> None:
        """Five scenes; the last ends when nothing waits any more."""
        self._say(
            f"a stand-in proxy listens on {self._stand_in.url}, the sidecar on {self._sidecar.url}, "
            "on a socket, and at the end of a log file"
        )
        with contextlib.ExitStack() as running:
            for producer in self._producers:
                running.enter_context(producer)
            self._scene("events go through", 4)
            self._stand_in.fault("down")
            self._scene("the proxy is down: everything waits on disk, nobody is refused", 5)
            self._sidecar.kill()
            self._scene("kill -9: the sidecar is gone, the producers try again and again", 1)
            self._sidecar.start()
            self._scene("started again: what was acknowledged is still there", 4)
            self._stand_in.fault("none")
            self._scene("the proxy is back: the queue drains while events go on", 4)
        self._drain()

    def settle(self) -> bool:
        """Print the books, judged by what arrived behind the proxy, and say whether they are good."""
        self._say("the proxy passes on what it has accepted, within three seconds")
        arrived = self._stand_in.all_arrived()
        acknowledged = self._acknowledged()
        lost = acknowledged - arrived.keys()
        again = sum(arrived.values()) - len(arrived)
        status = self._sidecar.status()
        books = status.books
        good = not lost and books.balanced and books.accepted == books.delivered
        shown = table("the books", "events", numbers=("events",))
        by_http, by_socket, by_file = (len(producer.acknowledged) for producer in self._producers)
        for name, count in (
            ("acknowledged over HTTP", by_http),
            ("acknowledged over the socket", by_socket),
            ("written to the log file", by_file),
            ("these together", len(acknowledged)),
            ("of these, arrived behind the proxy", len(acknowledged & arrived.keys())),
            ("of these, lost", len(lost)),
            ("accepted by the sidecar, with what producers repeated", books.accepted),
            ("delivered, as the sidecar counts", books.delivered),
            ("arrived once more, since an answer was lost", again),
        ):
            shown.add_row(name, f"{count:,}")
        self._out.print(shown)
        balance = "accepted = delivered" if books.accepted == books.delivered else "accepted is not delivered"
        verdict = f"{balance}, {len(lost)} lost, books {'balanced' if books.balanced else 'NOT BALANCED'}"
        self._out.print(verdict, style="bold green" if good else "bold red")
        return good

    def _scene(self, text: str, seconds: float) -> None:
        self._watch(text, until_s=time.monotonic() + seconds * self._pace)

    def _drain(self) -> None:
        self._watch("no more events: the rest goes out", until_s=time.monotonic() + _DRAIN_S, drain=True)

    def _watch(self, text: str, *, until_s: float, drain: bool = False) -> None:
        self._say(text)
        if not self._out.is_terminal:
            while time.monotonic() < until_s and not (drain and self._done()):
                time.sleep(_LOOK_EVERY_S)
            return
        with Live(console=self._out, transient=True, auto_refresh=False) as live:
            while time.monotonic() < until_s and not (drain and self._done()):
                live.update(self._progress(), refresh=True)
                time.sleep(_LOOK_EVERY_S)

    def _acknowledged(self) -> set[int]:
        return {number for producer in self._producers for number in producer.acknowledged.copy()}

    def _done(self) -> bool:
        return self._sidecar.has_delivered(len(self._acknowledged()))

    def _progress(self) -> str:
        status = self._sidecar.status_if_up()
        books = status.books if status else Books()
        state = status.state if status else "gone"
        bar = "█" * min(60, books.queued // 50)
        return (
            f"  acknowledged {len(self._acknowledged()):>7,}   waiting {books.queued:>7,} {bar}\n"
            f"  delivered    {books.delivered:>7,}   sidecar {state}"
        )

    def _say(self, text: str) -> None:
        self._out.print(f"{time.monotonic() - self._started_s:5.1f}s  {text}")
