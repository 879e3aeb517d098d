"""Every key of conf.d with its type and its default. This is the only place where a default stands.

A value's meaning is its type: `bind.py` has one reader for each type named here.
"""

from pathlib import Path
from typing import Literal, NewType

import msgspec

from sidecar.model import Kind
from sidecar.units import BodyBytes, Bytes, Interval, QueueBytes, Rate, Seconds, Share

Url = NewType("Url", str)
Secret = NewType("Secret", str)
File = NewType("File", Path)


class Address(msgspec.Struct, frozen=True):
    """A host (name or IP literal, without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud area's proxies and how to treat them."""

    urls: tuple[Url, ...] = ()
    choose: Literal["failover", "spread"] = "failover"
    ca_file: File | None = None
    client_cert: File | None = None
    client_key: File | None = None
    timeout: Interval = Interval(15.0)
    return_after: Interval = Interval(30.0)
    max_body: BodyBytes = BodyBytes(500_000)
    rate: Rate | None = Rate(1000, 60.0)
    isolation: Share = Share(0.05)
    connections: int = 64


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What may wait on disk, how much, how long, and how surely."""

    max_size: QueueBytes = QueueBytes(2 * 1024**3)
    max_age: Interval = Interval(7 * 86400.0)
    when_full: Literal["refuse", "drop_oldest"] = "refuse"
    durability: Literal["full", "normal"] = "full"
    keep_delivered: Seconds = Seconds(0.0)
    min_free: Bytes = Bytes(256 * 1024**2)


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """How long, and how many bytes of, events that the proxy refused for good are kept."""

    max_age: Interval = Interval(30 * 86400.0)
    max_size: QueueBytes = QueueBytes(100_000_000)


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """The drop-in for the proxy's own endpoint."""

    listen: Address = Address("127.0.0.1", 10205)
    max_body: BodyBytes = BodyBytes(5_000_000)
    allowed_hosts: tuple[str, ...] = ()
    allow_remote: bool = False


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in for a field that an event leaves out; None refuses the event."""

    target: str | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A configured pipe. Its token never leaves the sidecar but towards the proxy."""

    data_id: int
    access_token: Secret
    kind: Kind | None = None
    timestamps: Literal["strict", "convert"] = "strict"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    state: Path
    proxy: Proxy = Proxy()
    queue: Queue = Queue()
    dead: Dead = Dead()
    http: Http = Http()
    defaults: Defaults = Defaults()
    streams: dict[str, Stream] = {}
