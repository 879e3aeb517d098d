"""Serves the commands on the control socket, and opens it anew where its file was taken away."""

from pathlib import Path

import structlog
from starlette.types import ASGIApp

from sidecar.core.errors import StartError
from sidecar.host.http_server import HttpServer
from sidecar.host.listeners import SocketFile, listen_unix
from sidecar.inputs.http import bounded_protocol

_CONNECTIONS = 256
log = structlog.get_logger("control")


class ControlSocket:
    """An application at `path`, for the same user and root only."""

    def __init__(self, path: Path, app: ASGIApp) -> None:
        self.lost: str | None = None  # why no command can connect
        self._path, self._app = path, app
        self._file: SocketFile | None = None
        self._server: HttpServer | None = None
        self._stopped = False

    async def start(self) -> None:
        """Listen. Raises StartError."""
        listener = listen_unix(str(self._path))
        self._file = SocketFile(self._path)
        self._server = HttpServer(self._app, listener, bounded_protocol(_CONNECTIONS))
        await self._server.start()

    async def look(self) -> None:
        """Notice what has become of the file, and listen anew where it was lost; once a second."""
        why = self._file.lost() if self._file is not None and not self._stopped else None
        if why is None:
            self.lost = None
            return
        if self.lost is None:
            log.warning("no command can connect, the file of the control socket is lost", reason=why)
        self.lost = why
        if not self._path.parent.is_dir():  # the state itself is gone; nobody is to make another one
            return
        before = self._server
        try:
            await self.start()
        except StartError as error:
            self.lost = f"{why}; {error}"
            return
        self.lost = None
        log.info("listening again", socket=self._path.name)
        if before is not None:
            await before.stop()

    async def stop(self) -> None:
        """Answer what was asked, close, and remove the file if it is still this one; may be called twice."""
        self._stopped = True
        if self._server is not None:
            await self._server.stop()
        if self._file is not None:
            self._file.remove()
