"""The drop-in for the proxy's own endpoint, and the pages for people and scrapers beside it.

`bounded.py` bounds what a connection may cost, `protocol.py` short-cuts the push route inside uvicorn; every other
route is the Starlette application of `routes.py`.
"""

from sidecar.inputs.http.bounded import bounded_protocol
from sidecar.inputs.http.guard import Guard
from sidecar.inputs.http.protocol import intake_protocol
from sidecar.inputs.http.push import Shared
from sidecar.inputs.http.routes import SEEN_PATH, Views, make_app

__all__ = [
    "SEEN_PATH",
    "Guard",
    "Shared",
    "Views",
    "bounded_protocol",
    "intake_protocol",
    "make_app",
]
