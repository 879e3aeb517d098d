"""All sockets of the configuration, from their start to their stop."""

import asyncio
import resource
from collections.abc import Collection, Mapping
from functools import partial
from typing import Protocol

import structlog

from sidecar.config import Socket
from sidecar.host.reopening import Reopening
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.backpressure import Backpressure
from sidecar.inputs.socket.datagram_input import DatagramInput
from sidecar.inputs.socket.stream_input import StreamInput
from sidecar.intake import PreparedFrame, PreparedLines
from sidecar.status.document import InputStatus

_OTHER_FILES = 512
"""File descriptors that are reserved for everything else: HTTP, the proxies, the queue."""
_FEWEST = 64
log = structlog.get_logger("inputs.socket")


class SocketIntake(Protocol):
    """The part of the intake that sockets use."""

    def prepare_lines(self, block: bytes, *, stream: str | None, tokens: Collection[str], local: bool) -> PreparedLines:
        """Check whole lines. Raises Unavailable."""

    def prepare_frame(self, data_id: int, payload: bytes, sent_s: int) -> PreparedFrame:
        """Check what a client of the agent sent. Raises Rejected or Unavailable."""


class Sockets:
    """Start, watch and stop all sockets of the configuration.

    `configuration` is the answer about this host for clients of the agent's socket; it may change.
    """

    def __init__(self, settings: Mapping[str, Socket], intake: SocketIntake, configuration: bytes) -> None:
        self.configuration = configuration
        self._intake = intake
        self._stopped = False  # no socket is opened any more
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._backpressure = Backpressure(asyncio.get_running_loop(), max(_FEWEST, files - _OTHER_FILES))
        self._counts = [InputCounts(name, "socket") for name in settings]
        self._reopening = [Reopening(name) for name in settings]
        self._inputs = [
            self._make(counts, socket) for counts, socket in zip(self._counts, settings.values(), strict=True)
        ]

    def status(self) -> list[InputStatus]:
        """Return what each socket has counted."""
        return [counts.status() for counts in self._counts]

    @property
    def waiting(self) -> str | None:
        """Return why they are not read at the moment."""
        return self._backpressure.reason

    async def start(self) -> None:
        """Listen on all of them. Raises StartError."""
        for entry in self._inputs:
            where = await entry.start()
            log.info("listening", socket=entry.counts.name, on=where)

    @property
    def lost(self) -> dict[str, str]:
        """Return the sockets that nobody can connect to, by name, with the reason."""
        return {each.name: each.lost for each in self._reopening if each.lost is not None}

    async def look(self) -> None:
        """Notice what has become of the files, and listen anew where one was lost; once a second."""
        for reopening, entry in zip(self._reopening, self._inputs, strict=True):
            await reopening.look(None if self._stopped else entry.lost_file(), entry.start)

    async def stop(self) -> None:
        """End all connections, after answering what is in flight; may be called twice."""
        self._stopped = True
        not_taken = sum(await asyncio.gather(*(entry.stop() for entry in self._inputs)))
        # After the inputs: until they have stopped, its timer retries what still waits for room in the queue.
        self._backpressure.stop()
        if not_taken:
            log.warning(
                "lines read but not acknowledged before the stop; their clients will send them again", blocks=not_taken
            )

    def _make(self, counts: InputCounts, socket: Socket) -> StreamInput | DatagramInput:
        prepare_lines = partial(
            self._intake.prepare_lines, stream=socket.stream, tokens=socket.tokens, local=not socket.allow_remote
        )
        if socket.listen.datagrams:
            return DatagramInput(counts, socket, self._backpressure, prepare_lines=prepare_lines)
        return StreamInput(
            counts,
            socket,
            self._backpressure,
            prepare_lines=prepare_lines,
            prepare_frame=self._intake.prepare_frame,
            configuration=lambda: self.configuration,
        )
