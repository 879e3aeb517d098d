"""Serves the commands on the control socket, and opens it anew where its file was taken away."""

from pathlib import Path

from starlette.types import ASGIApp

from sidecar.core.errors import StartError
from sidecar.host.http_server import HttpServer
from sidecar.host.listeners import SocketFile, listen_unix
from sidecar.host.reopening import Reopening
from sidecar.inputs.http import bounded_protocol
from sidecar.service.paths import CONTROL_SOCKET

_CONNECTIONS = 256


class ControlSocket:
    """An application at `path`, for the same user and root only."""

    def __init__(self, path: Path, app: ASGIApp) -> None:
        self._reopening = Reopening(CONTROL_SOCKET)
        self._path, self._app = path, app
        self._file: SocketFile | None = None  # this and the next: None until started
        self._server: HttpServer | None = None  # None until started
        self._stopped = False  # it is not opened any more

    async def start(self) -> None:
        """Listen. Raises StartError."""
        listener = listen_unix(str(self._path))
        self._file = SocketFile(self._path)
        self._server = HttpServer(self._app, listener, bounded_protocol(_CONNECTIONS))
        await self._server.start()

    @property
    def lost(self) -> str | None:
        """Return why no command can connect; None: they can."""
        return self._reopening.lost

    async def look(self) -> None:
        """Notice what has become of the file, and listen anew where it was lost; once a second."""
        why = self._file.lost() if self._file is not None and not self._stopped else None
        await self._reopening.look(why, self._start_again)

    async def _start_again(self) -> str:
        if not self._path.parent.is_dir():  # the state itself is gone; nobody is to make another one
            raise StartError(f"{self._path.parent} is no directory")
        before = self._server
        await self.start()
        # Only after the new one listens: commands find a control socket at every moment.
        if before is not None:
            await before.stop()
        return str(self._path)

    async def stop(self) -> None:
        """Answer what was asked, close, and remove the file if it is still this one; may be called twice."""
        self._stopped = True
        if self._server is not None:
            await self._server.stop()
        if self._file is not None:
            self._file.remove()
