"""Makes the events of a tail from lines that are at hand, without a queue: for `sidecar try` and `sidecar test`."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sidecar.config import Config
from sidecar.inputs.tail import make_event_builder
from sidecar.parsing import Columns, FilePlace, LineCounts, swap_ends, take_lines
from sidecar.text.encodings import HEAD_BYTES, codec_of

_READ_BYTES = 4 << 20
_split = msgspec.json.Decoder(list[Any]).decode


class Sample(msgspec.Struct, frozen=True):
    """The events made of one part of the lines. `dead`: events that would be dead letters, each with the reason."""

    events: list[Any]
    dead: list[tuple[Any, str]]
    counts: LineCounts


def sample(
    config: Config, tail: str, read: Callable[[int], bytes], path: str, host: str, now_ms: int
) -> Iterator[Sample]:
    """Return what the tail called `tail` makes of what `read` gives, as if it were a file at `path`, part by part."""
    settings = config.tails[tail]
    builder = make_event_builder(config, tail)
    data, offset, inside, ended = b"", 0, False, False
    codec, columns, state = None, Columns(), b""
    while not ended or data:
        if not ended:
            more = read(_READ_BYTES)
            ended = not more
            data += more
        codec = codec or codec_of(settings.encoding, data[:HEAD_BYTES])
        lines = take_lines(
            swap_ends(data, settings.line_end),
            codec,
            max_line=settings.max_line,
            at_start=offset == 0,
            inside_line=inside,
            at_end=ended,
        )
        whole = ended and lines.consumed == len(data)
        made = builder.make(lines, FilePlace(path, host, columns, state), offset=offset, now_ms=now_ms, at_end=whole)
        events = [event for block in made.blocks for event in _split(b"[%b]" % block.body)]
        dead = [(msgspec.json.decode(body), reason) for body, reason in made.dead]
        yield Sample(events, dead, made.counts)
        columns, state = made.columns, made.state
        data, offset, inside = data[made.consumed :], offset + made.consumed, lines.inside_line
        if ended and not made.consumed:
            return
