"""`python -m tests.support.census SOCKET run ...`: the sidecar's own command line, with a census of its memory.

Whoever connects to SOCKET is told what the process holds, as one JSON object: objects that the collector knows, before
and after it has looked for circles, descriptors, threads, and the most frequent types.
"""

import gc
import json
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from sidecar.cli import main

_COMMON_TYPES = 12


def census() -> dict[str, Any]:
    before = len(gc.get_objects())
    gc.collect()
    objects = gc.get_objects()
    types = Counter(type(each).__qualname__ for each in objects).most_common(_COMMON_TYPES)
    return {
        "before": before,
        "objects": len(objects),
        "types": dict(types),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
    }


def _answer(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(json.dumps(census()).encode())


def ask(path: Path, pid: int) -> dict[str, Any]:
    """The census of the process `pid` that listens at `path`, with its resident memory in KiB."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return json.loads(answer) | {"rss_kib": rss}


if __name__ == "__main__":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv.pop(1))
    listener.listen()
    threading.Thread(target=_answer, args=(listener,), name="census", daemon=True).start()
    main()
