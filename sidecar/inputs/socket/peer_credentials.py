"""Asks the kernel who is at the other end of a Unix socket, and decides whether they may use it."""

import os
import pwd
import socket
import stat
import struct

import msgspec

from sidecar.config import Socket, group_id, user_id

Ancillary = list[tuple[int, int, bytes]]
_ROOT = 0
_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59  # Linux 4.13, not in Python's socket module
_MAX_GROUPS_BYTES = 1024  # what getsockopt takes in Python


class PeerCredentials(msgspec.Struct, frozen=True):
    """A process, with the user and the groups it had when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]


class Allowed(msgspec.Struct, frozen=True):
    """The users and groups that may use a socket. If none is named, the file mode decides."""

    users: frozenset[int]
    groups: frozenset[int]

    @classmethod
    def of(cls, settings: Socket) -> "Allowed":
        """Return who is named in `settings`, whose names are known to exist.

        An abstract socket has no file whose mode the kernel would look at: there `mode` is kept here.
        """
        users = frozenset(uid for name in settings.allow_users if (uid := user_id(name)) is not None)
        groups = frozenset(gid for name in settings.allow_groups if (gid := group_id(name)) is not None)
        is_abstract = settings.listen.path is not None and not settings.listen.is_file
        if is_abstract and not users and not groups and not settings.mode & stat.S_IWOTH:
            owner = user_id(settings.owner) if settings.owner is not None else os.geteuid()
            group = group_id(settings.group) if settings.group is not None else os.getegid()
            # Root passes the mode of every file, so it must pass here too.
            users = frozenset((_ROOT, owner if owner is not None else _ROOT))
            groups = frozenset((group,)) if settings.mode & stat.S_IWGRP and group is not None else frozenset()
        return cls(users, groups)

    @property
    def everybody(self) -> bool:
        """Return whether nobody has to be looked at."""
        return not self.users and not self.groups

    def allows(self, peer: PeerCredentials) -> bool:
        """Return True if it is one of the users, or in one of the groups."""
        return self.everybody or peer.uid in self.users or bool(peer.groups & self.groups)


def peer_of(connection: socket.socket) -> PeerCredentials:
    """Return the process that connected. Raises OSError."""
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
        groups = struct.unpack(f"{len(found) // 4}I", found)
    except OSError:  # an older kernel, or more groups than fit
        groups = _groups_of(uid, gid)
    return PeerCredentials(pid, uid, frozenset((gid, *groups)))


def close_passed_files(ancillary: Ancillary) -> None:
    """Whoever can send a datagram can send open files with it; they are ours then, whether we want them or not."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            for (number,) in struct.iter_unpack("i", data[: len(data) // 4 * 4]):
                os.close(number)


def sender_of(ancillary: Ancillary, *, with_groups: bool) -> PeerCredentials | None:
    """Return the process that sent a datagram, if the kernel was asked to say so (SO_PASSCRED)."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, uid, gid = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
            # SCM_CREDENTIALS names no supplementary groups, and a look-up for each datagram is slow.
            return PeerCredentials(pid, uid, frozenset((gid, *(_groups_of(uid, gid) if with_groups else ()))))
    return None


def _groups_of(uid: int, gid: int) -> tuple[int, ...]:
    try:
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except (KeyError, OSError):
        return (gid,)
