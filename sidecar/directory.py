"""Which stream a report belongs to, by its `data_id`, its token and its `stream`. Pure.

Configured streams guard their `data_id`; anything else passes through with the token that the report carries.
"""

import difflib
import hmac
from collections.abc import Mapping

from sidecar.config import Config
from sidecar.config.model import Stream
from sidecar.errors import Refused
from sidecar.model import StreamKey
from sidecar.report import Envelope, Rules


class Directory:
    """The configured streams, by name and by `data_id`."""

    def __init__(self, config: Config) -> None:
        self._by_name: Mapping[str, Stream] = config.streams
        self._by_data_id = {stream.data_id: name for name, stream in config.streams.items()}
        self._rules = {name: _rules(config, stream) for name, stream in config.streams.items()}
        self._pass_through = Rules(default_target=config.defaults.target)

    def resolve(self, envelope: Envelope) -> tuple[StreamKey, Rules]:
        """The stream and what it asks of its items. Raises Refused: 400 unknown name, 401 wrong or missing token."""
        name = envelope.stream if envelope.stream is not None else self._by_data_id.get(envelope.data_id or 0)
        if name is not None:
            return self._configured(name, envelope), self._rules[name]
        if not envelope.token:
            raise Refused(401, f"access_token: missing, and data_id {envelope.data_id} is no configured stream")
        return StreamKey(envelope.data_id or 0, envelope.token), self._pass_through

    def name(self, key: StreamKey) -> str:
        """What people call the stream: its configured name, or its `data_id`."""
        name = self._by_data_id.get(key.data_id)
        if name is not None and self._by_name[name].access_token == key.token:
            return name
        return str(key.data_id)

    def _configured(self, name: str, envelope: Envelope) -> StreamKey:
        stream = self._by_name.get(name)
        if stream is None:
            close = difflib.get_close_matches(name, self._by_name, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise Refused(400, f"stream: no stream {name[:80]!r} is configured{hint}")
        if envelope.data_id not in (None, stream.data_id):
            raise Refused(400, f"data_id: {envelope.data_id} is not the data_id of stream {name}; leave it out")
        if envelope.token and not hmac.compare_digest(envelope.token.encode(), stream.access_token.encode()):
            raise Refused(401, f"access_token: wrong for stream {name}")
        return StreamKey(stream.data_id, stream.access_token)


def _rules(config: Config, stream: Stream) -> Rules:
    return Rules(kind=stream.kind, timestamps=stream.timestamps, default_target=config.defaults.target)
