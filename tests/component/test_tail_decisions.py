"""Which file is it, where may its rotated ones be, and what do patterns match: decided without looking."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, MARK_BYTES, Look, compare, digest, holds
from sidecar.inputs.tail.rotated_names import date_in, is_related, is_successor
from sidecar.inputs.tail.scan import discover
from sidecar.text.globs import matches_any, split_pattern

CONTENT = b"".join(b"%04d a line of a log\n" % number for number in range(200))
OFFSET = 3000
KNOWN = Checkpoint(
    tail="t", number=1, path="/a.log", at="/a.log", device=1, inode=10, head=digest(CONTENT[:HEAD_BYTES]),
    head_bytes=HEAD_BYTES, offset=OFFSET, mark=CONTENT[OFFSET - MARK_BYTES : OFFSET],
)  # fmt: skip
SHORT = msgspec.structs.replace(KNOWN, head=digest(CONTENT[:44]), head_bytes=44, offset=44, mark=CONTENT[:44])
NOTHING = msgspec.structs.replace(KNOWN, head=b"", head_bytes=0, offset=0, mark=b"")


def look(known: Checkpoint, content: bytes, *, inode: int = 10) -> Look:
    before = content[max(0, known.offset - len(known.mark)) : known.offset]
    return Look(1, inode, len(content), content[: known.head_bytes], before)


OTHER = b"9" + CONTENT[1:]
OTHER_BEFORE = CONTENT[: OFFSET - 10] + b"X" + CONTENT[OFFSET - 9 :]


@pytest.mark.parametrize(
    ("known", "seen", "verdict"),
    [
        (KNOWN, None, "gone"),
        (KNOWN, look(KNOWN, CONTENT), "follow"),
        (KNOWN, look(KNOWN, CONTENT[:OFFSET]), "follow"),
        (KNOWN, look(KNOWN, CONTENT + b"more\n"), "follow"),
        (KNOWN, look(KNOWN, CONTENT[: OFFSET - 1]), "truncated"),
        (KNOWN, look(KNOWN, b""), "truncated"),
        (KNOWN, look(KNOWN, b"new\n"), "truncated"),
        (KNOWN, look(KNOWN, OTHER), "replaced"),  # of equal length, another beginning
        (KNOWN, look(KNOWN, OTHER_BEFORE), "replaced"),  # the same beginning, goes on in another way
        (KNOWN, look(KNOWN, bytes(5000)), "replaced"),  # a writer that did not notice the truncation left a hole
        (KNOWN, look(KNOWN, CONTENT, inode=11), "reopen"),
        (KNOWN, look(KNOWN, CONTENT[:OFFSET], inode=11), "reopen"),
        (KNOWN, look(KNOWN, OTHER, inode=11), "rotated"),
        (KNOWN, look(KNOWN, b"", inode=11), "rotated"),
        (SHORT, look(SHORT, CONTENT), "follow"),
        (SHORT, look(SHORT, CONTENT, inode=11), "rotated"),  # a short beginning may be that of every file
        (SHORT, look(SHORT, b"x"), "truncated"),
        (NOTHING, look(NOTHING, CONTENT), "follow"),
        (NOTHING, look(NOTHING, b""), "follow"),
        (NOTHING, look(NOTHING, CONTENT, inode=11), "rotated"),
        (NOTHING, None, "gone"),
    ],
)
def test_what_has_become_of_a_file(known: Checkpoint, seen: Look | None, verdict: str) -> None:
    assert compare(known, seen) == verdict


def test_another_device_is_another_file() -> None:
    assert compare(SHORT, msgspec.structs.replace(look(SHORT, CONTENT), device=2)) == "rotated"


def test_content_is_known_in_whatever_file_it_is() -> None:
    assert holds(KNOWN, look(KNOWN, CONTENT, inode=99))
    assert not holds(KNOWN, look(KNOWN, CONTENT[:1000], inode=99))


@pytest.mark.parametrize(
    "name",
    [
        "app.log.1", "app.log.12.gz", "app.log-20261125", "app.log-20261125.gz", "app.log.2026-11-25_10:00",
        "app-20261125.log", "app.1.log", "app-2026-11-25.log.zst", "app.log.old", "app.log.1.bz2",
        "app.log-20261125-1.xz", "app.log.20261125T100000Z",
    ],
)  # fmt: skip
def test_names_that_rotated_files_have(name: str) -> None:
    assert is_successor("/var/log/app.log", name)
    assert is_related("/var/log/app.log", name)


@pytest.mark.parametrize("name", ["app.log", "app-error.log", "app.log.tmp", "myapp.log.1", "app2.log", "other.log.1"])
def test_names_of_other_files(name: str) -> None:
    assert not is_successor("/var/log/app.log", name)


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("app.log-20261125", "20261125"), ("app-2026-11-25.log.gz", "20261125"),
        ("app.log.2026-11-25_10:00", "202611251000"),
        ("0.log.20261127-100002.gz", "20261127100002"), ("app.log.1", ""), ("app.log.11-25-2026", ""), ("app.log", ""),
    ],
)  # fmt: skip
def test_the_date_in_the_name_of_a_rotated_file(name: str, date: str) -> None:
    assert date_in(name) == date


def test_a_log_without_an_extension_is_rotated_too() -> None:
    assert is_successor("/var/log/messages", "messages.1")
    assert is_successor("/var/log/messages", "messages-20261125.gz")
    assert not is_successor("/var/log/messages", "messages2")


@pytest.mark.parametrize(
    ("pattern", "directory", "names"),
    [
        ("/var/log/app.log", "/var/log", ("app.log",)),
        ("/var/log/*.log", "/var/log", ("*.log",)),
        ("/var/*/app/**/x.log", "/var", ("*", "app", "**", "x.log")),
        ("/*.log", "/", ("*.log",)),
    ],
)
def test_a_pattern_surely_begins_with_a_directory(pattern: str, directory: str, names: tuple[str, ...]) -> None:
    assert split_pattern(pattern) == (directory, names)


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("*.gz", "/a/b.gz", True),
        ("*.gz", "/a/b.gz.log", False),
        ("b.*", "/a/b.gz", True),
        ("/a/**/old/*", "/a/x/y/old/f", True),
        ("/a/**/old/*", "/a/old/f", True),
        ("/a/*", "/a/x/f", False),
        ("[!a]*.log", "/x/b.log", True),
        ("[!a]*.log", "/x/a.log", False),
        ("a?c.log", "/x/abc.log", True),
        ("*", "/x/.hidden", False),
    ],
)
def test_what_matches_any(pattern: str, path: str, excluded: bool) -> None:
    assert matches_any(path, [pattern]) is excluded


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.log", "b.txt", "x/c.log", "x/y/d.log", ".hidden/e.log", "x/.f.log"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.mkfifo(tmp_path / "fifo.log")
    (tmp_path / "dir.log").mkdir()
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    (tmp_path / "link.log").symlink_to(tmp_path / "x" / "c.log")
    (tmp_path / "nowhere.log").symlink_to(tmp_path / "none")
    return tmp_path


def found_names(tree: Path, *patterns: str, exclude: tuple[str, ...] = ()) -> set[str]:
    found = discover([f"{tree}/{pattern}" for pattern in patterns], exclude)
    return {os.path.relpath(path, tree) for path in found.files}


def test_files_are_found_by_patterns(tree: Path) -> None:
    assert found_names(tree, "*.log") == {"a.log", "link.log"}
    assert found_names(tree, "**/*.log") == {"a.log", "link.log", "x/c.log", "x/y/d.log"}
    assert found_names(tree, "*/*.log") == {"x/c.log"}
    assert found_names(tree, "x/**") == {"x/c.log", "x/y/d.log"}
    assert found_names(tree, "x/.*") == {"x/.f.log"}
    assert found_names(tree, "b.txt", "a.log", "none.log") == {"a.log", "b.txt"}
    assert found_names(tree, "**/*.log", exclude=("c.*", f"{tree}/x/y/*")) == {"a.log", "link.log"}


def test_what_is_no_file_is_refused_by_name(tree: Path) -> None:
    found = discover([f"{tree}/*.log"], ())
    assert {Path(path).name: why for path, why in found.refused.items()} == {
        "fifo.log": "a FIFO, not a file", "dir.log": "a directory, not a file",
    }  # fmt: skip


def test_the_nearest_directory_is_watched_until_there_is_one(tree: Path) -> None:
    assert discover([f"{tree}/x/later/than/*.log"], ()).directories == {f"{tree}/x"}
    assert discover([f"{tree}/x/*.log"], ()).directories == {f"{tree}/x"}


@pytest.fixture
def open_to_all(tmp_path: Path) -> Path:
    made = tmp_path / "open"
    made.mkdir()
    made.chmod(0o1777)
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a.log").write_text("secret\n")
    (made / "own.log").write_text("own\n")
    return made


def foreign_link(monkeypatch: pytest.MonkeyPatch, *links: Path) -> None:
    """Let `links` belong to somebody else."""
    real = os.lstat

    def lstat(path: Any) -> os.stat_result:
        found = real(path)
        if Path(path) not in links:
            return found
        return os.stat_result((*found[:4], 12_345, *found[5:]))

    monkeypatch.setattr("sidecar.inputs.tail.scan.os.lstat", lstat)


def test_a_planted_link_is_not_followed_unless_it_is_wished(open_to_all: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted, directory = open_to_all / "planted.log", open_to_all / "d"
    planted.symlink_to(open_to_all.parent / "secret")
    directory.symlink_to(open_to_all.parent / "secrets")
    foreign_link(monkeypatch, planted, directory)
    patterns = [f"{open_to_all}/*.log", f"{open_to_all}/d/*.log", f"{open_to_all}/*/*.log"]
    found = discover(patterns, ())
    assert list(found.files) == [f"{open_to_all}/own.log"]
    assert set(found.refused) == {str(planted), str(directory)}
    assert "a link of user 12345 to what is not theirs" in found.refused[str(planted)]
    assert len(discover(patterns, (), follow_links=True).files) == 3


def test_no_link_on_the_way_may_be_planted_however_far_it_is(
    open_to_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = open_to_all.parent / "secret"
    own = open_to_all / "app"  # a directory that anybody may have made
    own.mkdir(mode=0o755)
    (own / "x.log").symlink_to(secret)
    second = open_to_all / "second"
    second.symlink_to(secret)
    (open_to_all.parent / "roots.log").symlink_to(second)
    foreign_link(monkeypatch, own / "x.log", second)
    patterns = [f"{own}/*.log", f"{open_to_all}/*/x.log", f"{open_to_all}/**/x.log", f"{open_to_all.parent}/roots.log"]
    for pattern in patterns:
        assert discover([pattern], ()).files == {}, pattern


def test_a_file_that_is_exchanged_for_a_link_while_it_is_looked_at_is_not_taken_for_what_the_link_leads_to(
    open_to_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, secret = os.stat, open_to_all.parent / "secret"

    def stat(path: Any, **more: Any) -> os.stat_result:
        return real(secret if str(path).endswith("own.log") else path, **more)  # it was a link a moment ago

    monkeypatch.setattr("sidecar.inputs.tail.scan.os.stat", stat)
    assert discover([f"{open_to_all}/*.log"], ()).files == {}


def test_links_of_root_and_of_ourselves_are_followed_everywhere(open_to_all: Path) -> None:
    (open_to_all / "ours.log").symlink_to(open_to_all.parent / "secret")
    assert set(discover([f"{open_to_all}/*.log"], ()).files) == {f"{open_to_all}/own.log", f"{open_to_all}/ours.log"}


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_what_is_closed_to_us_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    found = discover([f"{tmp_path}/*/*.log", f"{tmp_path}/closed/x/*.log"], ())
    assert found.closed == {f"{tmp_path}/closed", f"{tmp_path}/closed/x"}


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_directory_that_cannot_be_listed_is_named_and_one_that_is_gone_is_not(
    tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("closed", "gone", "open"):
        (tmp_path / name).mkdir()
    (tmp_path / "open" / "a.log").write_text("")
    real = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("closed"):
            raise error
        if path.endswith("gone"):
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    monkeypatch.setattr("sidecar.inputs.tail.scan.os.scandir", scandir)
    found = discover([f"{tmp_path}/*/*.log"], ())
    assert found.refused == {f"{tmp_path}/closed": error.strerror}
    assert found.closed == {f"{tmp_path}/closed"}
    assert list(found.files) == [f"{tmp_path}/open/a.log"]
