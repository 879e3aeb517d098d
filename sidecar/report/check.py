"""Checks the items of one report, all or nothing, and cuts them into blocks that fit a row of the queue."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from sidecar.core.errors import Rejected
from sidecar.core.model import Block, Kind
from sidecar.report.careful import CheckedItem, Rules, check_item, kind_of
from sidecar.report.fast import judge_plain
from sidecar.report.limits import MAX_GROWTH_BYTES
from sidecar.report.scanner import NotScannable, elements
from sidecar.report.words import foreign

__all__ = ["Checked", "Rules", "check_items", "cut"]

JsonPiece = bytes | msgspec.Raw
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Checked(msgspec.Struct, frozen=True, gc=False):
    """The items of a good report. `repaired`: a field of an item had to be left out."""

    kind: Kind
    blocks: list[Block]
    repaired: bool = False


def check_items(
    data: bytes, rules: Rules, *, now_ms: int, block_bytes: int, event_bytes: int, skew_ms: int = 0
) -> Checked:
    """Return the items of the JSON array `data` as blocks of at most `block_bytes`, in order, the future last.

    `skew_ms`: by how much the proxy's clock is ahead of ours; it is the proxy that says what the future is.

    Raises Rejected: 400 with `data[3].dimension.module: ...` for the first bad item, 413 for an item larger than
    `event_bytes`, which the proxy would not take even alone.
    """
    plain = judge_plain(data, rules.kind, now_ms + skew_ms)
    # If all of it is within the limits, so is each item: nothing has to be cut.
    if plain is not None and len(data) <= min(block_bytes, event_bytes):
        kind, count = plain
        return Checked(kind, [Block(data[1:-1].strip(), count)])
    items = _items_of(data)
    if not items:
        raise Rejected(400, "empty, expected at least one item", ("data",))
    _refuse_oversized(items, event_bytes)
    if plain is not None:
        return Checked(plain[0], cut(items, block_bytes))
    kind = rules.kind or _kind_of_first(items)
    checked = _check_each(items, kind, rules, now_ms, skew_ms)
    _refuse_oversized([item.json for item in checked], event_bytes)  # once more: numbers may have grown
    by_due: dict[int | None, list[bytes]] = {None: []}
    for item in checked:
        by_due.setdefault(item.due_ms, []).append(item.json)
    blocks = [block for due_ms, part in by_due.items() for block in cut(part, block_bytes, due_ms)]
    return Checked(kind, blocks, any(item.repaired for item in checked))


def _items_of(data: bytes) -> Sequence[JsonPiece]:
    try:
        return _split(data)
    except msgspec.DecodeError as error:  # it was found by the scanner, which does not look inside
        raise Rejected(400, f"{foreign(error)}", ("data",)) from None
    except RecursionError:
        # The proxy takes 10,000 levels; msgspec gives up earlier. Perhaps it is a field that nobody looks at.
        try:
            return elements(data)
        except NotScannable as error:
            raise Rejected(400, f"nested too deep, and {error}", ("data",)) from None


def _refuse_oversized(pieces: Sequence[JsonPiece], event_bytes: int) -> None:
    largest = max(pieces, key=len)
    if len(largest) > event_bytes:
        raise too_large(len(largest), event_bytes).inside("data", pieces.index(largest))


def too_large(size: int, event_bytes: int) -> Rejected:
    """Return what is wrong with an event of `size` bytes, where the proxy takes at most `event_bytes`."""
    return Rejected(413, f"{size} bytes, the proxy takes at most {event_bytes} for one event", scope="event")


def _kind_of_first(items: Sequence[JsonPiece]) -> Kind:
    try:
        return kind_of(bytes(items[0]))
    except Rejected as rejected:
        raise rejected.inside("data", 0) from None


def _check_each(items: Sequence[JsonPiece], kind: Kind, rules: Rules, now_ms: int, skew_ms: int) -> list[CheckedItem]:
    good = []
    growth = 0
    for index, item in enumerate(items):
        try:
            checked = check_item(bytes(item), kind, rules, now_ms, skew_ms)
        except Rejected as rejected:
            raise rejected.inside("data", index) from None
        growth += len(checked.json) - len(item)
        # `1e308` becomes 309 digits in a dimension: a small report must not become a huge one.
        if growth > MAX_GROWTH_BYTES:
            problem = f"the report grows by over {MAX_GROWTH_BYTES} bytes when normalised"
            raise Rejected(413, problem, ("data", index))
        good.append(checked)
    return good


def cut(pieces: Sequence[JsonPiece], block_bytes: int, due_ms: int | None = None) -> list[Block]:
    """Join runs of `pieces` greedily; a piece larger than `block_bytes` is a block of its own."""
    sizes = map(len, pieces)
    ends = list(accumulate(sizes, lambda total, size: total + size + 1, initial=0))  # with a comma after each
    blocks, start = [], 0
    while start < len(pieces):
        end = max(start + 1, bisect_right(ends, ends[start] + block_bytes + 1) - 1)
        blocks.append(Block(b",".join(pieces[start:end]), end - start, due_ms))
        start = end
    return blocks
