"""Opens what a socket of the configuration says."""

import contextlib
import socket
from pathlib import Path
from typing import Any

import msgspec

from sidecar.config import Listen, Socket, group_id, user_id
from sidecar.host.listeners import SocketFile, listen_tcp, listen_udp, listen_unix


class Opened(msgspec.Struct, frozen=True):
    """A socket that listens, and its file where it has one."""

    listener: Any
    file: SocketFile | None

    def lost_file(self) -> str | None:
        """Return what has become of the file, so that nobody can connect any more; None: it is there."""
        return None if self.file is None else self.file.lost()

    def remove_file(self) -> None:
        """Remove the file, if it is still this one."""
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.remove()


def open_listener(settings: Socket, name: str) -> Opened:
    """Open the socket that the configuration calls `name`. Raises StartError."""
    listen = settings.listen
    if listen.path is None:
        assert listen.address is not None
        opener = listen_udp if listen.datagrams else listen_tcp
        return Opened(opener(listen.address.host, listen.address.port, f"sockets.{name}.listen"), None)
    listener = listen_unix(
        listen.path,
        "datagram" if listen.datagrams else "stream",
        mode=settings.mode,
        uid=_number(user_id, settings.owner),
        gid=_number(group_id, settings.group),
    )
    return Opened(listener, SocketFile(Path(listen.path)) if listen.is_file else None)


def bound_to(listen: Listen, listener: socket.socket) -> str:
    """Return where it really listens: with the port that was found, where 0 was asked for."""
    if listen.address is None:
        return str(listen)
    host, port = listener.getsockname()[:2]
    return f"{listen.scheme}:[{host}]:{port}" if ":" in host else f"{listen.scheme}:{host}:{port}"


def _number(number_of: Any, name: str | None) -> int:
    found: int | None = None if name is None else number_of(name)
    return -1 if found is None else found
