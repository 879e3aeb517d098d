"""`sidecar try` and `sidecar test`: what lines would become, without a sidecar."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import run_command

SETTINGS: dict[str, Any] = {
    "proxy": {"urls": ["http://127.0.0.1:1"]},
    "streams": {"app": {"data_id": 1, "access_token": "very-secret"}},
    "tails": {
        "app": {
            "paths": ["/var/log/app/*.log"], "stream": "app", "parse": "json", "unparsed": "dead",
            "where_not": {"level": "DEBUG"},
            "event": {"content": "{msg}", "dimension": {"level": "{level}", "file": "{path}"}},
        }
    },
}  # fmt: skip
LINES = '{"msg": "one", "level": "INFO"}\n{"msg": "two", "level": "DEBUG"}\nno json\n{"msg": "last", "level": "WARN"}'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(directory: Path, **more: Any) -> Path:
    path = directory / "c.yml"
    path.write_text(json.dumps(SETTINGS | more))
    return path


def test_what_a_file_would_become(tmp_path: Path, config: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(LINES)
    done = run_command("try", "--config", str(config), "--tail", "app", str(log))
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"]["content"] for event in events] == ["one", "last"]
    assert events[0]["dimension"] == {"level": "INFO", "file": str(log)}
    assert "dead letter (the line does not parse)" in done.stderr
    assert "2 events, 1 dead letter, 1 filtered, 1 unparsed" in done.stderr
    assert not (tmp_path / "state").exists()


def test_as_if_the_file_were_elsewhere_and_compressed(tmp_path: Path, config: Path) -> None:
    log = tmp_path / "a.log.gz"
    log.write_bytes(gzip.compress(LINES.encode()))
    done = run_command("try", "--config", str(config), "--tail", "app", "--limit", "1", str(log))
    assert json.loads(done.stdout)["event"]["content"] == "one"
    plain = tmp_path / "b"
    plain.write_text(LINES)
    done = run_command("try", "--config", str(config), "--tail", "app", "--path", "/var/log/x.log", str(plain))
    assert json.loads(done.stdout.splitlines()[0])["dimension"]["file"] == "/var/log/x.log"


def test_an_unknown_tail_is_wrong_usage(config: Path) -> None:
    done = run_command("try", "--config", str(config), "--tail", "ap", "/dev/null")
    assert done.returncode == 2
    assert "no tail ap is configured; there are: app" in done.stderr


TEST = {
    "tail": "app",
    "path": "/var/log/app/a.log",
    "lines": ['{"msg": "disk full", "level": "ERROR"}', '{"msg": "x", "level": "DEBUG"}', "no json"],
    "events": [
        {
            "event_name": "app", "event": {"content": "disk full"},
            "dimension": {"level": "ERROR", "file": "/var/log/app/a.log"},
        },
        {
            "dead": "the line does not parse", "event_name": "app", "event": {"content": "no json"},
            "dimension": {"file": "/var/log/app/a.log"},
        },
    ],
}  # fmt: skip


def test_the_tests_of_a_configuration(tmp_path: Path) -> None:
    wrong = TEST | {"events": [{**TEST["events"][0], "event_name": "other"}]}  # type: ignore[dict-item]
    config = write(tmp_path, tests={"good": TEST, "wrong": wrong})
    done = run_command("test", "--config", str(config), "good")
    assert (done.returncode, done.stdout) == (0, "passed  good\n1 test, 0 failed\n"), done.stdout
    done = run_command("test", "--config", str(config))
    assert done.returncode == 1
    assert "FAILED  wrong" in done.stdout
    assert '-  "event_name": "other",' in done.stdout
    assert '+  "event_name": "app",' in done.stdout
    done = run_command("test", "--config", str(config), "--json")
    assert [(result["name"], result["passed"]) for result in json.loads(done.stdout)] == [
        ("good", True),
        ("wrong", False),
    ]
    assert run_command("test", "--config", str(config), "none").returncode == 2


def test_a_wrong_configuration_says_where(tmp_path: Path) -> None:
    config = write(tmp_path, tests={"t": {"tail": "ap", "lines": [], "events": []}})
    done = run_command("test", "--config", str(config))
    assert done.returncode == 78
    assert "tests.t.tail: no tail ap is configured; did you mean app?" in done.stderr
    assert "very-secret" not in done.stdout + done.stderr
