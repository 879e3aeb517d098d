"""Finds the stream of a report by its `data_id`, its token and its `stream`. Pure.

Configured streams guard their `data_id`; anything else passes through with the token that the report carries.
"""

import difflib
import hmac
from collections.abc import Iterator, Mapping

import msgspec

from sidecar.config import Config, Raw, Stream, stream_name
from sidecar.core.errors import Rejected
from sidecar.core.model import StreamKey
from sidecar.report import Envelope, Rules, TextRule, check_item


class Route(msgspec.Struct, frozen=True):
    """The data_id and token of a report, and the rules for its items.

    The kind of the items, which is found later, completes the key of the stream.

    `local_rules` are for what can only come from this host, which is then its target.
    """

    data_id: int
    token: str
    rules: Rules
    local_rules: Rules
    configured: bool


class Router:
    """The configured streams, by name and by `data_id`."""

    def __init__(self, config: Config) -> None:
        self.reload(config)

    def reload(self, config: Config) -> None:
        """Let `config` count from now on."""
        self._by_name: Mapping[str, Stream] = config.streams
        self._by_data_id: dict[int, str] = config.names_by_data_id
        self._rules = {name: _rules(config, stream) for name, stream in config.streams.items()}
        self._pass_through = Rules(default_target=config.defaults.target, max_ahead_ms=int(config.queue.max_age * 1000))
        self._own_target = config.defaults.own_target
        self._local_rules = {name: self._local(rules) for name, rules in self._rules.items()}
        self._local_pass_through = self._local(self._pass_through)

    def resolve(self, envelope: Envelope, *, hint: bool = True, lend: bool = True) -> Route:
        """Return where the report belongs. Raises Rejected: 400 unknown name, 401 wrong or missing token.

        Without `lend` no configured token is lent: the report must carry it, and name the data_id. A `hint` at what
        name may be meant costs much: it is not for the thousandth of a run of bad lines.
        """
        if not lend and envelope.stream is not None:
            raise Rejected.for_stream(
                401, "stream", "only programs of the sidecar's own host may leave out data_id and access_token"
            )
        if not lend and not envelope.token:
            raise Rejected.for_stream(401, "access_token", "missing; a report of another host must carry it")
        name = envelope.stream if envelope.stream is not None else self._by_data_id.get(envelope.data_id or 0)
        if name is not None:
            return self._configured(name, envelope, hint=hint)
        if not envelope.token:
            raise Rejected.for_stream(
                401, "access_token", f"missing, and data_id {envelope.data_id} is no configured stream"
            )
        return self._passing_through(envelope.data_id or 0, envelope.token)

    def bare(self, name: str) -> Route:
        """Return where an event goes that comes without a report. Raises Rejected (400)."""
        if name not in self._by_name:
            raise Rejected.for_stream(400, "stream", f"{name!r} is no longer configured")
        return self._route(name)

    def pipe(self, data_id: int) -> tuple[Route, TextRule]:
        """Return the route and the text rule for a data_id sent by an agent client. `configured` may be False."""
        name = self._by_data_id.get(data_id)
        if name is None:
            return self._passing_through(data_id, ""), TextRule(event_name=Raw().event_name, target=self._own_target)
        raw = self._by_name[name].raw
        return self._route(name), TextRule(event_name=raw.event_name, target=raw.target or self._own_target)

    def fit(self, key: StreamKey, event: bytes, *, now_ms: int) -> bytes:
        """Return `event` as it could be sent now.

        Raises Rejected if it could not: it is none, or nobody knows its token.
        """
        name = self._by_data_id.get(key.data_id)
        if name is None and not key.token:
            raise Rejected.for_stream(401, "data_id", f"{key.data_id} is no configured stream")
        rules = self._local_pass_through if name is None else self._local_rules[name]
        return check_item(event, key.kind, rules, now_ms).json

    def configured_keys(self) -> Iterator[StreamKey]:
        """Return the streams that are sure to be: those of the configuration whose kind is given."""
        for stream in self._by_name.values():
            if stream.kind is not None:
                yield StreamKey(stream.data_id, stream.access_token, stream.kind)

    def name(self, key: StreamKey) -> str:
        """Return what people call a stream, all of one data_id alike: its configured name, else the `data_id`."""
        return stream_name(key, self._by_data_id)

    def is_configured(self, key: StreamKey) -> bool:
        """Return True if this is the token that is configured for the data_id."""
        name = self._by_data_id.get(key.data_id)
        return name is not None and self._by_name[name].access_token == key.token

    def sent_as(self, key: StreamKey) -> StreamKey:
        """Return the key to send with: of a configured pipe always its configured token.

        So what waits with a token that proved wrong goes out once the right one is configured.
        """
        name = self._by_data_id.get(key.data_id)
        return key if name is None else msgspec.structs.replace(key, token=self._by_name[name].access_token)

    def _configured(self, name: str, envelope: Envelope, *, hint: bool) -> Route:
        stream = self._by_name.get(name)
        if stream is None:
            close = difflib.get_close_matches(name[:80], self._by_name, n=1) if hint else ()
            meant = f"; did you mean {close[0]}?" if close else ""
            raise Rejected.for_stream(400, "stream", f"no stream {name[:80]!r} is configured{meant}")
        if envelope.data_id not in (None, stream.data_id):
            raise Rejected.for_stream(
                400, "data_id", f"{envelope.data_id} is not the data_id of stream {name}; leave it out"
            )
        if envelope.token and not hmac.compare_digest(envelope.token.encode(), stream.access_token.encode()):
            raise Rejected.for_stream(401, "access_token", f"wrong for stream {name}")
        return self._route(name)

    def _route(self, name: str) -> Route:
        stream = self._by_name[name]
        return Route(stream.data_id, stream.access_token, self._rules[name], self._local_rules[name], configured=True)

    def _passing_through(self, data_id: int, token: str) -> Route:
        return Route(data_id, token, self._pass_through, self._local_pass_through, configured=False)

    def _local(self, rules: Rules) -> Rules:
        return msgspec.structs.replace(rules, default_target=self._own_target)


def _rules(config: Config, stream: Stream) -> Rules:
    return Rules(
        kind=stream.kind,
        timestamps=stream.timestamps,
        default_target=config.defaults.target,
        max_ahead_ms=int(config.queue.max_age * 1000),
    )
