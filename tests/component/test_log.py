"""Log lines: one form for all, and no token in any."""

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from sidecar.host import log


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, secrets = root.handlers[:], root.level, set(log._secrets)
    yield
    root.handlers[:], root.level = handlers, level
    log._secrets.clear()
    log._secrets.update(secrets)
    structlog.reset_defaults()


def read(capsys: pytest.CaptureFixture[str]) -> str:
    log.flush(10)
    return capsys.readouterr().err


def test_lines_are_key_value(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    structlog.get_logger("part").warning("something odd", stream="app events", count=3, ok=True)
    line = read(capsys)
    assert 'level=warning logger=part event="something odd"' in line
    assert 'stream="app events"' in line
    assert "count=3 ok=true" in line
    assert line.startswith("ts=20")
    assert line.count("\n") == 1


def test_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("json")
    structlog.get_logger("part").info("ready", path="/数据")
    line = json.loads(read(capsys))
    assert (line["level"], line["logger"], line["event"], line["path"]) == ("info", "part", "ready", "/数据")


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_no_token_in_any_line_nor_in_a_traceback_nor_in_those_of_libraries(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(form)  # type: ignore[arg-type]
    log.mask(["s3cr3t-token", "abc"])
    logger = structlog.get_logger("part")
    logger.info("with s3cr3t-token inside", error="wrong token s3cr3t-token")
    try:
        raise ValueError("s3cr3t-token")
    except ValueError:
        logger.exception("failed")
    logging.getLogger("somebody.else").warning("token is %s", "s3cr3t-token")
    text = read(capsys)
    assert "s3cr3t-token" not in text
    assert text.count("***") >= 4
    assert "ValueError" in text


def test_a_line_break_in_a_value_does_not_break_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    structlog.get_logger("part").warning("odd", error="one\ntwo")
    assert read(capsys).count("\n") == 1


class Stuck(io.StringIO):
    """A reader that has stopped; `read_on` lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = threading.Event()
        self.asked = threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        self.reads.wait(20)
        return super().write(text)


def test_a_reader_that_stops_stops_nobody_and_is_told_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Stuck()
    monkeypatch.setattr("sys.stderr", stuck)
    log.set_up()
    logger = structlog.get_logger("part")
    logger.info("first")
    assert stuck.asked.wait(20)
    for number in range(5000):
        logger.info("line", number=number)
    log.flush(0.05)
    stuck.reads.set()
    log.flush(20)
    lines = stuck.getvalue().splitlines()
    assert 1000 < len(lines) < 2100
    dropped = next(line for line in lines if "nobody read the log" in line)
    assert f"{5001 - (len(lines) - 1)} lines of it were dropped" in dropped
    assert "level=warning" in dropped


def test_without_standard_error_nothing_is_said_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    log.set_up()
    structlog.get_logger("part").info("to nobody")
    log.flush(10)


def test_in_the_journal_each_line_has_its_priority_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setattr("sys.stderr", journal)
        log.set_up()
        logger = structlog.get_logger("part")
        logger.info("ready")
        logger.warning("odd")
        logger.error("bad")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("worse")
        log.flush(10)
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [line[:3] for line in lines[:3]] == ["<6>", "<4>", "<3>"]
    assert lines[0] == "<6>level=info logger=part event=ready"
    assert all(line.startswith("<3>") for line in lines[2:])
