"""Holds the operations of the writer, each as SQL inside a transaction that somebody else opens and commits.

`append.py` accepts, `forwarding.py` does what the proxy's answers mean, `requeue.py` what is sent once more or at last,
`retention.py` forgets, `damage.py` sets aside what cannot be read, `checkpoints.py` moves the places in tailed files.
Nothing is done twice or by halves.
"""

from sidecar.queue.operations.append import Append, append_all
from sidecar.queue.operations.checkpoints import SaveCheckpoints
from sidecar.queue.operations.damage import SetDamagedAside
from sidecar.queue.operations.forwarding import (
    Acknowledge,
    Bury,
    ForgetQuotas,
    SaveQuotas,
    SetAside,
    Split,
)
from sidecar.queue.operations.requeue import CancelReplay, Defer, Fit, Purge, PutBack, Release, Replay
from sidecar.queue.operations.retention import (
    Expire,
    Forget,
    Ping,
    SeeDead,
    Tidy,
    file_bytes,
    forget_drained,
    forget_kept,
    make_room,
    used_bytes,
)
from sidecar.queue.operations.transaction import Operation, Transaction

__all__ = [
    "Acknowledge",
    "Append",
    "Bury",
    "CancelReplay",
    "Defer",
    "Expire",
    "Fit",
    "Forget",
    "ForgetQuotas",
    "Operation",
    "Ping",
    "Purge",
    "PutBack",
    "Release",
    "Replay",
    "SaveCheckpoints",
    "SaveQuotas",
    "SeeDead",
    "SetAside",
    "SetDamagedAside",
    "Split",
    "Tidy",
    "Transaction",
    "append_all",
    "file_bytes",
    "forget_drained",
    "forget_kept",
    "make_room",
    "used_bytes",
]
