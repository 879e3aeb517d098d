"""Log lines: one form for all, and no token in any."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sidecar import log


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, secrets = root.handlers[:], root.level, set(log._secrets)
    yield
    root.handlers[:], root.level = handlers, level
    log._secrets.clear()
    log._secrets.update(secrets)
    structlog.reset_defaults()


def test_lines_are_key_value(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    structlog.get_logger("part").warning("something odd", stream="app events", count=3, ok=True)
    line = capsys.readouterr().err
    assert 'level=warning logger=part event="something odd"' in line
    assert 'stream="app events"' in line
    assert "count=3 ok=true" in line
    assert line.startswith("ts=20")
    assert line.count("\n") == 1


def test_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("json")
    structlog.get_logger("part").info("ready", path="/数据")
    line = json.loads(capsys.readouterr().err)
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
    text = capsys.readouterr().err
    assert "s3cr3t-token" not in text
    assert text.count("***") >= 4
    assert "ValueError" in text


def test_a_line_break_in_a_value_does_not_break_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up()
    structlog.get_logger("part").warning("odd", error="one\ntwo")
    assert capsys.readouterr().err.count("\n") == 1
