"""Logging: one line an event, `key=value` or JSON, on standard error. The only module that sets structlog up.

Lines of libraries come out in the same form, from WARNING on. Tokens are registered with `mask` and never printed.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_LIBRARIES = ("uvicorn", "uvicorn.error", "apscheduler", "httpx", "httpcore", "asyncio")
_OURS = ("ts", "level", "logger")
_secrets: set[str] = set()


def mask(secrets: Iterable[str]) -> None:
    """Keeps `secrets` out of every line from now on; short ones would mask innocent text, so they are left alone."""
    _secrets.update(secret for secret in secrets if len(secret) >= 6)


def unmask(secret: str) -> None:
    """Forget a secret that nothing has to do with any more."""
    _secrets.discard(secret)


def set_up(form: Literal["logfmt", "json"] = "logfmt", level: int = logging.INFO) -> None:
    """Sets the process's logging up; may be called again."""
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    order = ["ts", "level", "logger", "event"]
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)


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
