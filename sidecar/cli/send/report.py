"""Reports on their way: events of one pipe and one kind, as many as fit, and fewer where they are refused. Pure."""

from collections.abc import Iterable, Iterator

import msgspec

from sidecar.cli.send.event import Item, with_fields

_TARGET_BYTES = 64
"""About what a target takes that is put in on the way."""


class Pipe(msgspec.Struct, frozen=True):
    """Where events go: to a configured stream by name, or to a data_id with its token."""

    data_id: int | None
    token: str
    stream: str | None

    def __repr__(self) -> str:
        return f"Pipe(data_id={self.data_id}, token=***, stream={self.stream})"

    @property
    def head(self) -> bytes:
        """Return a report up to its first event."""
        named: dict[str, int | str] = {} if self.stream is None else {"stream": self.stream}
        if self.data_id is not None:
            named |= {"data_id": self.data_id, "access_token": self.token}
        return msgspec.json.encode(named)[:-1] + b',"data":['


class Report(msgspec.Struct, frozen=True):
    """Events that are sent together. `divisible`: when they are refused, the good ones may go without the bad."""

    pipe: Pipe
    items: tuple[Item, ...]
    divisible: bool = True

    def body(self, own_target: str | None) -> bytes:
        """The report as JSON, in one line; `own_target` stands in where there is none, unless it is None itself."""
        return self.pipe.head + self.events(own_target) + b"]}"

    def events(self, own_target: str | None) -> bytes:
        """Return the events, with commas between them."""
        more = {} if own_target is None else {"target": own_target}
        return b",".join([item.json if item.has_target else with_fields(item.json, more) for item in self.items])

    def halves(self) -> "list[Report]":
        """Return the same events in two reports; none if there is nothing to divide."""
        if not self.divisible or len(self.items) < 2:
            return []
        half = len(self.items) // 2
        return [Report(self.pipe, self.items[:half]), Report(self.pipe, self.items[half:])]


class SendLimits(msgspec.Struct, frozen=True):
    """Of one report; a single event may be larger, and is then for the other side to judge."""

    events: int
    bytes: int


def gather(found: Iterable[tuple[Pipe, Item] | None], limits: SendLimits) -> Iterator[Report | None]:
    """Report of events in a row; None where there is nothing more at the moment, which goes through at once."""
    gathered: list[Item] = []
    pipe, size = None, 0
    for one in found:
        if one is None:
            yield from _flush(pipe, gathered)
            yield None
            pipe, gathered, size = None, [], 0
            continue
        item_bytes = _size(one[1])
        fits = len(gathered) < limits.events and size + item_bytes <= limits.bytes
        if not gathered or not fits or one[0] != pipe or one[1].kind != gathered[0].kind:
            yield from _flush(pipe, gathered)
            pipe, gathered, size = one[0], [], len(one[0].head) + 2
        gathered.append(one[1])
        size += item_bytes
    yield from _flush(pipe, gathered)


def _flush(pipe: Pipe | None, gathered: list[Item]) -> Iterator[Report]:
    if pipe is not None and gathered:
        yield Report(pipe, tuple(gathered))


def _size(item: Item) -> int:
    return len(item.json) + 1 + (0 if item.has_target else _TARGET_BYTES)
