"""Posts one batch, and waits for its answer as long as that is fair to the streams that wait for the connection."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from sidecar.forward.client import Client
from sidecar.forward.endpoints import Endpoint
from sidecar.forward.fair_queue import Standing
from sidecar.forward.outcome import Failure, Outcome, Reply, is_own, judge, skew_s
from sidecar.forward.source import Settings


class Poster:
    """Post the batches of one lane.

    `headers` returns headers to add to the usual ones. `secret`, the access token, is removed from the proxy's words.
    """

    def __init__(
        self, client: Client, settings: Settings, headers: Callable[[], Mapping[str, str]], *, secret: str
    ) -> None:
        self.standing: Standing = "new"  # how the last request ended
        self._client, self._settings, self._headers, self._secret = client, settings, headers, secret

    async def post(self, endpoint: Endpoint, body: bytes) -> Outcome:
        """Return what became of `body`, and note what its answer says of the proxy: how fast it is, and its clock."""
        sent_s, started_s = self._settings.wall_clock(), self._settings.clock()
        answer = await self._patiently(endpoint, self._client.post(endpoint.url, body, self._headers()))
        if isinstance(answer, Reply):
            self.standing = "proven"
            endpoint.answered(self._settings.clock() - started_s)
        elif answer.hung:
            self.standing = "hung"
        if isinstance(answer, Reply) and is_own(answer):
            learned = skew_s(answer, sent_s, self._settings.wall_clock())
            endpoint.skew_s = endpoint.skew_s if learned is None else learned
        return judge(answer, datetime.now(UTC), secret=self._secret)

    async def _patiently(self, endpoint: Endpoint, post: Awaitable[Reply | Failure]) -> Reply | Failure:
        """Wait for the answer. A stream that was never answered gives up its connection if others wait for it too long.

        How long is too long is learned from the answers to other streams: a slow proxy is not a hanging one.
        """
        patience_s = endpoint.patience_s(self._settings.clock())
        if self.standing != "new" or patience_s is None:
            return await post
        asking = asyncio.ensure_future(post)
        try:
            await asyncio.wait((asking,), timeout=patience_s)
            if not asking.done() and self._client.is_contended(endpoint.url):
                why = f"no answer within {patience_s:.1f} s, while other streams wait to be sent"
                return Failure(why, hung=True, gave_way=True)
            return await asking
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait((asking,))
