"""From the queue to the proxy: what to send, when, where, and what the answer means.

`forwarder.py` is the loop for one stream; the decisions (`batch`, `limiter`, `backoff`, `endpoints`, `outcome`) are
pure, and `client.py` is the only module that knows httpx.
"""

from sidecar.forward.client import Client
from sidecar.forward.endpoints import Endpoints
from sidecar.forward.forwarder import Forwarder, Settings, token_digest
from sidecar.forward.limiter import Limiter

__all__ = ["Client", "Endpoints", "Forwarder", "Limiter", "Settings", "token_digest"]
