"""Which file is it? Decided from what was remembered and what is seen, without looking. Pure.

A name says nothing: files are renamed, replaced and truncated, and inodes are used again. So a file is known by device
and inode, by its first bytes, and by the bytes just before the place up to which it was read.

Its trail are such places in what was read, the farther back the fewer: after a power cut they show how much of it is
still there. A place is left out when the next one is at most twice as far from the end as the one kept before it: the
end only moves away, so that stays true.
"""

import hashlib
import itertools
import re
import struct
from collections.abc import Iterator
from typing import Literal

import msgspec

from sidecar.core.model import Checkpoint

HEAD_BYTES = 1024
MARK_BYTES = 64
_MOST_MARKS = 64
_FIRST_STEP = 256
_MARK = struct.Struct("<Q8s")
"""One place of a trail: its offset, and a digest of the bytes before it."""
_MOMENT = re.compile(rb"[0-9]:[0-5][0-9]:[0-5][0-9](?:[.,][0-9]+)?|(?<![0-9])1[0-9]{9}(?:\.?[0-9]+)?")
"""A time of day with its seconds, or seconds or milliseconds since 1970."""
Likeness = Literal["follow", "reopen", "truncated", "replaced", "rotated", "gone"]


class Look(msgspec.Struct, frozen=True):
    """What stands at a path: `head` are its first bytes, `before` those that end at the checkpoint's offset.

    Of each, as many as the checkpoint remembers, or fewer if the file is too short.
    """

    device: int
    inode: int
    size: int
    head: bytes
    before: bytes


def digest(head: bytes) -> bytes:
    """Return what is remembered of the first bytes; nothing of none."""
    return head and hashlib.blake2b(head, digest_size=16).digest()


def holds(known: Checkpoint, look: Look) -> bool:
    """Return whether it has all of the content that was read of the file, whatever its inode is."""
    return (
        look.size >= known.offset
        and len(look.head) == known.head_bytes
        and digest(look.head) == known.head
        and look.before == known.mark
    )


def compare(known: Checkpoint, look: Look | None) -> Likeness:
    """Return what has become of the file that was read up to `known`, as far as its path shows.

    `follow` it is the same · `reopen` the same in another inode, as an editor or a restored backup leaves it ·
    `truncated` emptied, and perhaps written anew · `replaced` other content, in an inode that was used again or
    overwritten · `rotated` another file stands there · `gone` none does.
    """
    if look is None:
        return "gone"
    if (look.device, look.inode) != (known.device, known.inode):
        return "reopen" if holds(known, look) and _is_telling(look.head) else "rotated"
    if look.size < known.offset:
        return "truncated"
    return "follow" if holds(known, look) else "replaced"


def _is_telling(head: bytes) -> bool:
    """Return whether two files that begin so are the same.

    A service that is started again may greet as before, even in the same second; but not at the same two moments.
    """
    return len(head) == HEAD_BYTES or len(set(_MOMENT.findall(head))) > 1


def mark_digest(before: bytes) -> bytes:
    """Return what a trail remembers of the bytes before a place."""
    return hashlib.blake2b(before[-MARK_BYTES:], digest_size=8).digest()


def trail_of(trail: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the places of a trail, the last one first, with the digests of what stood before them."""
    whole = len(trail) - len(trail) % _MARK.size
    yield from _MARK.iter_unpack(trail[:whole])


def extend_trail(trail: bytes, mark: bytes, start: int, taken: bytes) -> bytes:
    """Return the trail of a file of which `taken` was read from `start` on, behind `mark`."""
    end = start + len(taken)
    steps = [0]
    while (step := _FIRST_STEP << (len(steps) - 1)) < len(taken):
        steps.append(step)
    new = ((end - step, mark_digest(_before(mark, taken, len(taken) - step))) for step in steps)
    places = [*new, *trail_of(trail)]
    kept = places[:1]
    for one, farther in itertools.pairwise(places[1:]):
        if end - farther[0] > 2 * (end - kept[-1][0]):
            kept.append(one)
    kept += places[1:][-1:]
    return b"".join(itertools.starmap(_MARK.pack, kept[:_MOST_MARKS]))


def _before(mark: bytes, taken: bytes, place: int) -> bytes:
    """Return what stands before `place` of `taken`, as much as a mark needs; `mark` stands before all of it."""
    if place >= MARK_BYTES:
        return taken[place - MARK_BYTES : place]
    return mark + taken[:place]


def shorten_trail(trail: bytes, end: int) -> bytes:
    """Return what of a trail lies before `end`, or there."""
    return b"".join(_MARK.pack(place, digested) for place, digested in trail_of(trail) if place <= end)
