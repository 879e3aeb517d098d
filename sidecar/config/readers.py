"""One reader for each type of the model: a scalar of YAML becomes a value, or ValueError says what would be right.

It knows nothing of keys or files; `bind.py` adds those.
"""

import math
import re
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from sidecar.config.model import (
    Account,
    Address,
    Bound,
    DataId,
    Encoding,
    File,
    FileMode,
    Glob,
    HttpProxy,
    LineFormat,
    Listen,
    NameGlob,
    Number,
    Secret,
    Url,
    Word,
    Zone,
)
from sidecar.config.presets import presets
from sidecar.config.tree import Scalar
from sidecar.core.model import MAX_DATA_ID, MAX_TOKEN_CHARACTERS
from sidecar.core.units import (
    BodyBytes,
    ByteRate,
    Bytes,
    Interval,
    LineBytes,
    QueueBytes,
    Rate,
    Seconds,
    Share,
    parse_byte_rate,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)
from sidecar.text.encodings import encoding_of
from sidecar.text.filters import Span
from sidecar.text.globs import name_matcher
from sidecar.text.regexes import Pattern, parse_pattern
from sidecar.text.templates import Template, parse_template

_MODE = re.compile(r"0?[0-7]{3}")
_SOCKET_PATH_BYTES = 107  # sun_path has 108 bytes on Linux, and a path needs a final NUL
_SHORTEST_LINE, _LONGEST_LINE = 64, 1 << 20


def _text(value: Scalar) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("text; put it in quotes")
    if not value.isprintable():  # half surrogates are not printable either
        raise ValueError("printable text")
    return value


def _flag(value: Scalar) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _positive(value: Scalar) -> int:
    # In Python a bool is an int: without this check `true` would count as 1.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise ValueError("a positive whole number")
    return value


def _data_id(value: Scalar) -> DataId:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_DATA_ID:
        raise ValueError(f"a positive whole number up to {MAX_DATA_ID}")
    return DataId(value)


def _number(value: Scalar) -> Number:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ValueError("a whole number from 0 on")
    return Number(value)


def _account(value: Scalar) -> Account:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Account(str(value))
    return Account(_text(value))


def _mode(value: Scalar) -> FileMode:
    # YAML versions disagree whether 0660 without quotes is octal, so only text is taken.
    if not isinstance(value, str) or not _MODE.fullmatch(value):
        raise ValueError('a file mode in quotes, such as "0660"')
    return FileMode(int(value, 8))


def _size_of_at_least(least: str) -> Callable[[Scalar], Bytes]:
    def read(value: Scalar) -> Bytes:
        size = parse_size(_quantity(value, "a size such as 500KB, 64MiB or 2GiB"))
        if size < parse_size(least):
            raise ValueError(f"a size of at least {least}")
        return size

    return read


def _line_size(value: Scalar) -> LineBytes:
    size = parse_size(_quantity(value, "a size such as 256KiB"))
    if not _SHORTEST_LINE <= size <= _LONGEST_LINE:
        raise ValueError(f"a size from {_SHORTEST_LINE} bytes to 1MiB")
    return LineBytes(size)


def _duration(value: Scalar) -> Seconds:
    return parse_duration(_quantity(value, "a duration such as 250ms, 10s, 5min, 12h or 7d"))


def _some_time(value: Scalar) -> Interval:
    duration = _duration(value)
    if duration <= 0:
        raise ValueError("a duration above zero")
    return Interval(duration)


def _quantity(value: Scalar, expected: str) -> str:
    if isinstance(value, bool) or value is None:
        raise ValueError(expected)
    return str(value)


def _rate(value: Scalar) -> Rate | None:
    return parse_rate(str(value))


def parse_address(value: Scalar) -> Address:
    """Read `HOST:PORT`, an IPv6 address in brackets. Raises ValueError that says what would be right."""
    expected = "HOST:PORT such as 127.0.0.1:10205 or [::1]:10205"
    host, colon, port = str(value).rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isdecimal() and int(port) < 65536) or (":" in host and not bracketed):
        raise ValueError(expected)
    return Address(host.strip("[]"), int(port))


def parse_listen(value: Scalar) -> Listen:
    """Return where a socket listens. Raises ValueError that says what would be right."""
    expected = "unix:/PATH, unix:@NAME, unixgram:/PATH, tcp:HOST:PORT or udp:HOST:PORT"
    scheme, _, where = str(value).partition(":")
    if scheme in ("tcp", "udp"):
        return Listen(scheme, address=parse_address(where))  # type: ignore[arg-type]
    if scheme not in ("unix", "unixgram") or not where.startswith(("/", "@")) or len(where) < 2:
        raise ValueError(expected)
    if len(where.encode()) > _SOCKET_PATH_BYTES or not where.isprintable():
        raise ValueError(
            f"a path of at most {_SOCKET_PATH_BYTES} bytes, which is all that a socket's address has room for"
        )
    return Listen(scheme, path=where)  # type: ignore[arg-type]


def parse_url(value: Scalar) -> Url:
    """Return an address of a proxy. Raises ValueError that says what would be right."""
    expected = "a URL such as http://10.0.0.1:10205"
    try:
        parts = urlsplit(str(value))
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(expected) from None
    if not good or parts.query or parts.fragment or any(c.isspace() or ord(c) < 33 for c in str(value)):
        raise ValueError(expected)
    # The URL is shown in the status, in metrics and in the log, and a password would be shown with it.
    if parts.username or parts.password:
        raise ValueError(f"{expected}, without a user or password")
    return Url(str(value).rstrip("/"))


def _bound(value: Scalar) -> Bound:
    try:
        found = float(str(value))
    except ValueError:
        raise ValueError("a number") from None
    if not math.isfinite(found):
        raise ValueError("a number")
    return Bound(found)


def _span(value: Scalar) -> Span:
    low, dots, high = str(value).partition("..")
    try:
        found = Span(_bound(low.strip()), _bound(high.strip()))
    except ValueError:
        raise ValueError("two numbers such as 500..599") from None
    if not dots or found.low > found.high:
        raise ValueError("two numbers such as 500..599, the lower one first")
    return found


def parse_via(value: Scalar) -> HttpProxy:
    """Return an HTTP proxy on the way. Raises ValueError that says what would be right."""
    expected = "a URL such as http://10.0.0.1:3128"
    try:
        parts = urlsplit(parse_url(value))
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme != "http" or parts.path:
        raise ValueError(expected)
    return HttpProxy(parts.geturl())


def read_secret(value: Scalar) -> Secret:
    if value is None or isinstance(value, bool) or not str(value):
        raise ValueError("a token")
    if len(str(value)) > MAX_TOKEN_CHARACTERS or not str(value).isprintable():
        raise ValueError(f"a token of at most {MAX_TOKEN_CHARACTERS} printable characters")
    return Secret(str(value))


def _path(value: Scalar) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError:
        raise ValueError("a path; there is no such user") from None


def _glob(value: Scalar) -> Glob:
    text = _text(value)
    if not text.startswith("/") or text.endswith("/"):
        raise ValueError("an absolute path such as /var/log/app/*.log; ** stands for directories of any depth")
    return Glob(_name_glob(text))


def _name_glob(value: Scalar) -> NameGlob:
    text = _text(value)
    try:
        for name in text.split("/"):
            name_matcher(name)
    except re.error as error:
        raise ValueError(f"a pattern such as *.gz: {error}") from None
    return NameGlob(text)


def _encoding(value: Scalar) -> Encoding:
    return Encoding(encoding_of(str(value)))


def _zone(value: Scalar) -> Zone:
    try:
        return Zone(zoneinfo.ZoneInfo(_text(value)).key)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("a time zone such as Asia/Shanghai or UTC") from None


def _pattern(value: Scalar) -> Pattern:
    text = value.rstrip("\n") if isinstance(value, str) else value
    _text(text.replace("\n", " ") if isinstance(text, str) else text)  # with (?x) it may take several lines
    return parse_pattern(str(text))


def _line_format(value: Scalar) -> Any:
    formats = get_args(LineFormat)
    if value in formats:
        return value
    raise ValueError(f"{', '.join(formats)}, or a preset: {', '.join(presets())}")


def _word(value: Scalar) -> Word:
    if value is None:
        return Word("")
    # The tree has already made a boolean of `true`; here the text that was written is meant.
    return Word(str(value).lower() if isinstance(value, bool) else str(value))


READERS: dict[Any, Callable[[Scalar], Any]] = {
    str: _text,
    bool: _flag,
    int: _positive,
    DataId: _data_id,
    Number: _number,
    Account: _account,
    FileMode: _mode,
    Listen: parse_listen,
    Path: _path,
    File: _path,
    Bytes: _size_of_at_least("0"),
    BodyBytes: _size_of_at_least("20KB"),
    QueueBytes: _size_of_at_least("1MB"),
    Seconds: _duration,
    Interval: _some_time,
    Rate: _rate,
    ByteRate: lambda value: parse_byte_rate(str(value)),
    Share: lambda value: parse_share(str(value)),
    Address: parse_address,
    Url: parse_url,
    HttpProxy: parse_via,
    Bound: _bound,
    Span: _span,
    Secret: read_secret,
    Glob: _glob,
    NameGlob: _name_glob,
    Encoding: _encoding,
    Zone: _zone,
    Word: _word,
    LineFormat: _line_format,
    LineBytes: _line_size,
    Pattern: _pattern,
    Template: lambda value: parse_template(_word(value)),
}
