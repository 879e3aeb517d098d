"""Files tailed by the real process, rotated by the real logrotate, and by hand."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import Proxy, Sidecar, run_command, wait_until

LOGROTATE = shutil.which("logrotate") or "/usr/sbin/logrotate"


class Tailed:
    """A sidecar that tails `log`, and what arrived at the proxy."""

    def __init__(self, directory: Path, proxy: Proxy) -> None:
        self.directory, self.proxy = directory, proxy
        self.logs = directory / "log"
        self.logs.mkdir()
        self.log = self.logs / "app.log"
        self.sidecar: Sidecar | None = None
        self.settings: dict[str, Any] = {}

    def start(self, **tail: Any) -> Sidecar:
        self.settings = {"tails": {"app": {"paths": [str(self.log)], "stream": "app-events", **tail}}}
        self.sidecar = Sidecar(self.directory, self.proxy.url, self.settings)
        return self.sidecar.start()

    def write(self, *lines: str) -> None:
        with self.log.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def contents(self) -> list[str]:
        return [item["event"]["content"] for item in self.proxy.items()]

    def expect(self, *lines: str) -> None:
        wait_until(lambda: len(self.contents()) >= len(lines), 20, f"{len(lines)} lines")
        assert self.contents() == list(lines)

    def shown(self) -> Any:
        assert self.sidecar is not None
        done = run_command("tails", "--json", "--config", str(self.sidecar.config))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def end(self) -> None:
        if self.sidecar is not None:
            self.sidecar.end()


@pytest.fixture
def tailed(tmp_path: Path, proxy: Proxy) -> Iterator[Tailed]:
    made = Tailed(tmp_path, proxy)
    yield made
    made.end()


def lines(first: int, count: int) -> list[str]:
    return [f"line {number:06d}" for number in range(first, first + count)]


def rotate(tailed: Tailed, *options: str) -> None:
    config = tailed.directory / "logrotate.conf"
    body = "\n".join(("rotate 9", "missingok", *options))
    config.write_text(f"{tailed.log} {{\n{body}\n}}\n")
    config.chmod(0o600)
    tailed.logs.chmod(0o755)
    command = [LOGROTATE, "--force", "--state", str(tailed.directory / "logrotate.state"), str(config)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("create 0644", "compress"), ("create 0644", "compress", "delaycompress"), ("nocreate",),
        ("create 0644", "dateext", "extension .log", "dateformat -%s"),
        ("copytruncate",), ("copytruncate", "compress"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_line_once_through_logrotate(tailed: Tailed, options: tuple[str, ...]) -> None:
    """While the sidecar runs, and while it is stopped, several times."""
    with tailed.start(start_at="beginning") as sidecar:
        expected = lines(0, 100)
        tailed.write(*expected)
        tailed.expect(*expected)
        for number in range(1, 4):
            rotate(tailed, *options)
            time.sleep(1.1 if "%s" in str(options) else 0.2)
            more = lines(1000 * number, 100)
            tailed.write(*more)
            expected += more
            tailed.expect(*expected)
        assert sidecar.stop() == 0
        for number in range(4, 7):
            more = lines(1000 * number, 100)
            tailed.write(*more)
            expected += more
            if number < 6:
                time.sleep(1.1 if "%s" in str(options) else 0.05)  # the times of files tell which came first
                rotate(tailed, *options)
        sidecar.start()
        tailed.expect(*expected)
        time.sleep(0.7)
        tailed.expect(*expected)
        if "copytruncate" not in options:  # where an inode is used again, nobody can tell it from that
            assert [loss for loss in tailed.shown()["losses"] if "its inode used again" not in loss["why"]] == []
        assert sidecar.books()["balanced"]


def test_olddir_is_found_where_it_is_said_to_be(tailed: Tailed) -> None:
    old = tailed.directory / "old"
    old.mkdir(mode=0o755)
    tailed.directory.chmod(0o755)
    with tailed.start(start_at="beginning", rotated=[f"{old}/*"]) as sidecar:
        tailed.write(*lines(0, 10))
        tailed.expect(*lines(0, 10))
        sidecar.stop()
        tailed.write(*lines(10, 10))
        rotate(tailed, "create 0644", f"olddir {old}", "compress")
        tailed.write(*lines(20, 10))
        sidecar.start()
        tailed.expect(*lines(0, 30))


def test_a_writer_that_is_told_later_loses_nothing(tailed: Tailed) -> None:
    with tailed.start(start_at="beginning"):
        writer = tailed.log.open("a", buffering=1)
        writer.write("one\n")
        tailed.expect("one")
        tailed.log.rename(f"{tailed.log}.1")
        tailed.log.touch()
        writer.write("two\n")
        tailed.expect("one", "two")
        time.sleep(1.5)
        writer.write("three\nwithout an end")
        tailed.expect("one", "two", "three")
        writer.close()
        tailed.write("new")
        wait_until(lambda: len(tailed.contents()) == 5, 10, "the last line without an end")
        assert sorted(tailed.contents()[3:]) == ["new", "without an end"]


def test_a_deleted_file_that_is_open_is_read_to_its_end(tailed: Tailed) -> None:
    with tailed.start(start_at="beginning"):
        with tailed.log.open("a", buffering=1) as writer:
            writer.write("one\n")
            tailed.expect("one")
            tailed.log.unlink()
            writer.write("two\n")
            time.sleep(0.5)
            writer.write("three\n")
            tailed.expect("one", "two", "three")
        assert tailed.shown()["losses"] == []


def test_kubernetes_links_swapped_while_tailing(tailed: Tailed) -> None:
    """/var/log/containers/x.log -> /var/log/pods/x/0.log -> the container's own file, each replaced."""
    pods, own = tailed.directory / "pods", tailed.directory / "docker"
    pods.mkdir()
    own.mkdir()
    (own / "abc.log").write_text("one\n")
    (pods / "0.log").symlink_to(own / "abc.log")
    (tailed.logs / "x.log").symlink_to(pods / "0.log")
    with tailed.start(paths=[f"{tailed.logs}/*.log"], start_at="beginning"):
        tailed.expect("one")
        with (own / "abc.log").open("a") as file:
            file.write("two\n")
        tailed.expect("one", "two")
        (own / "def.log").write_text("three\n")
        (pods / "1.log").symlink_to(own / "def.log")
        (tailed.logs / "new").symlink_to(pods / "1.log")
        (tailed.logs / "new").rename(tailed.logs / "x.log")
        with (own / "abc.log").open("a") as file:
            file.write("last of the old\n")
        wait_until(lambda: len(tailed.contents()) == 4, 40, "both files")
        assert sorted(tailed.contents()) == ["last of the old", "one", "three", "two"]
        (own / "def.log").rename(own / "def.log.1")
        (own / "def.log").write_text("four\n")
        wait_until(lambda: "four" in tailed.contents(), 40, "what is behind the link now")
        assert len(tailed.contents()) == 5
        paths = {item["dimension"]["file"] for item in tailed.proxy.items()}
        assert paths == {str(tailed.logs / "x.log")}


def test_a_link_that_is_swapped_on_the_way_to_the_file_is_noticed_at_once(tailed: Tailed) -> None:
    """log/x.log -> ..data/x.log, and ..data -> a directory that is replaced as a whole, as Kubernetes does."""
    data = tailed.directory / "volume"
    for number in (1, 2):
        (data / f"..{number}").mkdir(parents=True)
        (data / f"..{number}" / "x.log").write_text(f"{number}\n")
    (data / "..data").symlink_to("..1")
    (tailed.logs / "x.log").symlink_to(data / "..data" / "x.log")
    with tailed.start(paths=[f"{tailed.logs}/*.log"], start_at="beginning"):
        tailed.expect("1")
        time.sleep(1)  # after the looks that follow the start
        (data / "..new").symlink_to("..2")
        (data / "..new").rename(data / "..data")
        wait_until(lambda: tailed.contents() == ["1", "2"], 20, "what is behind the link now")


def test_what_was_there_before_the_first_run_is_left_out(tailed: Tailed) -> None:
    tailed.write("old", "also old")
    with tailed.start(paths=[f"{tailed.logs}/**/*.log"]) as sidecar:
        wait_until(lambda: tailed.shown()["files"], 10, "the file")
        tailed.write("new")
        tailed.expect("new")
        later = tailed.logs / "scheduled" / "deep"
        later.mkdir(parents=True)
        (later / "b.log").write_text("from the beginning\n")
        tailed.expect("new", "from the beginning")
        sidecar.stop()
        (later / "c.log").write_text("came while it was down\n")
        sidecar.start()
        tailed.expect("new", "from the beginning", "came while it was down")


def test_a_file_that_comes_once_the_sidecar_is_ready_is_read_from_its_beginning(tailed: Tailed) -> None:
    for number in range(5000):  # it takes a while until all have been looked at
        (tailed.logs / f"{number:04}").mkdir()
    tailed.log = tailed.logs / "4999" / "app.log"
    tailed.start(paths=[str(tailed.logs / "**" / "*.log")])
    tailed.write("one", "two")
    tailed.expect("one", "two")


def test_two_names_of_one_file_and_two_tails_of_it(tailed: Tailed) -> None:
    tailed.write("one")
    os.link(tailed.log, tailed.logs / "hard.log")
    (tailed.logs / "soft.log").symlink_to(tailed.log)
    paths = [f"{tailed.logs}/*.log"]
    settings = {
        "tails": {
            "a": {"paths": paths, "stream": "app-events", "start_at": "beginning", "event": {"name": "a"}},
            "b": {"paths": paths, "stream": "app-events", "start_at": "beginning", "event": {"name": "b"}},
        }
    }
    with Sidecar(tailed.directory, tailed.proxy.url, settings) as sidecar:
        sidecar.start()
        wait_until(lambda: len(tailed.proxy.items()) >= 2, 10, "two events")
        time.sleep(0.5)
        assert sorted(item["event_name"] for item in tailed.proxy.items()) == ["a", "b"]


def test_a_full_queue_stops_the_reading_and_loses_nothing(tailed: Tailed) -> None:
    tailed.proxy.fault("down")
    text = [f"{number:06d} {os.urandom(150).hex()}" for number in range(6_000)]
    settings = {
        "queue": {"max_size": "1MB"},
        "tails": {"app": {"paths": [str(tailed.log)], "stream": "app-events", "start_at": "beginning"}},
    }
    with Sidecar(tailed.directory, tailed.proxy.url, settings) as sidecar:
        sidecar.start()
        tailed.sidecar = sidecar
        tailed.write(*text)
        wait_until(
            lambda: any("tail app waits" in reason for reason in sidecar.status()["reasons"]), 20, "a full queue"
        )
        shown = tailed.shown()
        assert shown["files"][0]["state"] == "waiting"
        assert shown["files"][0]["lag_bytes"] > 1_000_000
        assert sidecar.post({"stream": "app-events", "data": []}).status_code in (400, 503)
        tailed.proxy.fault("none")
        wait_until(lambda: len(tailed.contents()) >= len(text), 60, "all lines")
        assert tailed.contents() == text


def test_a_time_series_from_a_log(tailed: Tailed) -> None:
    settings = {
        "streams": {"load": {"data_id": 7, "access_token": "t", "kind": "time_series"}},
        "tails": {
            "load": {
                "paths": [str(tailed.log)], "stream": "load", "start_at": "beginning", "parse": "json",
                "event": {"metrics": {"load1": "{load}"}, "dimension": {"host": "{host}"},
                          "timestamp": {"field": "t", "unit": "s"}},
            }
        },
    }  # fmt: skip
    tailed.write('{"load": 0.5, "t": 1700000000}', "no number", '{"load": 2}')
    with Sidecar(tailed.directory, tailed.proxy.url, settings) as sidecar:
        sidecar.start()
        wait_until(lambda: len(tailed.proxy.items()) == 2, 10, "two items")
        assert [item["metrics"] for item in tailed.proxy.items()] == [{"load1": 0.5}, {"load1": 2}]
        tail = next(entry for entry in sidecar.status()["inputs"] if entry["name"] == "load")
        assert (tail["events"], tail["rejected"], tail["lines"]["unparsed"]) == (2, 1, 1)
        assert 'sidecar_tail_lines_total{tail="load",what="unparsed"} 1.0' in sidecar.get("/metrics").text


def test_a_group_of_lines_survives_a_restart_without_a_cut_or_a_repeat(tailed: Tailed) -> None:
    with tailed.start(start_at="beginning", multiline={"start": r"^\d", "flush_after": "60s"}) as sidecar:
        tailed.write("1 begins", "  goes on")
        time.sleep(0.5)
        sidecar.kill()
        tailed.write("  and on")
        sidecar.start()
        tailed.write("2 next")
        tailed.expect("1 begins\n  goes on\n  and on")


def test_a_group_and_a_line_without_an_end_are_sent_after_a_while(tailed: Tailed) -> None:
    rule = {"start": r"^\d", "flush_after": "500ms"}
    with tailed.start(start_at="beginning", multiline=rule, partial_after="1s"):
        tailed.write("1 begins", "  goes on")
        tailed.expect("1 begins\n  goes on")
        with tailed.log.open("a") as file:
            file.write("2 without an end")
        tailed.expect("1 begins\n  goes on", "2 without an end")


def test_reset_and_skip(tailed: Tailed) -> None:
    tailed.write("one", "two")
    with tailed.start() as sidecar:
        config = str(sidecar.config)
        wait_until(lambda: tailed.shown()["files"], 10, "the file")
        done = run_command("tails", "--config", config, "reset", "app")
        assert done.stdout == "1 file of app: read from the beginning\n", done.stderr
        tailed.expect("one", "two")
        assert run_command("tails", "--config", config, "skip", "app").returncode == 0
        tailed.write("three")
        tailed.expect("one", "two", "three")
        assert run_command("tails", "--config", config, "reset", "none").returncode == 1
        table = run_command("tails", "--config", config).stdout
        assert "tail app -> app-events: 1 file" in table
        assert str(tailed.log) in table


def test_a_reload_adds_and_removes_tails(tailed: Tailed) -> None:
    with tailed.start(start_at="beginning") as sidecar:
        tailed.write("one")
        tailed.expect("one")
        other = tailed.logs / "other.txt"
        other.write_text("other\n")
        added = {"paths": [str(other)], "stream": "app-events", "start_at": "beginning"}
        sidecar.settings["tails"] = {"other": added}
        sidecar.arguments()
        assert run_command("reload", "--config", str(sidecar.config)).returncode == 0
        tailed.expect("one", "other")
        tailed.write("while it is not followed")
        sidecar.settings["tails"] = {"other": added} | tailed.settings["tails"]
        sidecar.arguments()
        assert run_command("reload", "--config", str(sidecar.config)).returncode == 0
        tailed.expect("one", "other", "while it is not followed")
        counted = {each["name"]: each["events"] for each in sidecar.status()["inputs"]}
        assert (counted["app"], counted["other"]) == (2, 1), "since the start, and not since the reload"


def test_what_cannot_be_followed_is_named(tailed: Tailed) -> None:
    os.mkfifo(tailed.logs / "fifo.log")
    (tailed.logs / "dir.log").mkdir()
    with (tailed.logs / "sparse.log").open("wb") as file:
        file.truncate(1 << 20)
    with tailed.start(paths=[f"{tailed.logs}/*.log"], start_at="beginning"):
        tailed.write("good")
        tailed.expect("good")
        why = {Path(file["path"]).name: file["why"] for file in tailed.shown()["files"] if file["state"] == "refused"}
        assert why["fifo.log"] == "a FIFO, not a file"
        assert why["dir.log"] == "a directory, not a file"
        assert why["sparse.log"].startswith("a sparse file")


def test_a_pattern_that_never_ends_stops_nothing_else(tailed: Tailed) -> None:
    tailed.write("x" * 3000, "good line")
    rule = {"regex": r"^((?:x+x+)+y|(?P<word>good) line)"}
    with tailed.start(start_at="beginning", parse=rule, event={"dimension": {"word": "{word}"}}) as sidecar:
        wait_until(lambda: len(tailed.proxy.items()) == 2, 60, "both lines")
        assert sidecar.get("/healthz").status_code == 200
        assert [item["dimension"] for item in tailed.proxy.items()] == [{}, {"word": "good"}]
        tail = next(entry for entry in sidecar.status()["inputs"] if entry["name"] == "app")
        assert tail["lines"]["late"] == 1
        wait_until(lambda: "exceeded its time limit" in sidecar.text(), 20, "a line in the log")


def test_polling_where_nothing_is_told(tailed: Tailed) -> None:
    with tailed.start(start_at="beginning", poll="200ms"):
        tailed.write("one")
        tailed.expect("one")
        tailed.log.rename(f"{tailed.log}.1")
        tailed.write("two")
        tailed.expect("one", "two")
        assert tailed.shown()["tails"][0]["polling"] == "as configured"


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can be let read nothing")
def test_a_file_or_directory_that_is_closed_is_a_reason_until_it_is_open(tailed: Tailed) -> None:
    tailed.write("one")
    tailed.log.chmod(0o000)
    closed = tailed.logs / "closed"
    closed.mkdir(mode=0o000)
    settings = {"tails": {"app": {
        "paths": [f"{tailed.logs}/**/*.log"], "stream": "app-events", "start_at": "beginning", "poll": "200ms",
    }}}  # fmt: skip
    tailed.sidecar = Unprivileged(tailed.directory, tailed.proxy.url, settings)
    with tailed.sidecar.start() as sidecar:
        reason = wait_until(lambda: "".join(r for r in sidecar.status()["reasons"] if "cannot read 2" in r))
        assert "Permission denied" in reason
        assert "setfacl" in reason
        assert sidecar.status()["state"] == "degraded"
        assert 'sidecar_tail_unreadable{tail="app"} 2.0' in sidecar.get("/metrics").text
        assert sidecar.text().count("level=warning logger=inputs.tail") == 2
        tailed.log.chmod(0o644)
        closed.chmod(0o755)
        tailed.expect("one")
        wait_until(lambda: sidecar.status()["state"] == "ok")


class Unprivileged(Sidecar):
    """Root without the right to read everything."""

    def spawn(self) -> None:
        with self.output.open("ab") as output:
            command = [sys.executable, "-m", *self.program, *self.arguments()]
            caps = "-dac_override,-dac_read_search"
            self.process = subprocess.Popen(
                ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}", *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip


def test_directories_that_live_a_second_are_no_fault_of_inotify(tailed: Tailed) -> None:
    paths = [f"{tailed.logs}/**/*.log"]
    with tailed.start(paths=paths, start_at="beginning") as sidecar:
        for number in range(150):
            place = tailed.logs / f"pod{number}" / "ctr"
            place.mkdir(parents=True)
            (place / "0.log").write_text(f"pod {number}\n")
            if number >= 20:
                shutil.rmtree(tailed.logs / f"pod{number - 20}")
            assert not any("polls its files every second" in reason for reason in sidecar.status()["reasons"])
        assert "inotify unavailable" not in sidecar.text()


def test_the_limits_of_events_are_those_of_the_running_sidecar(tailed: Tailed) -> None:
    tailed.settings = {
        "proxy": {"max_body": "20KB"},
        "tails": {"app": {"paths": [str(tailed.log)], "stream": "app-events", "start_at": "beginning"}},
    }
    tailed.write("x" * 60_000)
    tailed.sidecar = Sidecar(tailed.directory, tailed.proxy.url, tailed.settings)
    with tailed.sidecar.start() as sidecar:
        tried = run_command("try", "--tail", "app", "--config", str(sidecar.config), str(tailed.log))
        content = json.loads(tried.stdout)["event"]["content"]
        assert len(content) < 15_904
        tailed.expect(content)
