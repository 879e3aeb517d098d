"""The names of what lies in the state directory and several parts need to find."""

from pathlib import Path

CONTROL_SOCKET = "control.sock"


def control_socket(state: Path) -> Path:
    """Return where a running sidecar listens for its own commands."""
    return state / CONTROL_SOCKET


def queue_file(state: Path) -> Path:
    """Return the file of the queue."""
    return state / "queue.db"
