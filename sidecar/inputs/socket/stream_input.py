"""A stream socket that listens: Unix or TCP. Decides who may connect, and how they speak."""

import asyncio
from functools import partial

from sidecar.config import Socket
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.complaints import Complaints
from sidecar.inputs.socket.connection import Connection
from sidecar.inputs.socket.frame_session import FrameSession
from sidecar.inputs.socket.frames import FIRST_BYTE
from sidecar.inputs.socket.line_session import LineSession
from sidecar.inputs.socket.opening import Opened, bound_to, open_listener, remove_file
from sidecar.inputs.socket.peer import Allowed, Peer, peer_of
from sidecar.inputs.socket.pool import Pool
from sidecar.inputs.socket.sessions import Session, TakeFrame, TakeLines

_SETTLE_S = 3.0
_LOOK_S = 0.01


class StreamInput:
    """One socket of the configuration. `configuration` is what clients of the agent's socket are told."""

    def __init__(
        self,
        counts: InputCounts,
        settings: Socket,
        pool: Pool,
        *,
        take_lines: TakeLines,
        take_frame: TakeFrame,
        configuration: bytes,
    ) -> None:
        self.counts, self.pool = counts, pool
        counts.connections = 0
        self._settings = settings
        self._take_lines, self._take_frame, self._configuration = take_lines, take_frame, configuration
        self._allowed = Allowed.of(settings.allow_users, settings.allow_groups)
        self._complaints = Complaints(counts.name, asyncio.get_running_loop())
        self._connections: dict[Connection, Peer] = {}
        self._server: asyncio.Server | None = None
        self._opened: Opened | None = None

    async def start(self) -> str:
        """Where it listens. Raises StartError."""
        self._opened = open_listener(self._settings)
        loop = asyncio.get_running_loop()
        serve = loop.create_server if self._settings.listen.path is None else loop.create_unix_server
        self._server = await serve(partial(Connection, self), sock=self._opened.listener)
        return bound_to(self._settings.listen, self._opened.listener)

    async def stop(self) -> int:
        """Reads nothing more, answers what is in flight, closes; how many blocks were read, but not taken any more."""
        if self._server is None or self._opened is None:
            return 0
        remove_file(self._settings.listen, self._opened)
        self._server.close()
        self._server = None
        connections = list(self._connections)
        for connection in connections:
            connection.stop_reading()
        give_up_s = asyncio.get_running_loop().time() + _SETTLE_S
        while any(c.under_way for c in connections) and asyncio.get_running_loop().time() < give_up_s:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        for connection in connections:
            connection.close()
        return sum(connection.not_taken for connection in connections)

    def enter(self, connection: Connection) -> bool:
        """Whether this client may stay; if not, the log says who it was."""
        peer = Peer(0, -1, frozenset())
        if self._settings.listen.path is not None:
            peer = peer_of(connection.transport.get_extra_info("socket"))
        why = None
        if not self._allowed.allows(peer):
            why = "a connection is refused: not one of allow_users or allow_groups"
        elif len(self._connections) >= self._settings.max_connections:
            why = "a connection is refused: there are max_connections already"
        if why is not None:
            self.counts.connections_refused += 1
            self._complaints.say(why, pid=peer.pid, uid=peer.uid)
            return False
        self._connections[connection] = peer
        self.counts.connections = len(self._connections)
        return True

    def leave(self, connection: Connection) -> None:
        """It has gone."""
        self._connections.pop(connection, None)
        self.counts.connections = len(self._connections)

    def session(self, connection: Connection, first_byte: int) -> Session:
        """A Unix socket also speaks the agent's frames."""
        settings = self._settings
        if first_byte != FIRST_BYTE or settings.listen.path is None:
            return LineSession(self._take_lines, self.counts, settings.max_line)
        return FrameSession(
            self._take_frame,
            self._configuration,
            self.counts,
            self._complaints,
            self._connections[connection],
            settings.max_line,
        )

    def lost(self, connection: Connection, why: str) -> None:
        """It is closed, since nothing that follows can be understood."""
        self.counts.rejected += 1
        peer = self._connections[connection]
        self._complaints.say("a connection is closed", reason=why, pid=peer.pid, uid=peer.uid)
