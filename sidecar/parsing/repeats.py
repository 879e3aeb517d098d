"""Joins equal events that follow one another into one, with their number. Pure.

    a a a b a  ->  a (repeated: 3)  b  a

Equal are events that differ in nothing but their time. The last run of a block stays in the file until it is over, as
an open group of lines does: no count has to be remembered, and none is lost with a kill.
"""

from typing import Any

import msgspec

_STAMP = b'"timestamp":0}'
_MOST = 1_000_000
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
ROOM_BYTES = 64
"""Leave so much room for what the number and the time add to an event."""


class RepeatRule(msgspec.Struct, frozen=True, kw_only=True):
    """Say how far apart the first and the last of a run may be, by their times and in the file."""

    within_ms: int
    max_bytes: int


class _Run(msgspec.Struct):
    number: int  # of its first record
    offset: int
    item: bytes
    stamp_ms: int
    due_ms: int | None
    count: int = 1


class Repeats:
    """Join the events of one block. `good` takes them: JSON, by when they are due."""

    def __init__(self, rule: RepeatRule, good: dict[int | None, list[bytes]]) -> None:
        self.joined = 0  # events that were joined to others
        self._rule, self._good = rule, good
        self._run: _Run | None = None  # the events that may go on; None: there was none yet

    def add(self, number: int, offset: int, item: bytes, stamp_ms: int, due_ms: int | None) -> None:
        """Take an event, made with a time of 0, of the record with this number."""
        run = self._run
        if (
            run is not None
            and run.item == item
            and run.due_ms == due_ms
            and abs(stamp_ms - run.stamp_ms) <= self._rule.within_ms
            and offset - run.offset <= self._rule.max_bytes
            and run.count < _MOST
        ):
            run.count += 1
            self.joined += 1
            return
        self._close()
        self._run = _Run(number, offset, item, stamp_ms, due_ms)

    def end(self, *, at_end: bool) -> int | None:
        """Return the number of the record at which an open run began; None if all is done. `at_end`: none will come."""
        if at_end:
            self._close()
        return self._run.number if self._run is not None else None

    def _close(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._good.setdefault(run.due_ms, []).append(_finished(run))


def _finished(run: _Run) -> bytes:
    if run.count == 1 and run.item.endswith(_STAMP):
        return run.item[: -len(_STAMP)] + b'"timestamp":%d}' % run.stamp_ms
    event: dict[str, Any] = _decode(run.item)
    event["timestamp"] = run.stamp_ms
    if run.count > 1:
        event["dimension"]["repeated"] = str(run.count)
    return _encode(event)
