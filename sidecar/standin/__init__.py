"""A stand-in for the cloud-area proxy, to try things with and to test against: `sidecar proxy`.

Written from the proxy's documented rules alone, and on purpose without the sidecar's own validation, so that the two
can be held against each other. `judge.py` and `faults.py` are pure; `server.py` is the shell.
"""

from sidecar.standin.behind import Behind
from sidecar.standin.faults import Faults, parse_fault
from sidecar.standin.judge import PipeRules
from sidecar.standin.server import MERGE_S, StandIn
from sidecar.standin.tls import server_context

__all__ = ["MERGE_S", "Behind", "Faults", "PipeRules", "StandIn", "parse_fault", "server_context"]
