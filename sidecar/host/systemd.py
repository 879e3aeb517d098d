"""Speaks sd_notify(3) with the service manager, where there is one. See sd_notify(3) for the wire."""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states such as READY=1; does nothing outside a unit with `Type=notify`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # A child inherits the variables: with another process' number they are not meant for this one.
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "") if mine else ""
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() and int(usec) else None
        """How long the service manager waits for a sign of life; None: it does not wait."""

    def tell(self, *states: str) -> None:
        """Tell the service manager; one that does not listen is not our trouble."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto("\n".join(states).encode(), self._address)
        except OSError:
            return
