"""A handler for Python's logging, for applications: it needs nothing but the standard library.

What becomes of a line in the sidecar is no business of this part: it only speaks the sidecar's line socket.
"""

from sidecar.client.handler import SidecarHandler
from sidecar.client.link import Counts

__all__ = ["Counts", "SidecarHandler"]
