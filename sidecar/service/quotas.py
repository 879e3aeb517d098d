"""The quotas: what each access token and each data_id may send, and what of that the queue remembers.

The rate belongs to the token and the bytes to the data_id, whichever stream or lane spends them. What they have spent
is written down before a request leaves, and read at the start: neither a crash nor a reload gives anything back.
"""

import random
from collections.abc import Collection

import msgspec

from sidecar.config import Proxy
from sidecar.core.model import StreamKey
from sidecar.core.units import Rate
from sidecar.forward import ByteLimiter, BytesSnapshot, LaneQuota, Limiter, Snapshot, WindowQuota, token_digest
from sidecar.host.clock import boot_clock, boot_id
from sidecar.queue import ForgetQuotas, Queue, QueueLane, SaveQuotas

_USUAL_RATE = Rate(1000, 60.0)
_LESS_URGENT_SHARE = 0.25
"""The part of the rate for each lane with events that were sent before, so that they do not delay new events."""


class Quotas:
    """All quotas, by the name under which the queue keeps them. On the event loop."""

    def __init__(self, settings: Proxy, queue: Queue) -> None:
        self._settings, self._queue = settings, queue
        self._tokens: dict[str, LaneQuota] = {}  # of each token, without what belongs to one lane
        self._data_ids: dict[int, ByteLimiter] = {}  # the bytes of each data_id
        self._remembered: dict[str, tuple[str, bytes]] = {}  # the boot it was measured in, and the state, until used
        self._written: dict[str, bytes] = {}  # what is on disk of each, as far as this run wrote it
        self._boot_id = boot_id()

    async def load(self) -> None:
        """Read what was spent before the start. Raises sqlite3.Error."""
        self._remembered = await self._queue.quotas()

    def reload(self, settings: Proxy) -> None:
        """Go on with other limits, and with what was spent: of the rates, which are made anew, and of the bytes."""
        for digest, quota in self._tokens.items():
            self._remembered[digest] = (self._boot_id, msgspec.json.encode(quota.limiter.snapshot()))
        self._tokens.clear()
        self._settings = settings
        for byte_limiter in self._data_ids.values():
            byte_limiter.change(self._bytes_per_s, boot_clock())

    def of(self, lane: QueueLane, key: StreamKey) -> LaneQuota:
        """Return what `lane` may send as `key`."""
        rate, byte_rate = self._settings.rate, self._settings.bytes_per_data_id
        quota = msgspec.structs.replace(self._of_token(key), byte_limiter=self._byte_limiter(key.data_id), lane=lane.id)
        if lane.name not in ("retry", "replay"):
            return quota
        if rate is not None:
            share = WindowQuota(int(rate.count * _LESS_URGENT_SHARE), rate.window_s)
            quota = msgspec.structs.replace(quota, share=share)
        if byte_rate is not None:
            part = ByteLimiter(byte_rate.bytes_per_s * _LESS_URGENT_SHARE)
            quota = msgspec.structs.replace(quota, byte_share=part)
        return quota

    def leaves_in_s(self, key: StreamKey) -> float:
        """Return the seconds until the rate of the token of `key` allows a request; from any thread."""
        quota = self._tokens.get(token_digest(key))
        return 0.0 if quota is None else quota.requests_wait_s(boot_clock())

    async def save(self, key: StreamKey, token: bytes, data_id: bytes) -> None:
        """Write down what was spent by the token and the data_id of `key`, if that is not on disk. Raises Unavailable.

        After a failed commit both are written again, even if they have not changed: nothing is sent before a commit
        succeeds, since its acknowledgement could not be written.
        """
        states = {token_digest(key): token, _name(key.data_id): data_id}
        changed = {name: state for name, state in states.items() if self._written.get(name) != state}
        if self._queue.broken:
            changed = states
        if changed:
            await self._queue.commit(SaveQuotas(changed, self._boot_id))
            self._written.update(changed)

    async def forget(self, gone: Collection[StreamKey], left: Collection[StreamKey]) -> None:
        """Let go of the quotas of `gone` that none of the streams that are `left` uses. Raises Unavailable."""
        digests = {token_digest(key) for key in gone} - {token_digest(key) for key in left}
        data_ids = {key.data_id for key in gone} - {key.data_id for key in left}
        for digest in digests:
            self._tokens.pop(digest, None)
        for data_id in data_ids:
            self._data_ids.pop(data_id, None)
        names = [*digests, *map(_name, data_ids)]
        for name in names:
            self._remembered.pop(name, None)
            self._written.pop(name, None)
        await self._queue.commit(ForgetQuotas(names))

    def _of_token(self, key: StreamKey) -> LaneQuota:
        digest = token_digest(key)
        quota = self._tokens.get(digest)
        if quota is None:
            rate = self._settings.rate
            limiter = Limiter(rate, random=random.random)
            if digest in self._remembered:
                state, same_boot = self._remember(digest)
                limiter.restore(msgspec.json.decode(state, type=Snapshot), boot_clock(), same_boot=same_boot)
            search, refusals = _isolation(rate or _USUAL_RATE, self._settings.isolation)
            byte_limiter = self._byte_limiter(key.data_id)
            quota = LaneQuota(limiter=limiter, byte_limiter=byte_limiter, search=search, refusals=refusals)
            self._tokens[digest] = quota
        return quota

    def _byte_limiter(self, data_id: int) -> ByteLimiter:
        limiter = self._data_ids.get(data_id)
        if limiter is None:
            limiter = self._data_ids[data_id] = ByteLimiter(self._bytes_per_s)
            if _name(data_id) in self._remembered:
                state, same_boot = self._remember(_name(data_id))
                known = msgspec.json.decode(state, type=BytesSnapshot)
                limiter.restore(known, boot_clock(), same_boot=same_boot)
        return limiter

    def _remember(self, name: str) -> tuple[bytes, bool]:
        """Return what was known of a quota, and whether it was written in this boot."""
        boot, state = self._remembered[name]
        # CLOCK_BOOTTIME begins at zero with each boot: a time from another boot cannot be compared.
        return state, bool(boot) and boot == self._boot_id

    @property
    def _bytes_per_s(self) -> float | None:
        configured = self._settings.bytes_per_data_id
        return configured.bytes_per_s if configured else None


def _name(data_id: int) -> str:
    """Return the name of a data_id's quota; a token's is its digest."""
    return f"data_id {data_id}"


def _isolation(rate: Rate, share: float) -> tuple[WindowQuota, WindowQuota]:
    """Split `share` of the rate: three quarters for the search, the rest evenly spaced for fresh batches beside it."""
    # At least one request for each of the two parts, however small the rate is: else a search would never move.
    total = max(2, int(rate.count * share))
    search = max(1, total * 3 // 4)
    return WindowQuota(search, rate.window_s), WindowQuota(1, rate.window_s / (total - search))
