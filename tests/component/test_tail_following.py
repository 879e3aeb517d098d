"""What becomes of files, with the real files and without a thread: places, order, receipts."""

import bz2
import gzip
import lzma
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import zstandard

from sidecar.inputs.tail import snapshot
from sidecar.inputs.tail.arrivals import Change
from sidecar.inputs.tail.newcomers import LookTime
from sidecar.inputs.tail.open_file import _File
from sidecar.inputs.tail.rotated_names import bases_of
from sidecar.inputs.tail.snapshot import link_directories
from sidecar.inputs.tail.watcher import Listener, Watcher
from sidecar.parsing import EventBuilder, Lines
from tests.support.tails import Tailer, write


def long(name: object) -> str:
    """A first line that is so long that its file is surely known by it."""
    return f"{name} " * 600


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}  # fmt: skip


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    made = tmp_path / "log"
    made.mkdir()
    return made


@pytest.fixture
def log(logs: Path) -> Path:
    return logs / "app.log"


def tailer(logs: Path, **settings: Any) -> Tailer:
    made = Tailer(logs, **settings)
    made.turn()
    return made


def with_an_unread_line(logs: Path, log: Path) -> Tailer:
    """Of the two lines of `log`, the first is on disk, and there is no room for the second."""
    made = tailer(logs)
    write(log, long(1) + "\n")
    made.turn()
    made.queue.mode = "full"
    write(log, "2\n")
    made.turn()
    return made


def pack(path: Path, suffix: str, cut: int = 0) -> Path:
    target = Path(f"{path}{suffix}")
    data = PACK[suffix](path.read_bytes())
    target.write_bytes(data[: len(data) - cut])
    shutil.copystat(path, target)
    path.unlink()
    return target


def age(path: Path, seconds: float) -> None:
    state = path.stat()
    os.utime(path, (state.st_atime - seconds, state.st_mtime - seconds))


def compress_when_listed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the listing of its directory and the look at it."""
    listed = snapshot.list_directory  # type: ignore[attr-defined]

    def list_and_compress(directory: str) -> list[os.DirEntry[str]]:
        entries = listed(directory)
        if path.exists():
            pack(path, ".gz")
        return entries

    monkeypatch.setattr(snapshot, "list_directory", list_and_compress)


@pytest.mark.parametrize("suffix", PACK)
def test_rotated_and_compressed_while_it_was_down(logs: Path, log: Path, suffix: str) -> None:
    made = tailer(logs)
    write(log, long(1) + "\n")
    made.turn()
    write(log, "2\n")
    log.rename(f"{log}.1")
    write(log, long(3) + "\n")
    log.rename(f"{log}.0")
    write(log, long(4) + "\n")
    pack(Path(f"{log}.1"), suffix)
    made.kill()
    made.settle()
    assert made.contents() == [long(1), "2", long(3), long(4)]
    assert made.queue.losses == []


@pytest.mark.parametrize("suffix", PACK)
def test_a_damaged_archive_is_a_receipt_and_stops_nothing(logs: Path, log: Path, suffix: str) -> None:
    made = tailer(logs)
    write(log, long(1) + "\n")
    made.turn()
    write(log, "".join(f"{number} {os.urandom(40).hex()}\n" for number in range(3000)))
    log.rename(f"{log}.1")
    age(pack(Path(f"{log}.1"), suffix, cut=500), 300)
    write(log, long("new") + "\n")
    made.kill()
    made.settle()
    assert made.contents()[-1] == long("new")
    assert len(made.contents()) < 3002
    assert any("damaged" in loss.why or "gone" in loss.why for loss in made.queue.losses)


@pytest.mark.parametrize("suffix", PACK)
def test_an_archive_that_appears_among_the_files(logs: Path, log: Path, suffix: str) -> None:
    """A copy of what was read is left out, also after a restart; another one is read."""
    made = tailer(logs, paths=[f"{logs}/*"])
    write(log, long(1) + "\n")
    made.turn()
    log.rename(f"{log}.1")
    made.settle()
    pack(Path(f"{log}.1"), suffix)
    made.settle()
    made.kill()
    made.settle()
    assert made.contents() == [long(1)]
    other = logs / "other.log"
    write(other, "from elsewhere\n")
    pack(other, suffix)
    made.settle()
    assert made.contents() == [long(1), "from elsewhere"]


def test_an_archive_that_is_not_complete_yet_is_waited_for(logs: Path, log: Path) -> None:
    made = tailer(logs, paths=[f"{logs}/*"])
    write(log, long(1) + "\n")
    target = Path(f"{log}.gz")
    data = gzip.compress(log.read_bytes())
    log.unlink()
    for end in (0, 5, 20, len(data) - 3):
        target.write_bytes(data[:end])
        made.turn(2)
    assert made.contents() == []
    target.write_bytes(data)
    made.settle()
    assert made.contents() == [long(1)]
    assert made.queue.losses == []


def test_what_was_not_read_before_a_truncation_has_a_receipt(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, long(1) + "\n")
    made.turn()
    made.queue.mode = "full"
    write(log, "not read\n")
    made.turn(2)
    log.write_bytes(b"new\n")
    made.turn(2)
    made.queue.mode = "good"
    made.settle()
    assert made.contents() == [long(1), "new"]
    (loss,) = made.queue.losses
    assert (loss.path, loss.offset, loss.why) == (str(log), len(long(1)) + 1, "the file was truncated")
    assert loss.at_most is not None
    assert loss.at_most >= len("not read\n")
    assert loss.since_ms <= loss.found_ms


def test_a_copytruncate_reads_the_rest_from_the_copy_and_tells_of_the_window(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, long(1) + "\n")
    made.turn()
    write(log, "2\n")
    shutil.copy(log, f"{log}.1")
    os.truncate(log, 0)
    write(log, "3\n")
    made.settle()
    assert made.contents() == [long(1), "2", "3"]
    (loss,) = made.queue.losses
    assert loss.offset == len(long(1)) + 3
    assert "copied to" in loss.why


def test_copies_among_the_files_are_left_out(logs: Path, log: Path) -> None:
    """`*.log*` also matches what copytruncate makes."""
    made = tailer(logs, paths=[f"{logs}/*.log*"])
    write(log, long(1) + "\n")
    made.turn()
    write(log, "2\n")
    shutil.copy(log, f"{log}.1")
    made.turn()
    os.truncate(log, 0)
    write(log, "3\n")
    made.settle()
    made.kill()
    made.settle()
    assert made.contents() == [long(1), "2", "3"]


def test_a_file_of_equal_length_is_another_file(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, "one 1\n")
    made.turn()
    log.write_bytes(b"one 2\n")
    made.settle()
    assert made.contents() == ["one 1", "one 2"]


def test_an_editor_that_writes_a_file_anew_repeats_nothing(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, long(1) + "\n")
    made.turn()
    again = logs / "temporary"
    again.write_bytes(log.read_bytes() + b"2\n")
    again.rename(log)
    made.settle()
    assert made.contents() == [long(1), "2"]


@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        ("10:00:00 up\n10:00:01 on\n", False),
        ("10:00:00.125 up\n10:00:00.250 on\n", False),
        ("1764288000 up\n1764288001 on\n", False),
        ("10:00:00 up\n10:00:00 on\n", True),  # it may have been started twice in this second
        ("version 1.2.3\nport 10205\n", True),
    ],
)
def test_a_short_log_that_is_written_anew_is_the_same_where_its_times_say_so(
    logs: Path, log: Path, first: str, repeated: bool
) -> None:
    made = tailer(logs)
    write(log, first)
    made.turn()
    again = logs / "temporary"
    again.write_text(first + "more\n")
    again.rename(log)
    made.settle()
    lines = first.splitlines()
    assert made.contents() == lines + (lines if repeated else []) + ["more"]


def test_logs_that_begin_alike_are_each_read(logs: Path, log: Path) -> None:
    """A head line that is the same in every file says little of which it is."""
    made = tailer(logs)
    write(log, "time,level,message\n")
    made.turn()
    write(log, "1\n")
    log.rename(f"{log}.2")
    write(log, "time,level,message\n2\n")
    log.rename(f"{log}.1")
    write(log, "time,level,message\n3\n")
    made.kill()
    made.settle()
    assert made.contents() == ["time,level,message", "1", "time,level,message", "2", "time,level,message", "3"]


def test_a_writer_that_goes_on_in_a_deleted_file(logs: Path, log: Path) -> None:
    made = tailer(logs)
    with log.open("ab", buffering=0) as writer:
        writer.write(b"1\n")
        made.turn()
        log.unlink()
        write(log, "new\n")
        made.worker.changed(str(log), Change.OTHER)
        made.turn(3, 3.0)
        writer.write(b"2\n")
        made.turn(3, 3.0)
        writer.write(b"3\n")
        made.turn(3, 3.0)
    assert sorted(made.contents()) == ["1", "2", "3", "new"]


def test_a_hole_that_a_writer_left_is_passed_over(logs: Path, log: Path) -> None:
    """After a truncation a writer that does not append goes on where it was."""
    made = tailer(logs)
    with log.open("wb", buffering=0) as writer:
        writer.write(b"x" * 100_000 + b"\n")
        made.turn()
        os.truncate(log, 0)
        writer.write(b"behind the hole\n")
    made.settle()
    behind = made.contents()[1]  # a hole ends where a block of the file system begins
    assert behind.lstrip("\0") == "behind the hole"
    assert len(behind) < 10_000


def test_a_group_stays_in_the_file_until_it_is_complete(logs: Path, log: Path) -> None:
    made = tailer(logs, multiline={"start": r"^\d", "flush_after": "60s"})
    write(log, "1 a\n b\n")
    made.turn(1, 0.1)
    made.kill()
    write(log, " c\n2 d\n")
    made.turn(2, 31.0)
    assert made.contents() == ["1 a\n b\n c"]
    made.turn(3, 31.0)
    assert made.contents() == ["1 a\n b\n c", "2 d"]


def test_the_order_of_reading_is_that_of_writing(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, long(1) + "\n")
    age(log, 99)
    made.turn()
    for number in range(2, 6):
        log.rename(f"{log}.{10 - number}")
        write(log, long(number) + "\n")
        age(log, 100 - number)
    made.settle()
    assert made.contents() == [long(number) for number in range(1, 6)]


def test_files_that_are_not_read_are_closed(logs: Path) -> None:
    made = tailer(logs, max_open=3)
    for number in range(20):
        write(logs / f"{number}.log", "line\n")
    made.settle()
    assert len(made.contents()) == 20
    assert sum(file.source is not None for file in made.worker.registry.files.values()) <= 3


def test_a_hot_file_does_not_starve_others(logs: Path) -> None:
    made = tailer(logs)
    made.queue.mode = "slow"
    write(logs / "hot.log", "x" * 100 + "\n")
    with (logs / "hot.log").open("ab") as file:
        file.write((b"x" * 100 + b"\n") * 60_000)
    write(logs / "quiet.log", "quiet\n")
    made.turn()
    made.queue.mode = "good"
    made.queue.release()
    assert "quiet" in made.contents()
    assert len(made.contents()) < 50_000  # only so many blocks of one file are under way


def test_one_unreadable_file_keeps_no_other_from_being_read(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(logs / "bad.log", "no\n")
    write(logs / "good.log", "yes\n")
    real = os.open

    def refuse(path: str, *arguments: int) -> int:
        if str(path).endswith("bad.log"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    for start_at in ("beginning", "end"):
        made = Tailer(logs, start_at=start_at)
        made.turn(2)
        write(logs / "good.log", "more\n")
        made.turn(2)
        assert made.contents()[-1] == "more"


def test_reset_and_skip(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, "1\n2\n")
    made.settle()
    assert made.command("reset") == [1]
    made.settle()
    assert made.contents() == ["1", "2", "1", "2"]
    made.queue.mode = "full"
    write(log, "3\n")
    made.turn()
    made.queue.mode = "good"
    assert made.command("skip", str(log)) == [1]
    write(log, "4\n")
    made.settle()
    assert made.contents() == ["1", "2", "1", "2", "4"]
    assert [(loss.offset, loss.at_most) for loss in made.queue.losses] == [(4, 2)]


def test_a_commit_that_succeeded_and_said_that_it_did_not_repeats_nothing(logs: Path, log: Path) -> None:
    made = tailer(logs)
    made.queue.mode = "torn"
    write(log, "1\n2\n")
    made.turn(3)
    made.queue.mode = "good"
    made.settle()
    assert made.contents() == ["1", "2"]


def test_a_batch_behind_one_that_failed_is_not_committed(logs: Path, log: Path) -> None:
    made = tailer(logs)
    made.queue.mode = "slow"
    lines = [f"{number:06d} {'x' * 100}" for number in range(12_000)]
    write(log, "".join(f"{line}\n" for line in lines))
    made.turn()
    first = made.queue.take_first()
    assert first.advance.before is None
    made.queue.mode = "good"
    made.queue.fail(first)
    made.queue.release()
    assert made.contents() == []
    made.settle()
    assert made.contents() == lines


def test_paths_may_be_any_bytes(logs: Path) -> None:
    made = tailer(logs)
    path = os.fsencode(logs) + b"/\xff\n'\"*.log"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"line\n")
    made.settle()
    made.kill()
    made.settle()
    assert made.contents() == ["line"]
    assert made.queue.events[0]["dimension"]["file"].endswith("\ufffd\n'\"*.log")


def test_archives_that_were_there_before_the_first_run_are_left_out(logs: Path) -> None:
    write(logs / "old.log", "old\n")
    pack(logs / "old.log", ".gz")
    made = tailer(logs, paths=[f"{logs}/*"], start_at="end")
    made.settle()
    made.kill()
    made.settle()
    write(logs / "new.log", "new\n")
    made.settle()
    assert made.contents() == ["new"]


def test_a_file_that_has_the_inode_and_the_name_of_one_that_is_gone_is_read(logs: Path, log: Path) -> None:
    made = tailer(logs)
    for number in range(5):
        write(log, f"{number}\n")
        made.settle()
        log.unlink()
        made.settle()
        made.settle()
    assert made.contents() == ["0", "1", "2", "3", "4"]


def test_what_is_not_read_of_a_file_is_read_from_the_copy_that_was_left_out(logs: Path, log: Path) -> None:
    made = tailer(logs, paths=[f"{logs}/*"])
    write(log, long(1) + "\n")
    made.turn()
    made.queue.mode = "full"
    write(log, "2\n3\n")
    log.rename(f"{log}.1")
    made.turn(2)
    made.queue.mode = "slow"
    Path(f"{log}.1.gz").write_bytes(gzip.compress(Path(f"{log}.1").read_bytes()))
    made.turn()  # it is saved that this is a copy, but what is left of the file is still on its way
    Path(f"{log}.1").unlink()
    made.kill()
    made.queue.mode = "good"
    made.settle()
    assert made.contents() == [long(1), "2", "3"]


def test_a_file_that_comes_after_the_look_and_before_it_is_told_of_is_found_at_once(logs: Path, log: Path) -> None:
    class LateWatcher(Watcher):
        def watch(self, directory: str, listener: Listener) -> str | None:
            if not log.exists():
                write(log, "one\n")
            return super().watch(directory, listener)

    watcher = LateWatcher()
    try:
        made = Tailer(logs, watcher)
        made.turn()
        assert not made.contents()
        made.turn(pass_s=1)
        assert made.contents() == ["one"]
        for file in made.worker.registry.files.values():
            file.close()
    finally:
        watcher.stop()


def test_where_links_stand_on_the_way_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").symlink_to("a/../a")
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "c" / "b" / "file")
    assert link_directories(str(tmp_path / "link")) == {str(tmp_path)}
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "first").symlink_to("../a/b/second")
    (tmp_path / "a" / "b" / "second").symlink_to("file")
    assert link_directories(str(tmp_path / "d" / "first")) == {str(tmp_path / "d"), str(tmp_path / "a" / "b")}
    assert link_directories(str(tmp_path / "a" / "b" / "file")) == set()
    (tmp_path / "loop").symlink_to("loop")
    assert link_directories(str(tmp_path / "loop")) == {str(tmp_path)}


def test_a_file_that_is_compressed_while_it_is_looked_for_is_found(
    logs: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory was listed before the compressed file was there, and the plain one was gone when it was opened."""
    made = with_an_unread_line(logs, log)
    log.rename(f"{log}.1")
    write(log, "3\n")
    made.turn()
    made.kill()
    made.queue.mode = "good"
    compress_when_listed(Path(f"{log}.1"), monkeypatch)
    made.turn(pass_s=0.5)
    assert made.queue.losses == []
    made.settle()
    assert made.contents() == [long(1), "2", "3"]
    assert made.queue.losses == []


def test_a_copy_that_is_compressed_while_it_is_looked_for_is_found(
    logs: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_an_unread_line(logs, log)
    made.queue.mode = "good"
    shutil.copy2(log, f"{log}.1")
    log.write_text("3\n")
    compress_when_listed(Path(f"{log}.1"), monkeypatch)
    made.settle()
    assert made.contents() == [long(1), "2", "3"]
    assert ["copied to" in loss.why for loss in made.queue.losses] == [True]


def test_a_file_that_is_gone_for_good_is_a_loss(logs: Path, log: Path) -> None:
    made = with_an_unread_line(logs, log)
    made.kill()
    made.queue.mode = "good"
    log.unlink()
    made.turn(2, pass_s=0.5)
    assert [loss.why for loss in made.queue.losses] == ["the file is gone, and no copy of it was found"]


def rotated_and_restarted(logs: Path, log: Path) -> Tailer:
    """Two rotated files, compressed, and one that is written to; all of them known, and read."""
    made = tailer(logs)
    for number in range(3):
        write(log, long(number) + f"\n{number}\n")
        made.settle()
        if number < 2:
            for old, new in ((".1.gz", ".2.gz"), ("", ".1")):
                if Path(f"{log}{old}").exists():
                    Path(f"{log}{old}").rename(f"{log}{new}")
            made.settle()
            pack(Path(f"{log}.1"), ".gz")
            made.settle()
    for _ in range(2):
        made.kill()
        made.settle()
    assert made.contents() == [text for number in range(3) for text in (long(number), str(number))]
    return made


def test_skip_sends_nothing_again_and_leaves_out_a_line_that_is_not_whole(logs: Path, log: Path) -> None:
    made = rotated_and_restarted(logs, log)
    known = made.contents()
    write(log, "half a li")
    made.settle()
    assert made.command("skip") == [1]
    made.settle()
    assert made.contents() == known
    assert [(loss.path, loss.at_most) for loss in made.queue.losses] == [(str(log), 9)]
    write(log, "ne\nwhole\n")
    made.settle()
    assert made.contents() == [*known, "whole"]


def test_skip_leaves_out_what_is_left_of_files_that_were_rotated_away(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, long(1) + "\n")
    made.turn()
    made.queue.mode = "full"
    write(log, "2\n")
    log.rename(f"{log}.1")
    pack(Path(f"{log}.1"), ".gz")
    write(log, "3\n")
    made.kill()
    made.worker.may_read = lambda: False
    made.turn(2)
    made.queue.mode = "good"
    assert made.command("skip") == [2]
    made.worker.may_read = lambda: True
    made.settle()
    assert made.contents() == [long(1)]
    assert [(loss.offset, loss.at_most) for loss in made.queue.losses] == [(len(long(1)) + 1, None), (0, 2)]
    write(log, "4\n")
    made.settle()
    assert made.contents() == [long(1), "4"]


def test_reset_reads_what_is_there_and_of_several_files_at_a_path_the_newest(logs: Path, log: Path) -> None:
    made = rotated_and_restarted(logs, log)
    known = made.contents()
    assert made.command("reset", str(log)) == [1]
    made.settle()
    assert made.contents() == known + known[-2:]
    assert made.command("reset") == [1]
    made.settle()
    assert made.contents() == known + known[-2:] * 2
    assert made.queue.losses == []


def test_reset_reads_one_rotated_file_by_its_own_path(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, long(1) + "\n")
    made.settle()
    log.rename(f"{log}.1")
    write(log, "2\n")
    made.settle()
    assert made.command("reset", f"{log}.1") == [1]
    made.settle()
    assert made.contents() == [long(1), "2", long(1)]
    assert made.command("reset", f"{log}.2") == [0]


def test_a_person_is_called_only_for_what_is_not_as_it_always_is(logs: Path, log: Path) -> None:
    with structlog.testing.capture_logs() as told:
        made = tailer(logs)
        write(log, long(1) + "\n")
        made.settle()
        shutil.copy2(log, f"{log}.1")
        log.write_text("2\n")
        made.settle()
        write(log, "3")
        made.settle()
        made.command("skip")
        made.queue.mode = "full"
        write(log, "\n" + long(4) + "\n5\n")
        made.turn()
        made.kill()
        made.queue.mode = "good"
        log.unlink()
        made.settle()
    assert [(line["log_level"], line["at_most"]) for line in told if "may be lost" in line["event"]] == [
        ("warning", "unknown"), ("warning", 1), ("error", "unknown"),
    ]  # fmt: skip


def test_a_file_that_waits_for_its_turn_is_known_when_it_is_renamed(logs: Path, log: Path) -> None:
    """It was empty when it was first seen, and an open group of the one before it kept it from being read."""
    made = tailer(logs, multiline={"start": "^S"})
    for number in range(5):
        if number:
            log.rename(f"{log}.{number}")
        log.touch()
        made.worker.changed(str(log), Change.OTHER)
        made.turn(pass_s=0.2)
        write(log, f"S{number}\n")
        made.worker.changed(str(log), Change.WRITTEN)
        made.turn(pass_s=0.2)
    made.settle()
    made.settle()
    made.settle()
    assert made.contents() == ["S0", "S1", "S2", "S3", "S4"]
    assert made.queue.losses == []


def test_what_was_written_to_a_file_that_is_gone_when_it_is_looked_for_is_a_loss(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, "1\n")
    made.settle()
    for file in made.worker.registry.files.values():
        file.close()
    write(log, "2\n")
    made.worker.changed(str(log), Change.WRITTEN)
    log.unlink()
    made.worker.changed(str(log), Change.OTHER)
    made.turn(3, pass_s=0.5)
    assert [loss.offset for loss in made.queue.losses] == [2]


@pytest.mark.parametrize("deleted", [False, True])
def test_what_comes_while_the_end_is_reached_is_read_though_nobody_tells(
    logs: Path, log: Path, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    made = tailer(logs)
    state = _File.state
    late = ["2\n"]
    with log.open("ab", buffering=0) as writer:

        def grown(source: _File) -> os.stat_result:
            if late and made.contents() == ["1"]:
                writer.write(late.pop().encode())
            return state(source)

        made.turn()
        monkeypatch.setattr(_File, "state", grown)
        writer.write(b"1\n")
        made.turn()
        if deleted:
            log.unlink()
            made.worker.changed(str(log), Change.OTHER)
        made.turn(6)
    assert (late, made.contents()) == ([], ["1", "2"])


def test_a_file_that_grew_though_nobody_told_is_looked_at_every_second(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, "1\n")
    made.turn(2)
    write(log, "2\n")
    made.turn(2, pass_s=1)
    assert made.contents() == ["1"]
    made.turn()
    assert made.contents() == ["1", "2"]
    for number in range(3, 6):
        write(log, f"{number}\n")
        made.turn(pass_s=1.1)
        assert made.contents()[-1] == str(number)
    made.worker.changed(str(log), Change.WRITTEN)
    made.turn(2)
    write(log, "told\n")
    made.worker.changed(str(log), Change.WRITTEN)
    made.turn(2)
    assert made.contents()[-1] == "told"
    write(log, "6\n")
    made.turn(2, pass_s=1.1)
    assert made.contents()[-1] == "told", "of its writes is told now"


def test_a_file_that_grew_as_was_told_is_not_looked_at_more_often(logs: Path, log: Path) -> None:
    made = tailer(logs)
    write(log, "1\n")
    made.turn(2)
    write(log, "2\n")
    made.worker.changed(str(log), Change.WRITTEN)
    made.turn()
    write(log, "told a moment after the look\n")
    made.turn()
    made.worker.changed(str(log), Change.WRITTEN)
    made.turn(2, pass_s=1.1)
    write(log, "3\n")
    made.turn(2, pass_s=1.1)
    assert "3" not in made.contents()


def test_a_file_that_nobody_thought_of_keeps_no_other_from_being_read(
    logs: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = EventBuilder.make

    def puzzle(self: EventBuilder, lines: Lines, *given: Any, **more: Any) -> Any:
        if "bad" in lines.text:
            raise RecursionError("too deep")
        return make(self, lines, *given, **more)

    monkeypatch.setattr(EventBuilder, "make", puzzle)
    made = tailer(logs)
    write(log, "bad\n")
    write(logs / "other.log", "good\n")
    made.settle()
    assert made.contents() == ["good"]
    (file,) = [file for file in made.worker.registry.files.values() if file.path == str(log)]
    assert file.error == "unexpected: RecursionError: too deep"
    monkeypatch.undo()
    write(log, "and well\n")
    made.settle()
    assert made.contents() == ["good", "bad", "and well"]
    assert file.error is None


@pytest.mark.parametrize("begun", [0, 500, 5000])
def test_a_copy_that_is_still_written_when_it_is_first_seen_is_no_new_file(logs: Path, log: Path, begun: int) -> None:
    made = tailer(logs, paths=[f"{logs}/*.log*"])
    text = "".join(f"line {number:06d}\n" for number in range(1000))
    write(log, text)
    made.settle()
    copy = Path(f"{log}.1")
    write(copy, text[:begun])
    made.settle()
    write(copy, text[begun:])
    made.settle()
    log.write_text("new 1\n")
    made.settle()
    write(log, "new 2\n")
    made.settle()
    assert made.contents() == [*text.splitlines(), "new 1", "new 2"]


def test_what_is_not_read_of_a_truncated_file_is_read_from_a_copy_that_was_just_left_out(logs: Path, log: Path) -> None:
    made = tailer(logs, paths=[f"{logs}/*.log*"])
    write(log, long(1) + "\n")
    made.settle()
    write(Path(f"{log}.1"), "")
    made.turn()
    write(log, "2\n")
    shutil.copyfile(log, f"{log}.1")
    made.worker.registry.active.pop(next(iter(made.worker.registry.files)), None)
    made.queue.mode = "full"
    made.turn()
    made.queue.mode = "good"
    log.write_text("3\n")
    made.settle()
    assert made.contents() == [long(1), "2", "3"]
    assert ["copied to" in loss.why for loss in made.queue.losses] == [True]


def test_a_small_file_with_the_name_of_a_rotated_one_is_read_once_it_is_quiet(logs: Path, log: Path) -> None:
    made = tailer(logs, paths=[f"{logs}/*.log*"])
    write(log, "one\n")
    made.settle()
    write(Path(f"{log}.1"), "another\n")
    made.settle()
    assert made.contents() == ["one"]
    age(Path(f"{log}.1"), 3)
    made.settle()
    assert made.contents() == ["one", "another"]


def test_names_of_which_a_file_may_be_a_rotated_one() -> None:
    assert bases_of("app.log.1") == {"app.log"}
    assert bases_of("app-20261126.log.gz") == {"app.log", "app"}
    assert "app.log" in bases_of("app.log-2026-11-26_10:00.zst")
    assert bases_of("a.b.log.old") == {"a.b.log"}
    assert bases_of("app.log") == set()
    assert len(bases_of("1.-_" * 60)) < 2000


def test_many_new_files_are_met_in_little_time(logs: Path) -> None:
    """Each costs the same, however many there are: they are not compared with one another."""
    made = tailer(logs)

    def calls(first: int, count: int) -> int:
        for number in range(first, first + count):
            write(logs / f"{number:05d}.log", f"{number}\n")
        counted = 0

        def count_calls(_frame: Any, event: str, _: Any) -> None:
            nonlocal counted
            counted += event == "call"

        sys.setprofile(count_calls)
        made.settle()
        sys.setprofile(None)
        return counted

    few, more = calls(0, 200), calls(200, 800)
    assert sorted(made.contents()) == sorted(str(number) for number in range(1000))
    assert more < 8 * few


@pytest.mark.parametrize("met", [False, True])
def test_a_file_that_is_renamed_while_it_is_compared_is_no_copy_of_what_is_at_its_path_then(
    logs: Path, log: Path, monkeypatch: pytest.MonkeyPatch, met: bool
) -> None:
    """Rotated files are shifted: the known one has come to the path of the one that is compared with it."""
    made = tailer(logs, paths=[f"{logs}/*.log*"])
    write(log, long("known") + "\n")
    made.settle()
    write(Path(f"{log}.1"), long("new") + "\n")
    beginnings = snapshot.beginnings

    def shift(path: str, sizes: Any) -> Any:
        if log.exists() and path == f"{log}.1" and (not met or sys._getframe(2).f_code.co_name == "first_read"):
            Path(f"{log}.1").rename(f"{log}.2")
            log.rename(f"{log}.1")
        return beginnings(path, sizes)

    monkeypatch.setattr(snapshot, "beginnings", shift)
    made.settle()
    made.settle()
    assert made.contents() == [long("known"), long("new")]
    assert made.queue.losses == []


def test_a_small_file_that_is_shifted_while_it_is_looked_for_is_found_at_the_second_look(
    logs: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tailer(logs)
    write(log, "1\n")
    made.settle()
    for file in made.worker.registry.files.values():
        file.close()
    write(log, "2\n")
    made.worker.changed(str(log), Change.WRITTEN)
    log.rename(f"{log}.1")
    looked = snapshot.look_at  # type: ignore[attr-defined]

    def shift(path: str, known: Any) -> Any:
        if path == f"{log}.1" and not Path(f"{log}.2").exists():
            Path(f"{log}.1").rename(f"{log}.2")
        return looked(path, known)

    monkeypatch.setattr(snapshot, "look_at", shift)
    write(log, "3\n")
    made.turn(4, pass_s=30)
    assert made.contents() == ["1", "2", "3"]
    assert made.queue.losses == []


def test_what_was_not_read_before_it_was_compressed_is_read_though_the_copy_was_met_first(
    logs: Path, log: Path
) -> None:
    made = tailer(logs, paths=[f"{logs}/app*"])
    write(log, long(1) + "\n2\n")
    made.queue.mode = "full"
    made.worker.changed(str(log), Change.OTHER)
    made.turn(pass_s=0.3)
    for file in made.worker.registry.files.values():
        file.close()
    log.rename(f"{log}.1")
    Path(f"{log}.1.gz").write_bytes(gzip.compress(Path(f"{log}.1").read_bytes()))
    made.turn(pass_s=40)  # it is a copy of one that is there, and left out
    made.queue.mode = "good"
    Path(f"{log}.1").unlink()
    for file in made.worker.registry.files.values():
        file.close()
    made.settle()
    assert made.contents() == [long(1), "2"]
    assert made.queue.losses == []


def test_a_file_that_is_taken_for_changed_and_was_only_renamed_goes_on(logs: Path, log: Path) -> None:
    made = tailer(logs)
    made.queue.mode = "full"
    write(log, long(1) + "\n")
    made.turn()
    (file,) = made.worker.registry.files.values()
    assert not file.reached.offset
    file.close()
    log.rename(f"{log}.1")
    made.worker._tracker.restart(file, "replaced", LookTime(made.clock.now_s, 1, 0, is_first=False))
    made.queue.mode = "good"
    made.settle()
    assert made.contents() == [long(1)]


def test_a_compressed_file_whose_end_was_read_before_its_blocks_failed_is_read_again(logs: Path, log: Path) -> None:
    made = tailer(logs, paths=[f"{logs}/*"])
    lines = [f"{number} {os.urandom(40).hex()}" for number in range(3000)]
    write(log, "".join(f"{line}\n" for line in lines))
    made.queue.mode = "slow"
    pack(log, ".gz")
    made.turn(2)
    made.queue.mode = "full"
    made.queue.release()
    made.turn(3)
    made.queue.mode = "good"
    made.settle()
    assert made.contents() == lines
    assert made.queue.losses == []
