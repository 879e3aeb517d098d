"""The id of this sidecar: random, made at its first start, and kept in its state directory."""

import os
import re
import secrets
from pathlib import Path

_FILE = "id"
_ID = re.compile("[0-9a-f]{16}")


def own_id(state: Path) -> str:
    """Return the id of the sidecar with this state directory, made now if there is none. Raises OSError."""
    path = state / _FILE
    try:
        found = path.read_text("ascii", errors="replace").strip()
    except FileNotFoundError:
        found = ""
    if _ID.fullmatch(found):
        return found
    made = secrets.token_hex(8)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(number, "w") as file:
        file.write(f"{made}\n")
    return made
