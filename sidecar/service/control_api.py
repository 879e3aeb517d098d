"""Answers the control socket beside the status: the commands that change the queue or the forwarding.

Each answers within a moment: what is large is done in rounds, and the command asks for one after the other.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.core.errors import Rejected, Unavailable
from sidecar.core.filters import Moved
from sidecar.core.model import Books, StreamKey
from sidecar.host.clock import wall_ms
from sidecar.inputs.http import SEEN_PATH
from sidecar.inputs.tail import Tails, show_loss
from sidecar.intake import Router
from sidecar.queue import CancelReplay, Purge, PutBack, Queue, QueueStream, Replay, SeeDead
from sidecar.service.control_messages import (
    AskTails,
    Cancel,
    DeadRound,
    Files,
    MoveTail,
    Reload,
    Reloaded,
    ReplayRound,
    Retry,
    SeenDead,
)
from sidecar.service.forwarders import Forwarders
from sidecar.status.tails import ShownTails

_BODY_MAX_BYTES = 1_000_000
T = TypeVar("T", bound=msgspec.Struct)


class ControlApi:
    """The commands, for the control socket alone. `reload` raises Rejected (400), with what is wrong."""

    def __init__(
        self,
        router: Router,
        queue: Queue,
        forwarders: Forwarders,
        tails: Tails,
        reload: Callable[[], Awaitable[Reloaded]],
    ) -> None:
        self._router, self._queue, self._forwarders = router, queue, forwarders
        self._tails, self._reload = tails, reload

    def routes(self) -> list[Route]:
        """Return the routes for the application on the control socket."""
        return [
            _route("/control/retry", Retry, self.retry),
            _route("/control/reload", Reload, self.reload),
            _route("/control/tails", AskTails, self.show_tails),
            _route("/control/tails/move", MoveTail, self.move_tail),
            _route("/control/dead/retry", DeadRound, self.put_back),
            _route("/control/dead/purge", DeadRound, self.purge),
            _route("/control/dead/ack", SeenDead, self.see_dead),
            _route("/control/replay", ReplayRound, self.replay),
            _route("/control/replay/cancel", Cancel, self.cancel_replay),
        ]

    def page_routes(self) -> list[Route]:
        """Return those for the application that the page, and whoever else is on this host, can reach."""
        return [_route(SEEN_PATH, SeenDead, self.see_dead)]

    async def retry(self, asked: Retry) -> Books:
        """End whatever the stream waits for, and answer its books. Raises Rejected (404)."""
        found = self.find(asked.stream)
        for stream in found:
            self._forwarders.retry(stream)
        return sum((stream.books for stream in found), Books())

    async def reload(self, _: Reload) -> Reloaded:
        """Put the configuration of now in force. Raises Rejected (400, 503)."""
        return await self._reload()

    async def show_tails(self, _: AskTails) -> ShownTails:
        """Return everything there is to see of tailed files."""
        losses = [show_loss(loss) for loss in await self._queue.checkpoints.losses()]
        return ShownTails(self._tails.shown(), self._tails.files(), losses)

    async def move_tail(self, asked: MoveTail) -> Files:
        """Read files anew, or skip what is there. Raises Rejected (404), or Unavailable."""
        return Files(await self._tails.command(asked.tail, asked.action, asked.path))

    async def put_back(self, asked: DeadRound) -> Moved:
        """Put dead letters back. Raises Unavailable."""
        return await self._queue.commit(PutBack(asked.wanted, asked.after_id, wall_ms(), self._fit))

    async def purge(self, asked: DeadRound) -> Moved:
        """Drop dead letters. Raises Unavailable."""
        return await self._queue.commit(Purge(asked.wanted, asked.after_id))

    async def see_dead(self, asked: SeenDead) -> SeenDead:
        """Note that dead letters were seen. Raises Unavailable."""
        await self._queue.commit(SeeDead(asked.through_id))
        return asked

    async def replay(self, asked: ReplayRound) -> Moved:
        """Replay kept deliveries. Raises Rejected (409) while another replay goes somewhere else, or Unavailable."""
        moved = await self._queue.commit(Replay(asked.wanted, asked.proxy, asked.after_id, wall_ms()))
        if moved.elsewhere is not None:
            raise Rejected(
                409,
                f"a replay to {moved.elsewhere} is under way; wait until it has ended, or `sidecar replay --cancel`",
            )
        return moved

    async def cancel_replay(self, _: Cancel) -> Moved:
        """Drop what waits to be replayed. Raises Unavailable."""
        return await self._queue.commit(CancelReplay())

    def _fit(self, key: StreamKey, event: bytes) -> bytes | None:
        try:
            return self._router.fit(key, event, now_ms=wall_ms())
        except Rejected:
            return None

    def find(self, name: str) -> list[QueueStream]:
        """Return the streams that go by this name or data_id. Raises Rejected (404)."""
        names = {stream: self._router.name(stream.key) for stream in self._queue.streams()}
        found = [stream for stream, called in names.items() if name in (called, str(stream.key.data_id))]
        if not found:
            known = ", ".join(dict.fromkeys(names.values())) or "none"
            raise Rejected(404, f"no stream is called {name[:80]}; there are: {known}")
        return found


def _route(path: str, kind: type[T], act: Callable[[T], Awaitable[Any]]) -> Route:
    async def answer(request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await _body(request), type=kind)
            return _json(await act(asked))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _json({"error": str(error)}, 400)
        except Rejected as refused:
            return _json({"error": refused.why.message}, refused.why.status)
        except Unavailable as unavailable:
            return _json({"error": unavailable.message}, 503)

    return Route(path, answer, methods=["POST"])


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY_MAX_BYTES:
            raise Rejected(413, f"more than {_BODY_MAX_BYTES} bytes")
    return body


def _json(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")
