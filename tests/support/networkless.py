"""Runs `sidecar` on a host whose address is what the file NETWORK_FILE holds, and that has none without it."""

import os
from pathlib import Path

import sidecar.config.load
import sidecar.host.own_address
import sidecar.service.app
from sidecar.cli import main


def address() -> str | None:
    file = Path(os.environ["NETWORK_FILE"])
    return file.read_text() if file.exists() else None


if __name__ == "__main__":
    sidecar.service.app.host_address = sidecar.config.load.host_address = address  # type: ignore[attr-defined]
    sidecar.host.own_address._PATIENCE_S = float(os.environ["NETWORK_PATIENCE_S"])
    main()
