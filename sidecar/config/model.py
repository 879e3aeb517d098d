"""Every key of conf.d with its type and its default. This is the only place where a default stands.

A value's meaning is its type: `readers.py` has one reader for each type named here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NewType

import msgspec

from sidecar.core.model import FORGOTTEN, Kind, StreamKey
from sidecar.core.units import BodyBytes, ByteRate, Bytes, Interval, LineBytes, QueueBytes, Rate, Seconds, Share
from sidecar.text.filters import Span
from sidecar.text.regexes import Pattern
from sidecar.text.templates import Template, parse_template

Url = NewType("Url", str)
Bound = NewType("Bound", float)
HttpProxy = NewType("HttpProxy", str)
"""The URL of a forward proxy, without a user or password."""
Secret = NewType("Secret", str)
File = NewType("File", Path)
FileMode = NewType("FileMode", int)
Account = NewType("Account", str)
"""The name or the number of a user or a group."""
DataId = NewType("DataId", int)
Number = NewType("Number", int)
"""A whole number, zero or more."""
Glob = NewType("Glob", str)
"""An absolute path, perhaps with `*`, `?`, `[...]`, and `**` for directories of any depth."""
NameGlob = NewType("NameGlob", str)
"""A `Glob`; or, without a slash, a pattern for file names."""
Encoding = NewType("Encoding", str)
Zone = NewType("Zone", str)
Word = NewType("Word", str)
"""Text, also empty; a number or a boolean counts as what is written. Where there may be several, one needs no list."""
Document = NewType("Document", object)
"""Anything that YAML can say."""


class Address(msgspec.Struct, frozen=True):
    """A host (name or IP literal, without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Listen(msgspec.Struct, frozen=True):
    """The place where a socket listens: a `path` (`@name`: in the abstract namespace), or an `address`."""

    scheme: Literal["unix", "unixgram", "tcp", "udp"]
    path: str | None = None
    address: Address | None = None

    @property
    def datagrams(self) -> bool:
        """Return whether what comes in are datagrams, which get no answer."""
        return self.scheme in ("unixgram", "udp")

    @property
    def is_file(self) -> bool:
        """Return whether it is a file, with a mode and an owner."""
        return self.path is not None and not self.path.startswith("@")

    def __str__(self) -> str:
        return f"{self.scheme}:{self.path or self.address}"


ENVELOPE_BYTES = 4096  # room for the data_id and the longest token, with every character of it escaped
_BLOCKS_IN_A_BODY = 12


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud area's proxies and how to treat them. `via`: the HTTP proxy on the way to them, if there is one."""

    urls: tuple[Url, ...] = ()
    choose: Literal["failover", "spread"] = "failover"
    ca_file: File | None = None
    client_cert: File | None = None
    client_key: File | None = None
    timeout: Interval = Interval(15.0)
    return_after: Interval = Interval(30.0)
    # The proxy's documentation promises 500 KB. 500,000 bytes is the reading that is safe.
    max_body: BodyBytes = BodyBytes(500_000)
    # The documented limit. It belongs to the token: all hosts that use the same token share it.
    rate: Rate | None = Rate(1000, 60.0)
    # The proxy joins 3 s of a data_id into one message, and drops it silently from 10 MiB on. This gives 7.5 MB.
    bytes_per_data_id: ByteRate | None = ByteRate(2_500_000)
    isolation: Share = Share(0.05)
    connections: int = 64
    via: HttpProxy | None = None

    @property
    def event_bytes(self) -> int:
        """Return the largest event that fits a body, with the longest token beside it in its longest spelling."""
        return self.max_body - ENVELOPE_BYTES

    @property
    def block_bytes(self) -> int:
        """Return how many bytes are stored together, so that a body can be nearly full (eleven twelfths)."""
        return max(1, self.event_bytes // _BLOCKS_IN_A_BODY)


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the queue on disk: the limits of size and age, the durability, and what to do when it is full."""

    max_size: QueueBytes = QueueBytes(2 * 1024**3)
    max_age: Interval = Interval(7 * 86400.0)
    when_full: Literal["refuse", "drop_oldest"] = "refuse"
    # With normal, a power cut may take the last commits, and these were acknowledged already.
    durability: Literal["full", "normal"] = "full"
    # Off by default: it costs up to half as much writing again on every host (docs/decisions/keep-delivered.md).
    keep_delivered: Seconds = Seconds(0.0)
    min_free: Bytes = Bytes(256 * 1024**2)


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of dead letters: for how long, and how many bytes, they are kept."""

    max_age: Interval = Interval(30 * 86400.0)
    max_size: QueueBytes = QueueBytes(100_000_000)


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """The drop-in for the proxy's own endpoint. `tokens`: a report of another host must carry one of these."""

    listen: Address = Address("127.0.0.1", 10205)
    max_body: BodyBytes = BodyBytes(5_000_000)
    max_connections: int = 2048
    allowed_hosts: tuple[str, ...] = ()
    allow_remote: bool = False
    tokens: tuple[Secret, ...] = ()
    status_listen: Address | None = None


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """The default values for fields that an event leaves out, and the names of this host.

    `target` None refuses a report in which it is missing. `ip` is found out at every load, unless it is set.
    """

    target: str | None = None
    cloud_id: Number = Number(0)
    biz_id: Number = Number(0)
    agent_id: str = ""
    ip: str = "127.0.0.1"

    @property
    def own_target(self) -> str:
        """Return what events come from that name no target and can only be of this host."""
        return self.target or f"{self.cloud_id}:{self.ip}"


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that makes an event of plain text; `target` None: this host."""

    event_name: str = "raw"
    target: str | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A configured pipe. Its token never leaves the sidecar but towards the proxy."""

    data_id: DataId
    access_token: Secret
    kind: Kind | None = None
    timestamps: Literal["strict", "convert"] = "strict"
    raw: Raw = Raw()


class Socket(msgspec.Struct, frozen=True, kw_only=True):
    """A socket that takes lines. `tokens`: a report must carry one of these; `stream`: where bare events go."""

    listen: Listen
    mode: FileMode = FileMode(0o600)
    owner: Account | None = None
    group: Account | None = None
    stream: str | None = None
    allow_users: tuple[Account, ...] = ()
    allow_groups: tuple[Account, ...] = ()
    allow_remote: bool = False
    tokens: tuple[Secret, ...] = ()
    max_line: BodyBytes = BodyBytes(1_000_000)
    max_connections: int = 2048


class Multiline(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that joins lines into one event. It is used only if `start` or `continue` is given."""

    start: Pattern | None = None
    continuation: Pattern | None = msgspec.field(default=None, name="continue")
    max_lines: int = 500
    flush_after: Interval = Interval(5.0)


class Then(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that finds the fields of what a program in a container wrote; `then: json` is short for its format."""

    format: Literal["raw", "json", "logfmt"] = "raw"
    regex: Pattern | None = None


LineFormat = Literal["raw", "json", "logfmt", "cri", "docker", "csv", "w3c", "zeek"]


class Parse(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that finds the fields of a line; `parse: json` is short for `parse: {format: json}`.

    `then` follows the formats of containers; `delimiter` and `columns` belong to CSV. `each` is a field that
    holds several events. The named groups of `path` are fields, too, out of the file's path.
    """

    format: LineFormat = "raw"
    regex: Pattern | None = None
    delimiter: Word = Word(",")
    columns: tuple[Word, ...] = ()
    each: str | None = None
    then: Then = Then()
    path: Pattern | None = None

    @property
    def container(self) -> Literal["cri", "docker"] | None:
        """Return how lines are wrapped; None: they are not."""
        match self.format:
            case "cri" | "docker" as container:
                return container
            case _:
                return None

    @property
    def fields(self) -> Literal["raw", "json", "logfmt"] | Pattern:
        """Return what finds the fields: of what is inside, if lines are wrapped."""
        if self.regex is not None:
            return self.regex
        match self.format:
            case "cri" | "docker":
                return self.then.regex or self.then.format
            case "csv" | "w3c" | "zeek":
                return "raw"
            case plain:
                return plain

    @property
    def delimited(self) -> Literal["csv", "w3c", "zeek"] | None:
        """Return how lines are split into columns that the file names; None: they are not."""
        match self.format:
            case "csv" | "w3c" | "zeek" as delimited:
                return delimited
            case _:
                return None


class Timestamp(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that finds the time of a line. No `field`: the time of reading. `timezone` None: that of this host.

    Several fields are joined by a space; of several formats, the first one that fits counts.
    """

    field: tuple[Word, ...] = ()
    format: tuple[Word, ...] = ()
    timezone: Zone | None = None
    unit: Literal["s", "ms", "us", "ns"] | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that makes an event of a line, or with `metrics` an item of a time series.

    `units`: numbers of metrics may have a unit behind them, and commas between thousands, which are left out.
    None: `name` that of the tail, `content` the whole line, `target` this host.
    """

    name: Template | None = None
    content: Template | None = None
    target: Template | None = None
    dimension: dict[str, Template] = msgspec.field(default_factory=lambda: {"file": parse_template("{path}")})
    metrics: dict[str, Template] = {}
    units: bool = False
    timestamp: Timestamp = Timestamp()


class FieldCondition(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on one field. A single value or a list means `is`: the field is exactly one of these texts."""

    one_of: tuple[Word, ...] = msgspec.field(default=(), name="is")
    matches: Pattern | None = None
    contains: tuple[Word, ...] = ()
    within: Span | None = msgspec.field(default=None, name="in")
    at_least: Bound | None = None
    at_most: Bound | None = None


class Throttling(msgspec.Struct, frozen=True, kw_only=True):
    """The most events in a period, of one file and of each text of `by`. `at_most` None: any number."""

    at_most: int | None = None
    every: Interval = Interval(60.0)
    by: Template | None = None


class MaskRule(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not to be known. `field`: `content`, or a dimension; None: all texts of the event."""

    pattern: Pattern
    field: str | None = None
    replacement: Word = msgspec.field(default=Word("***"), name="with")


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """Files whose lines become events. `poll` None: the system says when they change.

    `follow_links`: also links that somebody else put into a directory that everybody can write to. `map`: for a field,
    the texts that stand for others.
    """

    paths: tuple[Glob, ...]
    stream: str
    exclude: tuple[NameGlob, ...] = ()
    rotated: tuple[Glob, ...] = ()
    start_at: Literal["end", "beginning"] = "end"
    encoding: Encoding = Encoding("utf-8")
    ignore_older: Interval | None = None
    line_end: Word | None = None
    poll: Interval | None = None
    max_open: int = 256
    follow_links: bool = False
    max_line: LineBytes = LineBytes(256 * 1024)
    partial_after: Seconds = Seconds(60.0)
    multiline: Multiline = Multiline()
    parse: Parse = Parse()
    map: dict[str, dict[str, Word]] = {}
    where: dict[str, FieldCondition] = {}
    where_not: dict[str, FieldCondition] = {}
    sample: Share | None = None
    throttle: Throttling = Throttling()
    dedupe: Interval | None = None
    strip_ansi: bool = False
    trim: bool = False
    mask: tuple[MaskRule, ...] = ()
    unparsed: Literal["raw", "drop", "dead"] = "raw"
    event: Event = Event()


class TailTest(msgspec.Struct, frozen=True, kw_only=True):
    """One test for `sidecar test`: these lines, in a file at `path`, must become exactly these events."""

    tail: str
    lines: tuple[Word, ...]
    events: Document
    path: str | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    state: Path
    proxy: Proxy = Proxy()
    queue: QueueSettings = QueueSettings()
    dead: Dead = Dead()
    http: Http = Http()
    defaults: Defaults = Defaults()
    streams: dict[str, Stream] = {}
    sockets: dict[str, Socket] = {}
    tails: dict[str, Tail] = {}
    tests: dict[str, TailTest] = {}

    @property
    def names_by_data_id(self) -> dict[int, str]:
        """Return the names of the configured streams."""
        return {stream.data_id: name for name, stream in self.streams.items()}


def stream_name(key: StreamKey, names_by_data_id: Mapping[int, str]) -> str:
    """Return what people call a stream, all of one data_id alike: its configured name, else the `data_id`."""
    return "forgotten" if key == FORGOTTEN else names_by_data_id.get(key.data_id, str(key.data_id))


# A single value, or a list where the key takes one, may stand for the map of these, and then means this key.
SHORT: dict[Any, str] = {Parse: "format", Then: "format", FieldCondition: "is"}
# For these a null is such a single value too: the empty text.
NULL_IS_A_VALUE = (FieldCondition,)
