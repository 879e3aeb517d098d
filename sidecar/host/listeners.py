"""Opens the sockets that the sidecar listens on: TCP, UDP, and Unix sockets with a mode and an owner.

A Unix socket's file outlives a process that was killed: one that nobody listens on any more is replaced, one that is in
use is an error that names the process.
"""

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from sidecar.core.errors import StartError, in_words

_BACKLOG = 1024
_UNIX_PATH_MAX = 100  # below the 108 bytes that sun_path has on Linux
_CREDENTIALS = struct.Struct("3i")
_DIRECTORY_MODE = 0o755
_RECEIVE_BUFFER_BYTES = 4_000_000
SocketKind = Literal["stream", "datagram"]
_TYPES = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}


def listen_tcp(host: str, port: int, key: str = "") -> socket.socket:
    """Open a listening socket. Raises StartError that names the address, the `key` that says so, and who has it."""
    return _listen_inet(host, port, "stream", key)


def listen_udp(host: str, port: int, key: str = "") -> socket.socket:
    """Open a socket that receives datagrams. Raises StartError as `listen_tcp`."""
    return _listen_inet(host, port, "datagram", key)


def listen_unix(
    path: str, kind: SocketKind = "stream", *, mode: int = 0o600, uid: int = -1, gid: int = -1
) -> socket.socket:
    """Open a Unix socket at `path`, or `@name` in the abstract namespace. Raises StartError that says why it cannot be.

    From its first moment nobody can use it who may not: it is given away, and opened to others, before it listens.
    """
    listener = socket.socket(socket.AF_UNIX, _TYPES[kind])
    try:
        if path.startswith("@"):
            listener.bind("\0" + path[1:])
        else:
            _bind_file(listener, Path(path), mode, uid, gid)
        return _opened(listener, kind)
    except OSError as error:
        listener.close()
        used = f": in use by {holder}" if (holder := _holder(path, kind)) else ""
        raise StartError(f"cannot listen on {path}{used or f': {in_words(error)}'}") from None
    except StartError:
        listener.close()
        raise


class SocketFile:
    """The file of a Unix socket that this process has just opened at `path`."""

    def __init__(self, path: Path) -> None:
        """Remember which file it is. Raises OSError if it is not there."""
        self.path = path
        self._opened = _identity(path)  # its device and inode; another one there is somebody else's

    def lost(self) -> str | None:
        """Return what has become of it, so that nobody can connect any more; None: it is there."""
        try:
            found = _identity(self.path)
        except OSError as error:
            return f"{self.path} was removed" if error.errno == errno.ENOENT else f"{self.path}: {error.strerror}"
        return None if found == self._opened else f"{self.path} was replaced"

    def remove(self) -> None:
        """Remove it; what another process has put in the place meanwhile stays."""
        if self.lost() is None:
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Spell `path` in few enough bytes for a Unix socket's address."""
    if len(os.fsencode(path)) <= _UNIX_PATH_MAX:
        yield str(path)
        return
    # Linux resolves /proc/self/fd/N to the directory itself, so a path of any length becomes short.
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _listen_inet(host: str, port: int, kind: SocketKind, key: str) -> socket.socket:
    listener = None
    try:
        family, type_, proto, _, address = socket.getaddrinfo(host, port, type=_TYPES[kind])[0]
        listener = socket.socket(family, type_, proto)
        # Without this option, connections in TIME_WAIT would block the port for a while after a restart.
        if kind == "stream":  # a datagram socket could share its port with a stranger
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return _opened(listener, kind)
    except (OSError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        why = in_words(error)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            why = f"in use by {_process(_pid_by_port(port, kind))}"
        raise StartError(f"cannot listen on {host}:{port}{f' ({key})' if key else ''}: {why}") from None


def _opened(listener: socket.socket, kind: SocketKind) -> socket.socket:
    if kind == "stream":
        listener.listen(_BACKLOG)
    else:
        # UDP has no backpressure: what finds no room here while the loop is busy is lost.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    listener.setblocking(False)
    return listener


def _bind_file(listener: socket.socket, path: Path, mode: int, uid: int, gid: int) -> None:
    if not path.parent.exists():
        path.parent.mkdir()
        path.parent.chmod(_DIRECTORY_MODE)
    _make_way(path)
    # bind() creates the file. A chmod after it would leave a moment in which anybody could connect.
    umask = os.umask(0o177)
    try:
        with short_path(path) as short:
            listener.bind(short)
    finally:
        os.umask(umask)
    try:
        # By a descriptor, so that nobody can put a link in its place meanwhile.
        held = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if (uid, gid) != (-1, -1):
                os.chown(f"/proc/self/fd/{held}", uid, gid)
            Path(f"/proc/self/fd/{held}").chmod(mode)
        finally:
            os.close(held)
    except OSError as error:
        path.unlink()
        why = in_words(error)
        raise StartError(f"cannot give {path} the owner, group and mode it should have: {why}") from None


def _make_way(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises StartError for anything else that is there."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found):
        raise StartError(f"cannot listen on {path}: there is something that is no socket; move it away")
    # A connect of the wrong type fails (EPROTOTYPE) even where somebody listens, so both types are tried.
    for kind in _TYPES:
        holder = _holder(str(path), kind)  # type: ignore[arg-type]
        if holder:
            raise StartError(f"cannot listen on {path}: in use by {holder}")
    path.unlink()


def _holder(path: str, kind: SocketKind) -> str | None:
    """Return who listens at `path`, as far as this user may know; None: nobody does."""
    with socket.socket(socket.AF_UNIX, _TYPES[kind]) as probe:
        probe.setblocking(False)
        try:
            if path.startswith("@"):
                probe.connect("\0" + path[1:])
            else:
                with short_path(Path(path)) as short:
                    probe.connect(short)
        except BlockingIOError:  # its backlog is full: somebody is there, and busy
            return _process(_pid_by_inode(path))
        except OSError:
            return None
        pid = 0
        if kind == "stream":
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid = _CREDENTIALS.unpack(credentials)[0]
        return _process(pid or _pid_by_inode(path))


def _process(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", errors="replace").strip()
    except OSError:
        return "another process" if not pid else f"process {pid}"
    return f"process {pid} ({name})"


def _pid_by_inode(path: str) -> int:
    """Find the process of a socket that does not say it itself; 0 if it cannot be found out."""
    return _pid_with({row[6] for row in _rows("unix") if len(row) > 7 and row[7] == path})


def _pid_by_port(port: int, kind: SocketKind) -> int:
    """Return who has a port of this host; 0 if it cannot be found out."""
    # 0A is TCP_LISTEN. A UDP socket that is not connected has the state of TCP_CLOSE, 07.
    name, state = ("tcp", "0A") if kind == "stream" else ("udp", "07")
    rows = [*_rows(name), *_rows(f"{name}6")]
    return _pid_with({row[9] for row in rows if len(row) > 9 and row[1].endswith(f":{port:04X}") and row[3] == state})


def _rows(table: str) -> list[list[str]]:
    try:
        lines = Path(f"/proc/net/{table}").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.split() for line in lines]


def _pid_with(inodes: set[str]) -> int:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                if str(link.readlink()) in wanted:
                    return int(link.parts[2])
    except OSError:
        pass
    return 0
