"""Which file is it? Decided from what was remembered and what is seen, without looking. Pure.

A name says nothing: files are renamed, replaced and truncated, and inodes are used again. So a file is known by device
and inode, by its first bytes, and by the bytes just before the place up to which it was read.
"""

import hashlib
from typing import Literal

import msgspec

from sidecar.core.model import Checkpoint

HEAD_BYTES = 1024
MARK_BYTES = 64
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
        same = known.head_bytes == HEAD_BYTES and holds(known, look)
        return "reopen" if same else "rotated"
    if look.size < known.offset:
        return "truncated"
    return "follow" if holds(known, look) else "replaced"
