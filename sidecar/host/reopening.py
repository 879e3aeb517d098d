"""Opens a Unix socket anew whose file was lost, and says so once. How it is opened is its owner's business."""

from collections.abc import Awaitable, Callable

import structlog

from sidecar.core.errors import StartError

log = structlog.get_logger("host")


class Reopening:
    """Reopen the socket called `name` when its file is lost. `lost`: why nobody can connect; None: all is well."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost: str | None = None

    async def look(self, why: str | None, reopen: Callable[[], Awaitable[str]]) -> None:
        """Act on `why` the file is lost, if it is; once a second. `reopen` returns where, or raises StartError."""
        if why is None:
            self.lost = None
            return
        if self.lost is None:
            log.warning("socket file lost, nobody can connect", socket=self.name, reason=why)
        self.lost = why
        try:
            where = await reopen()
        except StartError as error:
            self.lost = f"{why}; {error}"
            return
        self.lost = None
        log.info("listening again", socket=self.name, on=where)
