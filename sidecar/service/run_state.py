"""Holds what is known of this run of the sidecar, beside what its parts say of themselves."""

import os

import msgspec

from sidecar.config import Config
from sidecar.host.clock import boot_clock
from sidecar.host.own_address import OwnAddress
from sidecar.inputs import InputCounts
from sidecar.inputs.socket import Sockets
from sidecar.inputs.tail import Tails
from sidecar.service.control_socket import ControlSocket
from sidecar.service.paths import CONTROL_SOCKET
from sidecar.status.document import InputStatus


class ConfigState(msgspec.Struct, frozen=True):
    """The configuration in force: loaded at `loaded_s` on the boot clock; `error`: why a later one is not in force."""

    generation: int
    loaded_s: float
    error: str | None


class RunState:
    """Hold what is known of this run. `app.py` writes it, and the status reads it; both on the event loop."""

    def __init__(self, config: Config, address: OwnAddress) -> None:
        self.pid = os.getpid()
        self.started_s = boot_clock()
        self.starting = True  # until the tails have seen their files
        self.stopping = False  # a stop has begun
        self.config = config  # the one in force
        self.config_state = ConfigState(generation=1, loaded_s=self.started_s, error=None)
        self.http_counts = InputCounts("http", "http")
        self.control: ControlSocket | None = None  # this and the next two: None until they are opened
        self.sockets: Sockets | None = None  # None until they are opened
        self.tails: Tails | None = None  # None until they are started
        self._address = address

    def inputs(self) -> list[InputStatus]:
        """Return how each input stands."""
        sockets = self.sockets.status() if self.sockets is not None else []
        return [self.http_counts.status(), *sockets, *(self.tails.status() if self.tails is not None else [])]

    @property
    def nameless(self) -> str | None:
        """Return by which address events name this host, since its own is not known; None: by its own."""
        return self.config.defaults.ip if self._address.loopback_used and self._address.known is None else None

    @property
    def sockets_lost(self) -> dict[str, str]:
        """Return the sockets that nobody can connect to, with the reason."""
        lost = dict(self.sockets.lost) if self.sockets is not None else {}
        if self.control is not None and self.control.lost is not None:
            lost[CONTROL_SOCKET] = self.control.lost
        return lost

    @property
    def sockets_wait(self) -> str | None:
        """Return why sockets are not read at the moment."""
        return self.sockets.waiting if self.sockets is not None else None
