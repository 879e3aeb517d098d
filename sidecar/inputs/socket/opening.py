"""Opens what a socket of the configuration says, and removes the file afterwards if it is still ours."""

import contextlib
import errno
import socket
from pathlib import Path
from typing import Any

import msgspec

from sidecar.config import Listen, Socket
from sidecar.config.sockets import group_id, user_id
from sidecar.listening import listen_tcp, listen_udp, listen_unix


class Opened(msgspec.Struct, frozen=True):
    """A socket that listens. `file` is its device and inode, where it is a file."""

    listener: Any
    file: tuple[int, int] | None


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
    return Opened(listener, _identity(Path(listen.path)) if listen.is_file else None)


def remove_file(listen: Listen, opened: Opened) -> None:
    """Another process may have put its own in the place meanwhile; that one stays."""
    if opened.file is not None and listen.path is not None:
        with contextlib.suppress(OSError):
            path = Path(listen.path)
            if _identity(path) == opened.file:
                path.unlink()


def lost_file(listen: Listen, opened: Opened) -> str | None:
    """Return what has become of the file of a socket, so that nobody can connect any more; None: it is there."""
    if opened.file is None or listen.path is None:
        return None
    try:
        found = _identity(Path(listen.path))
    except OSError as error:
        return f"{listen.path} was removed" if error.errno == errno.ENOENT else f"{listen.path}: {error.strerror}"
    return None if found == opened.file else f"{listen.path} was replaced"


def bound_to(listen: Listen, listener: socket.socket) -> str:
    """Where it really listens: with the port that was found, where 0 was asked for."""
    if listen.address is None:
        return str(listen)
    host, port = listener.getsockname()[:2]
    return f"{listen.scheme}:[{host}]:{port}" if ":" in host else f"{listen.scheme}:{host}:{port}"


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _number(number_of: Any, name: str | None) -> int:
    found: int | None = None if name is None else number_of(name)
    return -1 if found is None else found
