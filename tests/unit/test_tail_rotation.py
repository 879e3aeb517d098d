"""What has become of a file: every row of the tables in `rotation.py`, without a file."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, Likeness
from sidecar.inputs.tail.rotation import (
    Candidate,
    Claim,
    CopiedTo,
    CutOff,
    CutShort,
    Decision,
    FirstRead,
    Follow,
    Gone,
    Known,
    LookAgain,
    LookFor,
    NewFile,
    NewPath,
    NotLooked,
    Renamed,
    Reopened,
    Restarted,
    Seen,
    ShortLived,
    Unknowable,
    Unnamed,
    Wait,
    decide,
    decide_first_read,
    decide_new,
    decide_short_lived,
)

PLAIN, PACKED, AT_HOME = [
    Candidate(path, (1, 11), 2000, 0) for path in ("/log/app.log.1", "/log/app.log.1.gz", "/log/app.log")
]
TAKEN = msgspec.structs.replace(PLAIN, claim=Claim.TAKEN)
SHORTER = Checkpoint(tail="t", number=1, path="/log/app.log", at="/log/app.log", device=1, inode=10, offset=900)
NO_COPY = "the file is gone, and no copy of it was found"
TRUNCATED = "the file was truncated"
REPLACED = "the file was overwritten, or its inode used again"


def known(**fields: Any) -> Known:
    return Known(path="/log/app.log", **fields)


LOOKS: list[tuple[str, Known, Seen, Decision]] = [
    ("at home", known(), Seen(matched="/log/app.log", at_home=True), Follow()),
    ("rotated, and at home again", known(is_rotated=True), Seen(matched="/log/app.log", at_home=True), Follow()),
    (
        "rotated, and its inode is what came after it",
        known(is_rotated=True),
        Seen(matched="/log/app.log", at_home=True, is_it=False),
        Unknowable(),
    ),
    (
        "rotated, open, so its inode is its own",
        known(is_rotated=True, is_open=True),
        Seen(matched="/log/app.log", at_home=True, is_it=False),
        Follow(),
    ),
    (
        "emptied, at home: that shows when it is read",
        known(),
        Seen(matched="/log/app.log", at_home=True, is_it=False),
        Follow(),
    ),
    ("empty, and at home", known(has_beginning=False), Seen(matched="/log/app.log", at_home=True), Follow()),
    ("renamed among the files", known(), Seen(matched="/log/app.log.1"), Renamed("/log/app.log.1")),
    ("an inode used again", known(has_beginning=False), Seen(matched="/log/b.log"), Unknowable()),
    ("empty, open, renamed", known(has_beginning=False, is_open=True), Seen(matched="/b"), Renamed("/b")),
    ("not matched: where is it?", known(), Seen(), LookFor.NAME),
    ("renamed elsewhere", known(), Seen(name="/log/app.log.1"), Renamed("/log/app.log.1")),
    ("deleted while open", known(is_open=True), Seen(name=None), Unnamed()),
    ("moved where nobody looks, open, all read", known(is_open=True, is_unread=False), Seen(name=None), Unnamed()),
    ("deleted with blocks in flight", known(in_flight=True), Seen(name=None), Wait()),
    ("its inode is another's: not looked for", known(owns_inode=False, is_open=True), Seen(), Unnamed()),
    ("gone, all read", known(is_unread=False), Seen(name=None), Gone()),
    ("gone, a copy that was left out", known(is_complete=True), Seen(name=None), Gone()),
    ("gone: is there a copy?", known(), Seen(name=None), LookFor.COPY),
    ("gone for good", known(), Seen(name=None, copy=None), Gone(NO_COPY)),
    ("gone, and never had content", known(had_content=False), Seen(name=None, copy=None), Gone()),
    ("gone, its copy is read by another", known(), Seen(name=None, copy=TAKEN), Gone()),
    ("compressed", known(), Seen(name=None, copy=PACKED), CopiedTo(PACKED)),
    ("edited: the same in another inode", known(), Seen(name=None, copy=AT_HOME), CopiedTo(AT_HOME)),
    ("copied, then deleted", known(), Seen(name=None, copy=PLAIN), CopiedTo(PLAIN, "the file is gone")),
    ("as it was", known(), Seen(content="follow"), Follow()),
    ("in flight: later", known(in_flight=True), Seen(content="truncated"), Wait()),
    ("cut off and written anew", known(is_shrunk=True), Seen(content="follow"), CutOff()),
    ("emptied before it was read", known(is_shrunk=True, was_read=False), Seen(content="follow"), LookFor.COPY),
    ("truncated: is there a copy?", known(), Seen(content="truncated"), LookFor.COPY),
    ("truncated", known(), Seen(content="truncated", copy=None), Restarted(TRUNCATED, loss=True)),
    ("overwritten", known(), Seen(content="replaced", copy=None), Restarted(REPLACED, loss=True)),
    ("truncated when all was read and said so", known(is_complete=True), Seen(content="truncated"),
     Restarted(TRUNCATED)),
    ("copytruncate", known(), Seen(content="truncated", copy=PLAIN), Restarted(TRUNCATED, PLAIN, window=True)),
    ("copytruncate, compressed at once", known(), Seen(content="truncated", copy=PACKED),
     Restarted(TRUNCATED, PACKED, window=True)),
    ("rotated, compressed, its inode used again", known(is_rotated=True), Seen(content="replaced", copy=PACKED),
     Restarted(REPLACED, PACKED)),
    ("truncated, its copy is read by another", known(), Seen(content="truncated", copy=TAKEN),
     Restarted(TRUNCATED, loss=True)),
    ("truncated before anything was read", known(was_read=False), Seen(content="replaced", copy=None),
     Restarted(REPLACED, loss=True, unless_between=True)),
    ("the host went down: is only the end missing?", known(is_from_other_boot=True), Seen(content="truncated"),
     LookFor.CUT),
    ("a power cut took the end", known(is_from_other_boot=True), Seen(content="truncated", cut=SHORTER),
     CutShort(SHORTER)),
    ("a power cut took the end, all was read", known(is_from_other_boot=True, is_complete=True),
     Seen(content="replaced", cut=SHORTER), CutShort(SHORTER)),
    ("the host went down, and another file is there", known(is_from_other_boot=True),
     Seen(content="replaced", cut=None), LookFor.COPY),
    ("a backup was restored", known(), Seen(content="reopen"), Reopened()),
    ("another file is there", known(), Seen(content="rotated"), LookAgain()),
    ("nothing is there", known(), Seen(content="gone"), LookAgain()),
]  # fmt: skip


@pytest.mark.parametrize(("file", "seen", "decision"), [row[1:] for row in LOOKS], ids=[row[0] for row in LOOKS])
def test_what_has_become_of_a_file(file: Known, seen: Seen, decision: Decision) -> None:
    assert decide(file, seen) == decision


BOOLS = [name for name, field in Known.__annotations__.items() if field is bool]
FILES = st.builds(known, **{name: st.booleans() for name in BOOLS})
COPIES = st.sampled_from([None, *(msgspec.structs.replace(one, claim=claim)
                                  for one, claim in itertools.product((PLAIN, PACKED, AT_HOME), Claim))])  # fmt: skip
LIKENESSES: list[Likeness] = ["follow", "reopen", "truncated", "replaced", "rotated", "gone"]


def decided(
    file: Known, seen: Seen, name: str | None, copy: Candidate | None, cut: Checkpoint | None = None
) -> Decision:
    """Ask until it is decided: each thing is looked for at most once."""
    for _ in range(4):
        decision = decide(file, seen)
        if decision is LookFor.NAME:
            assert seen.name is NotLooked.YET
            seen = msgspec.structs.replace(seen, name=name)
        elif decision is LookFor.CUT:
            assert seen.cut is NotLooked.YET
            seen = msgspec.structs.replace(seen, cut=cut)
        elif decision is LookFor.COPY:
            assert seen.copy is NotLooked.YET
            seen = msgspec.structs.replace(seen, copy=copy)
        else:
            return decision
    raise AssertionError("it never ends")


@given(FILES, st.sampled_from([None, "/log/app.log.1"]), COPIES)
def test_no_file_ends_silently_while_something_of_it_may_be_unread(
    file: Known, name: str | None, copy: Candidate | None
) -> None:
    decision = decided(file, Seen(), name, copy)
    match decision:
        case Gone(None):
            read = not file.is_unread or file.is_complete
            assert read or not file.had_content or (copy is not None and copy.claim is Claim.TAKEN)
        case Gone():
            assert file.is_unread
            assert not file.is_complete
            assert copy is None
        case CopiedTo(there):
            assert there == copy
            assert there.claim is not Claim.TAKEN
        case _:
            assert isinstance(decision, Renamed | Unnamed | Wait)
    if file.is_open or file.in_flight:
        assert isinstance(decision, Renamed | Unnamed | Wait), "what can still be read is read"


@given(FILES, st.sampled_from(LIKENESSES), COPIES, st.sampled_from([None, SHORTER]))
def test_content_that_changed_restarts_a_file_and_says_what_may_be_lost(
    file: Known, content: Likeness, copy: Candidate | None, cut: Checkpoint | None
) -> None:
    decision = decided(file, Seen(content=content), None, copy, cut)
    if file.in_flight:
        assert isinstance(decision, Wait), "how far it was read is not known yet"
    elif isinstance(decision, Restarted):
        assert content in ("truncated", "replaced") or (file.is_shrunk and not file.was_read)
        assert (decision.copy is None) or (decision.copy == copy and not decision.loss)
        assert decision.loss or decision.copy or file.is_complete
        assert cut is None or not file.is_from_other_boot
    elif isinstance(decision, CutShort):
        assert file.is_from_other_boot, "whoever truncates a log has it read from its beginning"
    else:
        assert content not in ("truncated", "replaced")
        assert isinstance(decision, Follow | CutOff | Reopened | LookAgain)


NEW: list[tuple[str, NewPath, NewFile | LookFor]] = [
    ("sparse", NewPath(hole=0), NewFile.SPARSE),
    ("is it a copy?", NewPath(), LookFor.COPY),
    ("a copy that copytruncate made", NewPath(is_copy=True), NewFile.COPY),
    ("does the one before go on?", NewPath(is_copy=False), LookFor.CONTINUED),
    ("an editor", NewPath(is_copy=False, is_continued=True), NewFile.CONTINUED),
    ("new", NewPath(is_copy=False, is_continued=False), NewFile.AT_BEGINNING),
    ("new, and start_at: end", NewPath(is_copy=False, is_continued=False, start_at_end=True), NewFile.AT_BEGINNING),
    ("there before", NewPath(is_first_look=True, is_continued=False), NewFile.AT_BEGINNING),
    ("there before, start_at: end", NewPath(is_first_look=True, is_continued=False, start_at_end=True), NewFile.AT_END),
    ("compressed: of a known one?", NewPath(is_compressed=True, is_continued=False), LookFor.ORIGIN),
    ("compressed, of a known one", NewPath(is_compressed=True, is_continued=False, has_origin=True), NewFile.LEFT_OUT),
    ("compressed, of none", NewPath(is_compressed=True, is_continued=False, has_origin=False), NewFile.AT_BEGINNING),
    ("compressed, there before, start_at: end",
     NewPath(is_compressed=True, is_continued=False, has_origin=False, is_first_look=True, start_at_end=True),
     NewFile.LEFT_OUT),
    ("truncated, and its writer goes on behind a hole",
     NewPath(hole=0, in_place=True, is_copy=False, is_continued=False), NewFile.BEHIND_HOLE),
    ("truncated, with a hole in its middle", NewPath(hole=9, in_place=True, is_copy=False, is_continued=False),
     NewFile.AT_BEGINNING),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "decision"), [row[1:] for row in NEW], ids=[row[0] for row in NEW])
def test_what_a_path_is_that_nobody_knows(seen: NewPath, decision: NewFile | LookFor) -> None:
    assert decide_new(seen) is decision


@pytest.mark.parametrize(
    ("seen", "decision"),
    [
        (FirstRead(is_original=True), "original"),
        (FirstRead(was_read=True), "original"),
        (FirstRead(has_rotated_name=False), "original"),
        (FirstRead(size=HEAD_BYTES - 1, age_ms=1999), "wait"),
        (FirstRead(size=HEAD_BYTES - 1, age_ms=2000), LookFor.ORIGIN),
        (FirstRead(size=HEAD_BYTES, age_ms=0), LookFor.ORIGIN),
        (FirstRead(is_compressed=True, has_rotated_name=False, size=1, age_ms=0), LookFor.ORIGIN),
        (FirstRead(has_origin=True), "copy"),
        (FirstRead(has_origin=False), "original"),
    ],
)
def test_whether_an_open_file_is_a_copy(seen: FirstRead, decision: Any) -> None:
    assert decide_first_read(seen) == decision


@pytest.mark.parametrize(
    ("what", "one", "decision"),
    [
        ("a look saw it", ShortLived(is_known=True, is_link=False, was_written=True), "nothing"),
        ("rotated and compressed at once", ShortLived(is_copy=True, is_link=False, was_written=True), "nothing"),
        ("a link pointed elsewhere twice", ShortLived(is_link=True, target_is_there=True), "read"),
        ("and what it led to is gone", ShortLived(is_link=True), "lost"),
        ("made, written to, and made again", ShortLived(is_link=False, was_written=True), "lost"),
        ("made, and made again", ShortLived(is_link=False), "nothing"),
        ("too fast to be seen", ShortLived(was_written=True), "lost"),
        ("too fast, and nothing was written", ShortLived(), "nothing"),
        ("too fast, and a link is there now", ShortLived(link_is_there_now=True), "lost"),
    ],
)
def test_what_was_gone_before_anybody_looked(what: str, one: ShortLived, decision: str) -> None:
    assert decide_short_lived(one) == decision, what
