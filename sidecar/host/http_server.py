"""Runs uvicorn inside the process: on sockets that were opened before, and without its own signals and log."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_KEEP_ALIVE_S = 75
_BACKLOG = 1024


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait until it is told to end; uvicorn's own looks ten times a second."""
        await self.stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the application, which handles them for all its parts."""
        yield


class HttpServer:
    """An ASGI application on a listening socket."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        protocol: Callable[..., asyncio.Protocol] = HttpToolsProtocol,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=protocol,  # type: ignore[arg-type]  # a factory does where a class is named
            ws="none",
            lifespan="off",
            log_config=None,  # host/log.py owns the logging of the process
            access_log=False,
            server_header=False,
            date_header=False,
            # Anybody can write X-Forwarded-For, and the address of the sender decides what it may see.
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
            backlog=_BACKLOG,
        )
        config.load()
        config.ssl = tls  # uvicorn's own settings would take files, but no context, in all versions
        self._server = _Server(config)
        self._listener = listener
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when connections are accepted."""
        self._serving = asyncio.create_task(self._server.serve([self._listener]), name="http")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()  # raises why it ended; else this loop would wait for ever
            await asyncio.sleep(0.005)

    async def stop(self, *, abort: bool = False) -> None:
        """Accept nothing more, answer what was asked (or cut it off), and close; may be called twice."""
        if self._serving is not None:
            for connection in list(self._server.server_state.connections) if abort else ():
                connection.transport.abort()
            self._server.stopping.set()
            await self._serving
            self._serving = None
