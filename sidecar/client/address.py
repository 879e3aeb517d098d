"""Where the sidecar listens, as people write it. It opens nothing."""

from typing import NamedTuple


class Tcp(NamedTuple):
    """A TCP address, in the shape that `socket` takes."""

    host: str
    port: int


def parse_address(text: str) -> Tcp | str:
    """`tcp:HOST:PORT`, or the name of a Unix socket: a path, `unix:/path`, or `unix:@name` for an abstract one.

    An abstract name begins with a NUL, as the kernel wants it. Raises ValueError that says what would be right.
    """
    if text.startswith("tcp:"):
        host, _, port = text.removeprefix("tcp:").rpartition(":")
        if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
            raise ValueError(f"expected tcp:HOST:PORT such as tcp:127.0.0.1:10206, got {text}")
        return Tcp(host.strip("[]"), int(port))
    path = text.removeprefix("unix:")
    if not path or "\0" in path:
        raise ValueError(f"expected a path, unix:/path, unix:@name or tcp:HOST:PORT, got {text!r}")
    return "\0" + path[1:] if text.startswith("unix:@") else path
