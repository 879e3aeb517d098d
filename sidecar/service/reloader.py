"""The configuration in force: loaded again when it is told to, and followed where this host's address changes.

    load ── wrong? ──> refused: nothing changes, and log and status say why
      │ good
      ├─ what needs a restart stays as it is
      └─ every part is told; the forwarders last, since they wait for their requests ── they do not end? ──> all back

Invariant: after a reload all parts know the same configuration, the new one or the old one.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator

import msgspec
import structlog

from sidecar.config import Config, Loaded, merge_reloadable
from sidecar.core.errors import ConfigError, Rejected
from sidecar.host import log
from sidecar.host.clock import boot_clock
from sidecar.host.own_address import OwnAddress
from sidecar.inputs.socket import configuration
from sidecar.inputs.tail import make_event_builders
from sidecar.service.control_messages import Reloaded
from sidecar.service.forwarders import Forwarders
from sidecar.service.run_state import ConfigState, RunState

_EXAMPLES = ("192.0.2.1", "192.0.2.2")
"""Addresses that nobody has; what differs between them names this host's address."""
logger = structlog.get_logger("sidecar")


class Reloader:
    """Changes the configuration in force, which is `run.config`. On the event loop."""

    def __init__(self, load: Callable[[], Loaded], loaded: Loaded, run: RunState, address: OwnAddress) -> None:
        """Change nothing yet.

        `load` reads the configuration; `loaded` is what it gave at the start. It raises ConfigError.
        """
        self.parts: list[Callable[[Config], None]] = []  # what is told of another configuration, in this order
        self.forwarders: Forwarders | None = None  # None until they are made
        self.loaded = loaded  # what the configuration in force was made of
        self._load, self._run, self._address = load, run, address
        self._naming: frozenset[str] | None = None  # the tails whose events name the address; None: not looked at yet
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Reloaded:
        """Put the configuration of now in force, but for what needs a restart. Raises Rejected with what is wrong."""
        async with self._one_at_a_time:
            try:
                loaded = self._load()
                # A reload must not skip the time for which a new address has to be stable (host/own_address.py).
                address = self._address.known or loaded.address
                wanted = loaded.with_address(address) if loaded.with_address and address else loaded.config
                config, at_restart = merge_reloadable(self._run.config, wanted)
            except ConfigError as error:
                self._note_config(error=str(error))
                raise Rejected(400, str(error)) from None
            before, self.loaded, self._naming = self.loaded, loaded, None
            if not await self._put_in_force(config):
                self.loaded, self._naming = before, None
                self._note_config(error="requests under way did not end")
                raise Rejected(503, "requests under way did not end in time; try again")
            self._address.took(address)
            self._note_config(error=None)
        logger.info(
            "configuration reloaded", generation=self._run.config_state.generation, at_restart=",".join(at_restart)
        )
        return Reloaded(self._run.config_state.generation, at_restart)

    async def _put_in_force(self, config: Config) -> bool:
        assert self.forwarders is not None
        # First: a part may log with a new token as soon as it knows it.
        log.mask(secrets_of(config))
        for reload in self.parts:
            reload(config)
        done = await self.forwarders.reload(config)
        if done:
            if self._run.tails is not None and _tails_differ(self._run.config, config):
                await self._run.tails.reload(config.tails, make_event_builders(config))
            self._run.config = config
        else:
            for reload in self.parts:
                reload(self._run.config)
        return done

    def expect_address(self, tail: str) -> None:
        """Expect the address, if events of `tail` name it. Raises Unavailable while it is not known yet."""
        if self._address.known is None:
            naming = self._naming
            if naming is None:
                naming = self._naming = _naming_address(self.loaded)
            if tail in naming:
                self._address.expect()

    async def look_for_address(self) -> None:
        """Let all that names this host go by its new address."""
        if self.loaded.with_address is None or self._address.another() is None:
            return
        async with self._one_at_a_time:
            # Asked again under the lock: a reload may have run while this waited for it.
            found, with_address = self._address.another(), self.loaded.with_address
            if found is None or with_address is None or self._run.stopping:
                return
            config = _named_anew(self._run.config, with_address(found))
            logger.info("address of this host changed", address=found, was=self._address.known or "none")
            for reload in self.parts:
                reload(config)
            if self._run.sockets is not None:
                self._run.sockets.configuration = agent_configuration(config)
            if self._run.tails is not None and _tails_differ(self._run.config, config):
                await self._run.tails.reload(config.tails, make_event_builders(config))
            self._run.config = config
            self._address.took(found)

    def _note_config(self, *, error: str | None) -> None:
        now = self._run.config_state
        if error is not None:
            logger.error("reload failed, the old configuration stays in force", error=error)
            self._run.config_state = ConfigState(now.generation, now.loaded_s, error)
        else:
            self._run.config_state = ConfigState(now.generation + 1, boot_clock(), None)


def _naming_address(loaded: Loaded) -> frozenset[str]:
    """Return the tails whose events name this host's address: what differs if that is another one."""
    if loaded.with_address is None:
        return frozenset()
    one, other = (loaded.with_address(address) for address in _EXAMPLES)
    by_default = one.defaults.own_target != other.defaults.own_target
    return frozenset(
        name
        for name, tail in one.tails.items()
        if (by_default and tail.event.target is None) or tail != other.tails[name]
    )


def _named_anew(config: Config, named: Config) -> Config:
    """Return `config`, with what `named`, from the same files, says where an address may stand, and nothing else."""
    streams = {
        name: msgspec.structs.replace(stream, raw=named.streams[name].raw if name in named.streams else stream.raw)
        for name, stream in config.streams.items()
    }
    return msgspec.structs.replace(config, defaults=named.defaults, tails=named.tails, streams=streams)


def agent_configuration(config: Config) -> bytes:
    """Return what clients of the agent's socket are told about this host."""
    defaults = config.defaults
    return configuration(
        ip=defaults.ip,
        cloud_id=defaults.cloud_id,
        biz_id=defaults.biz_id,
        hostname=socket.gethostname(),
        agent_id=defaults.agent_id,
    )


def _tails_differ(old: Config, new: Config) -> bool:
    return (old.tails, old.defaults, old.queue.max_age) != (new.tails, new.defaults, new.queue.max_age)


def secrets_of(config: Config) -> Iterator[str]:
    """Return what no line of the log may show."""
    yield from (stream.access_token for stream in config.streams.values())
    yield from config.http.tokens
    for entry in config.sockets.values():
        yield from entry.tokens
