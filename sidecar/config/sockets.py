"""Checks what concerns more than one key of a socket: who may reach it, and where its bare events go."""

import difflib
import grp
import pwd
from collections.abc import Iterable, Iterator, Mapping

from sidecar.config.addresses import is_loopback
from sidecar.config.model import Socket


def socket_problems(sockets: Mapping[str, Socket], streams: Iterable[str], origins: Mapping[str, str]) -> Iterator[str]:
    """Return every mistake, each with its place. `sockets` by full name, such as `sockets.local`."""
    seen: dict[str, str] = {}
    for name, socket in sockets.items():
        for key, why in _problems(socket, list(streams), f"{name}.", origins):
            place = origins.get(f"{name}.{key}") or origins.get(f"{name}.{key}_file") or origins[f"{name}.listen"]
            yield f"{place}: {name}.{key}: {why}"
        other = seen.setdefault(str(socket.listen), name)
        if other != name:
            yield f"{origins[f'{name}.listen']}: {name}.listen: {socket.listen} is already that of {other}"


def _problems(socket: Socket, streams: list[str], above: str, origins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if socket.stream is not None and socket.stream not in streams:
        close = difflib.get_close_matches(socket.stream, streams, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(streams) or 'none'}"
        yield "stream", f"no stream {socket.stream} is configured; {hint}"
    if socket.tokens and socket.stream is not None:
        yield "tokens", "bare events carry no token; expected either tokens or stream"
    yield from _remote_problems(socket)
    for key in ("mode", "owner", "group"):
        if above + key in origins and socket.listen.path is None:
            yield key, f"{socket.listen} is no Unix socket; expected {key} only beside unix:/PATH, unix:@NAME and such"
    for key in ("allow_users", "allow_groups"):
        if getattr(socket, key) and socket.listen.path is None:
            yield key, f"nobody knows who is behind {socket.listen}; expected {key} only for Unix sockets"
    yield from _unknown_accounts(socket)


def _remote_problems(socket: Socket) -> Iterator[tuple[str, str]]:
    address = socket.listen.address
    if address is None or is_loopback(address.host):
        return
    if socket.listen.scheme == "udp":
        yield "listen", f"{socket.listen} is open to other hosts; expected a loopback address, for datagrams always"
    elif not socket.allow_remote:
        yield (
            "listen",
            (f"{socket.listen} is open to other hosts; expected a loopback address, or allow_remote: true and tokens"),
        )
    elif not socket.tokens:
        yield "listen", f"{socket.listen} is open to other hosts; expected the tokens that their reports must carry"


def _unknown_accounts(socket: Socket) -> Iterator[tuple[str, str]]:
    for key, names in (("owner", (socket.owner,)), ("allow_users", socket.allow_users)):
        for name in names:
            if name is not None and user_id(name) is None:
                yield key, f"{name}: there is no such user"
    for key, names in (("group", (socket.group,)), ("allow_groups", socket.allow_groups)):
        for name in names:
            if name is not None and group_id(name) is None:
                yield key, f"{name}: there is no such group"


def user_id(name: str) -> int | None:
    """Return the number of a user; a number stands for itself, also where nobody has it."""
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_id(name: str) -> int | None:
    """Return the number of a group; a number stands for itself."""
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        return None
