"""Every route but the push itself: the page, the status, health, metrics, and the right refusal for the rest."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar.config import is_own_address
from sidecar.core.errors import Rejected
from sidecar.inputs.http import answers
from sidecar.inputs.http.guard import Guard
from sidecar.status.document import Health, InputStatus, QueueStatus
from sidecar.status.figures import figures_of

_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
SEEN_PATH = "/dead/seen"
"""Here the page says that somebody has seen the dead letters up to a number."""
_OWN_PATHS = (*_PAGE_FILES, "/status", "/metrics", SEEN_PATH)
"""The paths that only programs of this host may read, unless `http.status_listen` shows them to others."""
_SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


class Views(Protocol):
    """The data that the routes show. The application implements it."""

    def status(self) -> Awaitable[msgspec.Struct]:
        """Return the status document."""

    def alive(self) -> Awaitable[Health]:
        """Return whether the process makes progress."""

    def ready(self) -> Awaitable[Health]:
        """Return whether a report, or a line of a file, would be taken now."""

    def metrics(self) -> Awaitable[bytes]:
        """Return Prometheus text."""


def make_app(views: Views, guard: Guard | None, more: Sequence[Route] = (), *, to_other_hosts: bool = False) -> ASGIApp:
    """Return the ASGI application. Without a `guard` it trusts whoever can reach it: the control socket.

    `more`: routes beside those for everybody. `to_other_hosts`: whether they may see the status.
    """

    async def status(_: Request) -> Response:
        return _json(await views.status())

    async def healthz(_: Request) -> Response:
        return _health(await views.alive())

    async def readyz(_: Request) -> Response:
        return _health(await views.ready())

    async def metrics(_: Request) -> Response:
        return Response(await views.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8", headers=_SAFE)

    async def push(_: Request) -> Response:
        raise HTTPException(405, "method not allowed, expected POST", {"allow": "POST"})

    app = Starlette(
        routes=[
            *(Route(path, _page(path)) for path in _PAGE_FILES),
            Route("/status", status),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *more,
            *(
                Route(path, push, methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
                for path in ("/v2/push", "/v2/push/")
            ),
        ],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    return _Guarded(app, guard, to_other_hosts=to_other_hosts) if guard else app


def _page(path: str) -> Callable[[Request], Awaitable[Response]]:
    name, media_type = _PAGE_FILES[path]
    content = (_PAGE / name).read_bytes()
    if name.endswith(".js"):
        content = _figures() + content

    async def show(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_SAFE)

    return show


def _figures() -> bytes:
    """Return a line of JavaScript with the words of the figures that have no place of their own on the page."""
    parts = {"queue": QueueStatus, "inputs": InputStatus}
    words = {
        part: {
            name: {"words": figure.words, "size": figure.size}
            for name, figure in figures_of(kind).items()
            if figure.words
        }
        for part, kind in parts.items()
    }
    return b"const FIGURES = %b;\n" % msgspec.json.encode(words)


def _json(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json", headers=_SAFE)


def _health(health: Health) -> Response:
    return _json({"ok": health.good, "reasons": list(health.reasons)}, 200 if health.good else 503)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {404: "no such path", 405: "method not allowed"}.get(error.status_code, error.detail)
    body = answers.refusal_body(error.status_code, message)
    return Response(body, error.status_code, media_type="application/json", headers={**_SAFE, **(error.headers or {})})


def _expect_host(scope: Scope) -> None:
    """Check the Host. Raises Rejected (400) unless there is one Host, or none in HTTP/1.0 (RFC 9112, 3.2)."""
    hosts = sum(name == b"host" for name, _ in scope["headers"])
    if hosts > 1 or (not hosts and scope["http_version"] == "1.1"):
        raise Rejected(400, "expected once, with the name or address of this endpoint", ("Host",))


class _Guarded:
    """Asks the guard before every request. `to_other_hosts`: whether they are shown more than the health."""

    def __init__(self, app: ASGIApp, guard: Guard, *, to_other_hosts: bool) -> None:
        self._app, self._guard, self._to_other_hosts = app, guard, to_other_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            _expect_host(scope)
            is_page = scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
            self._guard.check(dict(scope["headers"]), is_page=is_page)
            if not self._to_other_hosts and scope["path"] in _OWN_PATHS:
                self._expect_own_host(scope)
        except Rejected as refused:
            body = answers.refusal_body(refused.why.status, refused.why.message)
            await Response(body, refused.why.status, media_type="application/json", headers=_SAFE)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _expect_own_host(self, scope: Scope) -> None:
        client, server = scope.get("client"), scope.get("server")
        if client and client[0] != (server or ("",))[0] and not is_own_address(client[0]):
            raise Rejected(403, "the status is shown to other hosts only on http.status_listen")
