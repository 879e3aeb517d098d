"""What a lane may send: the rate of its token, and of that what may go into one purpose. Pure."""

import msgspec

from sidecar.forward.allowance import Allowance
from sidecar.forward.limiter import Limiter


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """`limiter`: all that the token may. `search`: what may go into finding bad events; `refusals`: fresh batches that
    may be refused beside that, in a flood of them; `share`: what a lane that is less urgent may take."""

    limiter: Limiter
    search: Allowance
    refusals: Allowance
    share: Allowance | None = None

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may leave; 0: now."""
        share_s = self.share.wait_s(now_s) if self.share else 0.0
        return max(share_s, self.limiter.wait_s(now_s))

    def spend(self, now_s: float) -> None:
        """Counts a request that leaves now."""
        self.limiter.spend(now_s)
        if self.share:
            self.share.charge(now_s)

    def snapshot(self) -> bytes:
        """What is to be remembered of the token."""
        return msgspec.json.encode(self.limiter.snapshot())
