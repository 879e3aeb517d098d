"""An event as one line for the sidecar, never longer than a line may be. Bytes out of values; it sends nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MAX_ESCAPE_CHARACTERS = 6  # \u001f
# Characters stand for themselves: most of the world's text is then half as long as with escapes.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, kw_only=True, slots=True)
class LineWriter:
    """Make the lines of one handler. `stream` None: bare events, for a socket that has a stream."""

    stream: str | None
    target: str | None
    max_line_bytes: int

    def write(self, name: str, content: str, dimension: Mapping[str, str], timestamp_ms: int) -> bytes:
        """Return the line, with its end. Content that is too long is cut, and a dimension `truncated` says so.

        Raises ValueError where everything else alone is too long.
        """
        if len(content) <= self.max_line_bytes:  # else there is no need to try
            line = self._line(name, content, dimension, timestamp_ms)
            if len(line) <= self.max_line_bytes:
                return line
        dimension = {**dimension, "truncated": "true"}
        room_bytes = self.max_line_bytes - len(self._line(name, "", dimension, timestamp_ms))
        if room_bytes < 0:
            raise ValueError(f"the dimensions alone make a line of over {self.max_line_bytes} bytes")
        return self._line(name, cut(content, room_bytes), dimension, timestamp_ms)

    def _line(self, name: str, content: str, dimension: Mapping[str, str], timestamp_ms: int) -> bytes:
        event: dict[str, Any] = {"event_name": name}
        if self.target is not None:
            event["target"] = self.target
        event |= {"event": {"content": content}, "dimension": dimension, "timestamp": timestamp_ms}
        return _json(event if self.stream is None else {"stream": self.stream, "data": [event]}) + b"\n"


def cut(text: str, limit_bytes: int) -> str:
    """Return the longest beginning of `text` that takes at most so many bytes inside a JSON string."""
    written = _json(text[:limit_bytes])[1:-1][:limit_bytes].decode("utf-8", "ignore")
    for left_out in range(_MAX_ESCAPE_CHARACTERS):  # an escape may have been cut in two
        try:
            return str(json.loads(f'"{written[: len(written) - left_out]}"'))
        except ValueError:
            continue
    raise AssertionError("an escape is shorter than that")


def _json(value: Any) -> bytes:
    # The only thing that UTF-8 cannot hold is half a surrogate pair, and \udc80 is how JSON escapes it too.
    return _encoder.encode(value).encode("utf-8", "backslashreplace")
