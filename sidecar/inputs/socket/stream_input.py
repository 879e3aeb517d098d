"""A stream socket that listens: Unix or TCP. Decides who may connect, and how they speak."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial

from sidecar.config import Socket
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.agent_frames import FIRST_BYTE
from sidecar.inputs.socket.backpressure import Backpressure
from sidecar.inputs.socket.connection import SocketConnection
from sidecar.inputs.socket.frame_session import FrameSession
from sidecar.inputs.socket.line_session import LineSession
from sidecar.inputs.socket.listener import Opened, bound_to, open_listener
from sidecar.inputs.socket.log_throttle import LogThrottle
from sidecar.inputs.socket.peer_credentials import Allowed, PeerCredentials, peer_of
from sidecar.inputs.socket.sessions import PrepareFrame, PrepareLines, Session

_FIRST_BYTES = b"{ \t\r\n"
_BACKLOG = 1024
_SETTLE_S = 3.0
_MOST_NAMELESS = 4
_LOOK_S = 0.01


class StreamInput:
    """One socket of the configuration. `configuration` is what clients of the agent's socket are told."""

    def __init__(
        self,
        counts: InputCounts,
        settings: Socket,
        backpressure: Backpressure,
        *,
        prepare_lines: PrepareLines,
        prepare_frame: PrepareFrame,
        configuration: Callable[[], bytes],
    ) -> None:
        self.counts, self.backpressure = counts, backpressure
        counts.connections = 0
        self._settings = settings
        self._prepare_lines, self._prepare_frame, self._configuration = prepare_lines, prepare_frame, configuration
        self._allowed = Allowed.of(settings)
        self._throttle = LogThrottle(counts.name, asyncio.get_running_loop())
        self._connections: dict[SocketConnection, PeerCredentials] = {}  # those that were let in
        self._by_uid: Counter[int] = Counter()  # connections of each user
        self._server: asyncio.Server | None = None  # None: not started, or stopped
        self._opened: Opened | None = None  # None: not started
        self._nameless: list[asyncio.Server] = []  # of listeners whose file was lost

    def lost_file(self) -> str | None:
        """Return what has become of the socket's file; None: it is there."""
        return None if self._opened is None else self._opened.lost_file()

    async def start(self) -> str:
        """Listen; return where. Once more, if the file was lost: who is connected stays. Raises StartError."""
        opened = open_listener(self._settings, self.counts.name)
        if self._server is not None:  # it still has those who connected before
            self._nameless.append(self._server)
            for server in self._nameless[:-_MOST_NAMELESS]:
                server.close()
            del self._nameless[:-_MOST_NAMELESS]
        self._opened = opened
        loop = asyncio.get_running_loop()
        serve = loop.create_server if self._settings.listen.path is None else loop.create_unix_server
        self._server = await serve(partial(SocketConnection, self), sock=self._opened.listener, backlog=_BACKLOG)
        return bound_to(self._settings.listen, self._opened.listener)

    async def stop(self) -> int:
        """Hear every client out, answer what is in flight, close; how many blocks were read, but not taken any more.

        Clients of the agent get no answer, and repeat nothing: what they could write must be read. So those who are
        connected and not accepted yet are taken in, nobody can write from then on, and what was written is read.
        """
        if self._server is None or self._opened is None:
            return 0
        self._opened.remove_file()
        for server in self._nameless:
            server.close()
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + _SETTLE_S
        # All of this without an await: from here on nobody can write, so what is left to be read has an end.
        late = _accept_the_rest(self._server, self._opened.listener, unix=self._settings.listen.path is not None)
        self._server = None
        for connection in self._connections:
            connection.hear_out()
        accepting = [loop.connect_accepted_socket(partial(SocketConnection, self), each) for each in late]
        await asyncio.gather(*accepting, return_exceptions=True)  # one that fails must not keep the others from it
        connections = list(self._connections)
        while not all(connection.heard_out for connection in connections) and loop.time() < give_up_s:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        for connection in connections:
            connection.close()
        return sum(connection.not_taken for connection in connections)

    def enter(self, connection: SocketConnection) -> bool:
        """Return whether this client may stay; if not, the log says who it was."""
        peer = self._peer_of(connection)
        connection.uid = peer.uid
        why = None
        if not self._allowed.allows(peer):
            why = "connection refused: not in allow_users or allow_groups"
        elif self._is_full() and not self._make_place(peer.uid):
            why = "connection refused: max_connections reached"
        if why is not None:
            self.counts.connections_refused += 1
            self._throttle.say(why, pid=peer.pid, uid=peer.uid)
            return False
        self._connections[connection] = peer
        self._by_uid[peer.uid] += 1
        self.counts.connections = len(self._connections)
        return True

    def _peer_of(self, connection: SocketConnection) -> PeerCredentials:
        other_end = connection.transport.get_extra_info("socket")
        if self._settings.listen.path is not None:
            return peer_of(other_end)
        other_end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a host that vanished must not keep its place
        return PeerCredentials(0, -1, frozenset())

    def _is_full(self) -> bool:
        return len(self._connections) >= self._settings.max_connections or self.backpressure.crowded

    def _make_place(self, uid: int) -> bool:
        """Close an idle connection of the user who has most, if that is another one, who has more."""
        most, count = self._by_uid.most_common(1)[0] if self._by_uid else (uid, 0)
        # A difference of one is not enough: two users would close each other's connections in turns.
        if count <= self._by_uid[uid] + 1:
            return False
        idle = [c for c in self._connections if c.uid == most and not c.under_way and not c.not_taken]
        if not idle:
            return False
        oldest = min(idle, key=lambda connection: connection.heard_s)
        self._throttle.say("idle connection closed to make room for another user", uid=most)
        self.leave(oldest)
        oldest.close()
        return True

    def leave(self, connection: SocketConnection) -> None:
        """Note that it has gone."""
        peer = self._connections.pop(connection, None)
        if peer is not None:
            self._by_uid[peer.uid] -= 1
            self.counts.connections = len(self._connections)

    def session(self, connection: SocketConnection, first_byte: int) -> Session:
        """Return a Unix socket also speaks the agent's frames."""
        settings = self._settings
        if settings.listen.path is None:
            # A page in a local browser can make it send requests to any port of this host.
            lost = None if first_byte in _FIRST_BYTES else "expected lines of JSON, the first of which begins with {"
            return LineSession(self._prepare_lines, self.counts, settings.max_line, lost=lost)
        if first_byte != FIRST_BYTE:
            return LineSession(self._prepare_lines, self.counts, settings.max_line)
        return FrameSession(
            self._prepare_frame,
            self._configuration,
            self.counts,
            self._throttle,
            self._connections[connection],
            settings.max_line,
        )

    def lost(self, connection: SocketConnection, why: str) -> None:
        """Say that it is closed, since nothing that follows can be understood."""
        if connection.uid >= 0:  # over TCP the client was told
            self.counts.rejected += 1
        peer = self._connections[connection]
        self._throttle.say("connection closed", reason=why, pid=peer.pid, uid=peer.uid)

    def fail_unexpected(self, connection: SocketConnection, error: Exception) -> str:
        """Return what its client is told; the log says more, since this is a bug."""
        self._throttle.say("unexpected error in a line or frame; please report this bug", error=repr(error)[:200],
                             uid=connection.uid)  # fmt: skip
        return "it cannot be treated"


def _accept_the_rest(server: asyncio.Server, listener: socket.socket, *, unix: bool) -> list[socket.socket]:
    """Close `server`; return who had connected and was not accepted yet, none of whom can write any more.

    A Unix listener that is shut down takes nobody else and still gives out those. One for TCP would reset them: there
    at most as many are accepted as can wait, since others may come meanwhile.
    """
    accepted: list[socket.socket] = []
    with listener.dup() as same, contextlib.suppress(OSError):  # BlockingIOError: nobody is left
        server.close()
        if unix:
            same.shutdown(socket.SHUT_RD)
        while unix or len(accepted) < _BACKLOG:
            connection, _ = same.accept()
            connection.setblocking(False)
            accepted.append(connection)
            with contextlib.suppress(OSError):  # it has gone
                connection.shutdown(socket.SHUT_RD)
    return accepted
