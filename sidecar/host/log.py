"""Logging: one line an event, `key=value` or JSON, on standard error. The only module that sets structlog up.

Lines of libraries come out in the same form, from WARNING on. Tokens are registered with `mask` and never printed.
Under systemd each line carries its level as journald wants it (sd-daemon(3)), and leaves the time to it.
"""

import logging
import os
import sys
from collections.abc import Iterable
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from sidecar.host.log_writer import LogWriter

_LIBRARIES = ("uvicorn", "uvicorn.error", "apscheduler", "httpx", "asyncio")
_OURS = ("ts", "level", "logger")
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""The priorities of syslog(3), by the name of the level."""
_secrets: set[str] = set()
_writer: LogWriter | None = None


def mask(secrets: Iterable[str]) -> None:
    """Keep `secrets` out of every line from now on; short ones would mask innocent text, so they are left alone."""
    _secrets.update(secret for secret in secrets if len(secret) >= 6)


def unmask(secret: str) -> None:
    """Forget a secret that nothing has to do with any more."""
    _secrets.discard(secret)


def set_up(form: Literal["logfmt", "json"] = "logfmt", level: int = logging.INFO) -> None:
    """Set the process's logging up, on standard error; may be called again."""
    global _writer  # noqa: PLW0603  # logging itself is the process' own
    in_journal = _is_journal(sys.stderr)
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        *([] if in_journal else [structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts")]),
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    order = ["level", "logger", "event"] if in_journal else ["ts", "level", "logger", "event"]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.processors.LogfmtRenderer(key_order=order, bool_as_flag=False)
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    _writer = LogWriter(sys.stderr, lambda count: handler.format(_dropped(count)))
    handler = _Handler(_writer, with_priority=in_journal)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    # Replaces all: set_up may be called again, and no line may come out twice.
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)


def flush(timeout_s: float) -> None:
    """Wait until the lines so far are written, but not for a reader that has stopped."""
    if _writer is not None:
        _writer.flush(timeout_s)


class _Handler(logging.Handler):
    """Formats in the caller's thread, where the secrets of the moment are known, and hands over."""

    def __init__(self, writer: LogWriter, *, with_priority: bool) -> None:
        super().__init__()
        self._writer, self._with_priority = writer, with_priority

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        priority = f"<{_PRIORITIES.get(record.levelname.lower(), 6)}>" if self._with_priority else ""
        # journald makes an entry of each line, also inside a traceback, so each line needs its priority.
        return priority + line.replace("\n", f"\n{priority}")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record))
        except Exception:
            self.handleError(record)


def _dropped(count: int) -> logging.LogRecord:
    name = "log"
    text = f"nobody read the log for a while; {count} lines of it were dropped"
    return logging.LogRecord(name, logging.WARNING, "", 0, text, None, None)


def _is_journal(stream: TextIO | None) -> bool:
    """Return True if `stream` goes to journald, which says so by device and inode (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        if stream is None:
            return False
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _hide_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if _secrets:
        for key, value in event.items():
            if isinstance(value, str) and key not in _OURS:
                event[key] = _without_secrets(value)
    return event


def _without_secrets(text: str) -> str:
    for secret in _secrets:
        text = text.replace(secret, "***")
    return text
