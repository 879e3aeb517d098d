"""Checks the items of one report, all or nothing, and cuts them into blocks that fit a row of the queue."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from sidecar.errors import Refused
from sidecar.model import Block
from sidecar.report.careful import Rules, check_item, kind_of
from sidecar.report.fast import count_plain

__all__ = ["Rules", "check_items", "cut"]

Piece = bytes | msgspec.Raw
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def check_items(data: bytes, rules: Rules, *, now_ms: int, block_bytes: int, event_bytes: int) -> list[Block]:
    """The items of the JSON array `data` as blocks of at most `block_bytes`, in order.

    Raises Refused: 400 with `data[3].dimension.module: ...` for the first bad item, 413 for an item larger than
    `event_bytes`, which the proxy would not take even alone.
    """
    count = count_plain(data, rules.kind, now_ms)
    if count is not None and len(data) <= min(block_bytes, event_bytes):
        return [Block(data[1:-1].strip(), count)]
    items = _split(data)
    pieces: Sequence[Piece] = _checked(items, rules, now_ms) if count is None else items
    return cut(pieces, block_bytes=block_bytes, event_bytes=event_bytes)


def _checked(items: Sequence[msgspec.Raw], rules: Rules, now_ms: int) -> list[bytes]:
    if not items:
        raise Refused(400, "data: empty, expected at least one item")
    kind = rules.kind
    good = []
    for index, item in enumerate(items):
        try:
            kind = kind or kind_of(bytes(item))
            good.append(check_item(bytes(item), kind, rules, now_ms))
        except Refused as refused:
            raise Refused(refused.status, f"data[{index}]{refused.message}") from None
    return good


def cut(pieces: Sequence[Piece], *, block_bytes: int, event_bytes: int) -> list[Block]:
    """Joins runs of `pieces` greedily; a piece larger than `block_bytes` is a block of its own."""
    sizes = list(map(len, pieces))
    if max(sizes) > event_bytes:
        index = next(i for i, size in enumerate(sizes) if size > event_bytes)
        raise Refused(413, f"data[{index}]: {sizes[index]} bytes, the proxy takes at most {event_bytes} for one event")
    ends = list(accumulate(sizes, lambda total, size: total + size + 1, initial=0))  # with a comma after each
    blocks, start = [], 0
    while start < len(pieces):
        end = max(start + 1, bisect_right(ends, ends[start] + block_bytes + 1) - 1)
        blocks.append(Block(b",".join(pieces[start:end]), end - start))
        start = end
    return blocks
