"""Decides what has become of a file, from what is known of it and what a look showed. Pure.

`decide` for a file that is followed; the first row that fits counts. "Copy" is another file that holds all that was
read of this one; its claim tells whether another file of the tail goes on there.

    a look at all files
    | what the look shows               | what is known of the file       | decision                          |
    |-----------------------------------|---------------------------------|-----------------------------------|
    | the patterns match it, at home    |                                 | Follow                            |
    |   ... with other content          | it was rotated away, closed     | Unknowable: a used inode          |
    | the patterns match it elsewhere   | nothing of its content, closed  | Unknowable: perhaps a used inode  |
    | the patterns match it elsewhere   |                                 | Renamed                             |
    | another name, with its content    |                                 | Renamed                             |
    | no name                           | it is open                      | Unnamed: read on in the open file |
    | no name                           | blocks are in flight            | Wait                              |
    | no name                           | all was read, or left out       | Gone                              |
    | a copy, where another file is     |                                 | Gone                              |
    | a copy, compressed or at its path |                                 | CopiedTo                          |
    | a copy, plain, elsewhere          |                                 | CopiedTo, with a window for loss  |
    | no copy                           | it never had content            | Gone                              |
    | no copy                           |                                 | Gone, with a loss                 |

    the content is not what it was when the file is read (`Seen.content`)
    | what the look shows               | what is known of the file       | decision                          |
    |-----------------------------------|---------------------------------|-----------------------------------|
    | anything                          | blocks are in flight            | Wait                              |
    | it goes on as it did              | it never was smaller            | Follow                            |
    | it goes on as it did              | it was smaller; something read  | CutOff, with a loss               |
    | truncated or replaced: only its   | last seen in another boot       | CutShort: go on there             |
    |   end is missing, or never written|                                 |                                   |
    | truncated or replaced: a copy     | followed                        | Restarted, read the copy; window  |
    | truncated or replaced: a copy     | rotated: its inode is used again| Restarted, read the copy          |
    | truncated or replaced: no copy    | all was read, or left out       | Restarted                         |
    | truncated or replaced: no copy    | nothing read                    | Restarted, loss unless files came |
    | truncated or replaced: no copy    |                                 | Restarted, with a loss            |
    | the same content, another inode   |                                 | Reopened                          |
    | another file, or none             |                                 | LookAgain                         |

"Truncated" includes: it was smaller meanwhile, and nothing was read of it.
"""

import enum
from typing import Literal

import msgspec

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, Likeness
from sidecar.inputs.tail.rotated_names import COMPRESSED_SUFFIXES

_BEING_COPIED_MS = 2000
"""A small file with the name of a rotated one, written to so lately, may be a copy that is not whole yet."""


class Claim(enum.Enum):
    """Tells whether a file of the tail goes on in the inode of a candidate."""

    FREE = "free"
    OWN = "own"
    STALE = "stale"  # one did, but its inode was used again
    IDLE = "idle"  # one was left out there as a copy, or is not read yet
    TAKEN = "taken"


class Candidate(msgspec.Struct, frozen=True):
    """Describe a file that may be, or follow, the one that is looked for."""

    path: str
    identity: tuple[int, int]  # device and inode
    size: int
    modified_ns: int
    claim: Claim = Claim.FREE

    @property
    def compressed(self) -> bool:
        """Return True if its name says so."""
        return self.path.endswith(COMPRESSED_SUFFIXES)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is known of a followed file before a look."""

    path: str
    is_rotated: bool = False
    is_open: bool = False
    in_flight: bool = False
    owns_inode: bool = True
    was_read: bool = True  # something of it was handed over
    has_beginning: bool = True  # something of its content is known
    had_content: bool = True  # it was seen not to be empty, at any time
    is_unread: bool = True  # there may be something that was not read
    is_complete: bool = False  # it was read to its end after it was rotated, or left out
    is_shrunk: bool = False  # it was smaller than before, at some look
    is_from_other_boot: bool = False  # the host went down, and nobody has compared its content since


class NotLooked(enum.Enum):
    """Stand for what nobody looked for yet."""

    YET = "yet"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Say what a look showed of a followed file."""

    matched: str | None = None  # the path by which the patterns match its inode; None: they do not
    at_home: bool = False  # that is its own path (a look does not ask then, unless it was rotated away: it goes on)
    is_it: bool = True  # at home: what is there holds what is known of it
    content: Likeness | None = None  # when it is read: what stands where it was; None: not compared
    name: str | NotLooked | None = NotLooked.YET  # where its inode is, with its content
    copy: Candidate | NotLooked | None = NotLooked.YET
    cut: Checkpoint | NotLooked | None = NotLooked.YET  # where it goes on if a power cut took its end


class LookFor(enum.Enum):
    """Ask for more to be looked for, since what was seen does not decide."""

    NAME = "name"
    COPY = "copy"
    CUT = "cut"
    CONTINUED = "continued"
    ORIGIN = "origin"


class Follow(msgspec.Struct, frozen=True):
    """Go on: it is where it was."""


class Renamed(msgspec.Struct, frozen=True):
    """Go on: it is at another path."""

    path: str


class Unknowable(msgspec.Struct, frozen=True):
    """Give up its inode: whether what is there is it, nobody can tell."""


class Unnamed(msgspec.Struct, frozen=True):
    """Read on in the open file: nobody knows a path of it."""


class Wait(msgspec.Struct, frozen=True):
    """Decide later: what is in flight decides how far it was read."""


class CopiedTo(msgspec.Struct, frozen=True):
    """Go on in a copy. `loss`: what happened, if something may have been written after the copying; None: nothing."""

    copy: Candidate
    loss: str | None = None


class Gone(msgspec.Struct, frozen=True):
    """Finish it. `loss`: why something may be lost; None: nothing is."""

    loss: str | None = None


class Restarted(msgspec.Struct, frozen=True):
    """Take what is there for another file; go on in `copy`, if there is one, else finish.

    `window`: something may have been written after the copying. `loss`: not read to its end; `unless_between`: that is
    no loss if other files were at its path in between, since nobody knows that it ever had that content.
    """

    why: str
    copy: Candidate | None = None
    window: bool = False
    loss: bool = False
    unless_between: bool = False


class CutOff(msgspec.Struct, frozen=True):
    """Go on, with a loss: the end was cut off and written anew, all that was read is there."""


class CutShort(msgspec.Struct, frozen=True):
    """Go on at this checkpoint: a power cut took the end, whose lines are in the queue."""

    there: Checkpoint


class Reopened(msgspec.Struct, frozen=True):
    """Go on at the same path in another inode."""


class LookAgain(msgspec.Struct, frozen=True):
    """Look at all files: it is not where it was."""


Decision = (
    Follow
    | Renamed
    | Unknowable
    | Unnamed
    | Wait
    | CopiedTo
    | Gone
    | Restarted
    | CutOff
    | CutShort
    | Reopened
    | LookAgain
    | LookFor
)
_GONE = "the file is gone"
_NO_COPY = "the file is gone, and no copy of it was found"
_RESTARTED = {"replaced": "the file was overwritten, or its inode used again"}
_TRUNCATED = "the file was truncated"


def decide(file: Known, seen: Seen) -> Decision:
    """Return what has become of a file that is followed, or what is to be looked for to decide it."""
    if seen.content is not None:
        return _decide_content(file, seen.content, seen)
    if seen.matched is not None:
        if seen.at_home:
            return Follow() if seen.is_it or file.is_open or not file.is_rotated else Unknowable()
        return Renamed(seen.matched) if file.has_beginning or file.is_open else Unknowable()
    if file.owns_inode:
        if isinstance(seen.name, NotLooked):
            return LookFor.NAME
        if seen.name is not None:
            return Renamed(seen.name)
    if file.is_open:
        return Unnamed()
    return Wait() if file.in_flight else _decide_gone(file, seen.copy)


def _decide_gone(file: Known, copy: Candidate | NotLooked | None) -> Decision:
    """Nobody finds it by its inode."""
    if not file.is_unread or file.is_complete:
        return Gone()
    if isinstance(copy, NotLooked):
        return LookFor.COPY
    if copy is None:
        return Gone(_NO_COPY if file.had_content else None)
    if copy.claim is Claim.TAKEN:
        return Gone()
    return CopiedTo(copy, None if copy.compressed or copy.path == file.path else _GONE)


def _decide_content(file: Known, content: Likeness, seen: Seen) -> Decision:
    """Its content was compared with what was read."""
    if file.in_flight:
        return Wait()
    if content in ("rotated", "gone"):
        return LookAgain()
    if content == "reopen":
        return Reopened()
    if content == "follow" and (file.was_read or not file.is_shrunk):
        return CutOff() if file.is_shrunk else Follow()
    if file.is_from_other_boot:
        if isinstance(seen.cut, NotLooked):
            return LookFor.CUT
        if seen.cut is not None:
            return CutShort(seen.cut)
    why, copy = _RESTARTED.get(content, _TRUNCATED), seen.copy
    if file.is_complete:
        return Restarted(why)
    if isinstance(copy, NotLooked):
        return LookFor.COPY
    if copy is None or copy.claim is Claim.TAKEN:
        return Restarted(why, loss=True, unless_between=not file.was_read)
    return Restarted(why, copy, window=not file.is_rotated)


class NewPath(msgspec.Struct, frozen=True, kw_only=True):
    """Say what a look showed of a path whose inode belongs to no file of the tail."""

    is_compressed: bool = False
    is_empty: bool = False
    hole: int | None = None  # where a sparse file has its first hole; None: it has none
    in_place: bool = False  # it is what stands in the inode of a file that was truncated or overwritten
    is_first_look: bool = False  # the tail never ran before
    start_at_end: bool = False  # what is there at the first look is not to be read
    is_copy: bool | NotLooked = NotLooked.YET  # plain, of a file that is followed, and will be truncated
    is_continued: bool | NotLooked = NotLooked.YET  # the newest file that was at this path goes on here
    has_origin: bool | NotLooked = NotLooked.YET  # compressed: it is a copy of a file that is, or was, known


class NewFile(enum.Enum):
    """Tell what a path is whose inode nobody knows; and, of a new file, where reading begins."""

    SPARSE = "sparse"  # not followed
    COPY = "copy"  # not followed; it is found by its content when the file it is a copy of needs it
    CONTINUED = "continued"  # the file that was at this path goes on here, in another inode
    LEFT_OUT = "left out"  # known, so that it is not read later
    AT_BEGINNING = "at its beginning"
    AT_END = "at its end"
    BEHIND_HOLE = "behind the hole at its beginning"


def decide_new(seen: NewPath) -> NewFile | LookFor:
    """Return what a path is whose inode nobody knows, or what is to be looked for to decide it.

    | what the look shows                                        | decision                                      |
    |------------------------------------------------------------|-----------------------------------------------|
    | a hole; not in place of a truncated file                   | SPARSE                                        |
    | not the first look: a plain copy of a followed file        | COPY                                          |
    | the same content as the newest file that was there         | CONTINUED: an editor, or a restored backup    |
    | compressed: a copy of a known file                         | LEFT_OUT                                      |
    | compressed: there at the first look, with `start_at: end`  | LEFT_OUT                                      |
    | plain: a hole at its beginning                             | BEHIND_HOLE: its writer did not notice        |
    | plain: there at the first look, with `start_at: end`       | AT_END                                        |
    | anything else                                              | AT_BEGINNING                                  |
    """
    if seen.hole is not None and not seen.in_place:
        return NewFile.SPARSE
    may_be_copy = not seen.is_first_look and not seen.is_compressed
    if may_be_copy and seen.is_copy is NotLooked.YET:
        return LookFor.COPY
    if may_be_copy and seen.is_copy is True:
        return NewFile.COPY
    if seen.is_continued is NotLooked.YET:
        return LookFor.CONTINUED
    if seen.is_continued:
        return NewFile.CONTINUED
    left_out = seen.is_first_look and seen.start_at_end
    if seen.is_compressed:
        if seen.has_origin is NotLooked.YET:
            return LookFor.ORIGIN
        return NewFile.LEFT_OUT if seen.has_origin or left_out else NewFile.AT_BEGINNING
    if seen.hole == 0:
        return NewFile.BEHIND_HOLE
    return NewFile.AT_END if left_out else NewFile.AT_BEGINNING


class ShortLived(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is known of what stood at a path and was gone before anybody looked."""

    is_known: bool = False  # its inode, or the inode of what is there now, is or was a file of the tail
    is_copy: bool = False  # it has the name of a rotated file, or a compressed one of its name is there
    is_link: bool | None = None  # None: nobody saw what it was
    target_is_there: bool = False  # where the link led to is a file, and may be read
    was_written: bool = False
    link_is_there_now: bool = False


def decide_short_lived(one: ShortLived) -> Literal["read", "lost", "nothing"]:
    """Return whether what stood at a path can still be read, or is a loss.

    | what is known                                                 | decision |
    |---------------------------------------------------------------|----------|
    | a file of the tail; or a rotated one, which is looked for     | nothing  |
    | a link, and what it led to is there                           | read     |
    | a link, and what it led to is not there                       | lost     |
    | a file, or nobody saw: it was written to                      | lost     |
    | nobody saw, and a link is there now: so it may have been one  | lost     |
    | anything else: a file that was empty                          | nothing  |
    """
    if one.is_known or one.is_copy:
        return "nothing"
    if one.is_link and one.target_is_there:
        return "read"
    lost = one.is_link or one.was_written or (one.is_link is None and one.link_is_there_now)
    return "lost" if lost else "nothing"


class FirstRead(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is seen of an open file before the first block of it is read."""

    is_original: bool = False  # it is known to be no copy
    was_read: bool = False
    is_compressed: bool = False
    has_rotated_name: bool = True  # its name is that of a rotated file of some that is, or was, followed
    size: int = HEAD_BYTES
    age_ms: int = _BEING_COPIED_MS  # since it was last written to
    has_origin: bool | NotLooked = NotLooked.YET


def decide_first_read(seen: FirstRead) -> Literal["original", "copy", "wait"] | LookFor:
    """Return whether an open file is a copy of another one, or what is to be looked for to decide it.

    Of a compressed file that shows once it can be read; another may still be written.

    | what is seen                                                 | decision |
    |--------------------------------------------------------------|----------|
    | it is known to be none, or something was read of it          | original |
    | plain, and not called like a rotated file                    | original |
    | plain, less than 1 KiB, written to in the last 2 s           | wait     |
    | it holds what was read of another file                       | copy     |
    | anything else                                                | original |
    """
    if seen.is_original or seen.was_read or not (seen.is_compressed or seen.has_rotated_name):
        return "original"
    if not seen.is_compressed and seen.size < HEAD_BYTES and seen.age_ms < _BEING_COPIED_MS:
        return "wait"
    if seen.has_origin is NotLooked.YET:
        return LookFor.ORIGIN
    return "copy" if seen.has_origin else "original"
