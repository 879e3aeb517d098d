"""Forwards from the queue to the proxy: decides what to send, when, where, and what the answer means.

`forwarder.py` is the loop for one lane; the decisions (`batch`, `limiter`, `endpoints`, `bisect`, `outcome`)
are pure, and what is below `client.py` is all that knows httpx.
"""

from sidecar.forward.byte_limiter import ByteLimiter, BytesSnapshot
from sidecar.forward.causes import Causes
from sidecar.forward.client import Client, push_url
from sidecar.forward.endpoints import Endpoint, Endpoints
from sidecar.forward.forwarder import Forwarder
from sidecar.forward.limiter import Limiter, Snapshot
from sidecar.forward.outcome import (
    Busy,
    DataFault,
    Delivered,
    Looped,
    Misrouted,
    ProxyDown,
    RefusedUnknown,
    Reply,
    Throttled,
    TooLarge,
    Unauthorized,
    is_alive,
    judge,
    words_of,
)
from sidecar.forward.quota import LaneQuota, WindowQuota, token_digest
from sidecar.forward.source import Settings

__all__ = [
    "Busy",
    "ByteLimiter",
    "BytesSnapshot",
    "Causes",
    "Client",
    "DataFault",
    "Delivered",
    "Endpoint",
    "Endpoints",
    "Forwarder",
    "LaneQuota",
    "Limiter",
    "Looped",
    "Misrouted",
    "ProxyDown",
    "RefusedUnknown",
    "Reply",
    "Settings",
    "Snapshot",
    "Throttled",
    "TooLarge",
    "Unauthorized",
    "WindowQuota",
    "is_alive",
    "judge",
    "push_url",
    "token_digest",
    "words_of",
]
