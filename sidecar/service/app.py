"""The sidecar, wired once, in the order in which an event travels through it.

    lock ─ queue ─ router ─ schedule ─ forwarders ─ maintenance ─ intake
         ─ control ─ sockets ─ http ─ tails ─ ready

It starts in that order and stops in reverse; both may be called twice, and stopping is bounded by a deadline.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from sidecar import __version__
from sidecar.config import Address, Config, Loaded, host_address
from sidecar.core.errors import StartError, in_words
from sidecar.core.hops import Hops
from sidecar.core.model import Capacity
from sidecar.host import log
from sidecar.host.clock import boot_clock
from sidecar.host.http_server import HttpServer
from sidecar.host.listeners import listen_tcp
from sidecar.host.own_address import OwnAddress
from sidecar.host.process import keep_freed_memory, raise_file_limit, spare_the_collector
from sidecar.host.scheduler import Schedule
from sidecar.host.systemd import Notifier
from sidecar.inputs.http import Guard, Shared, bounded_protocol, intake_protocol, make_app
from sidecar.inputs.socket import Sockets
from sidecar.inputs.tail import Tails, make_event_builders
from sidecar.intake import Intake, Router
from sidecar.queue import Queue
from sidecar.service.control_api import ControlApi
from sidecar.service.control_socket import ControlSocket
from sidecar.service.forwarders import Forwarders
from sidecar.service.instance import own_id
from sidecar.service.maintenance import Maintenance
from sidecar.service.paths import control_socket, queue_file
from sidecar.service.reloader import Reloader, agent_configuration, secrets_of
from sidecar.service.run_state import RunState
from sidecar.service.state_lock import StateLock
from sidecar.service.status_collector import StatusCollector

_STOP_S = 10.0
_ADDRESS_EVERY_S = 1.0
_SOCKETS_EVERY_S = 1.0
_FEW_CONNECTIONS = 256
"""The most connections to a listener that only shows the status."""
logger = structlog.get_logger("sidecar")


class Sidecar:
    """One running sidecar."""

    def __init__(self, load: Callable[[], Loaded], environ: Mapping[str, str]) -> None:
        """Start nothing yet.

        `load` reads the configuration, now and whenever it is to be reloaded. Raises ConfigError.
        """
        loaded = load()
        self.listens_on: Address = loaded.config.http.listen
        address = OwnAddress(loaded.address, host_address, boot_clock)
        self._run = RunState(loaded.config, address)
        self.reloader = Reloader(load, loaded, self._run, address)
        self._notifier = Notifier(environ)
        self._running = contextlib.AsyncExitStack()  # what a stop undoes, the last first

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self._run.config

    @property
    def is_running(self) -> bool:
        """Return True once it has started, until it stops."""
        return not (self._run.starting or self._run.stopping)

    async def start(self) -> None:
        """Start all parts. Raises StartError, after undoing what was done."""
        async with contextlib.AsyncExitStack() as undo:
            await self._start(undo)
            self._running = undo.pop_all()

    async def stop(self) -> None:
        """Stop accepting, commit what is in hand, end the requests under way, close."""
        if self._run.stopping:
            return
        self._run.stopping = True
        self._notifier.tell("STOPPING=1")
        logger.info("stopping")
        try:
            await self._running.aclose()
        except TimeoutError as error:
            logger.error("stop timed out; acknowledged events are on disk", error=str(error))
        logger.info("stopped", after_s=round(boot_clock() - self._run.started_s, 1))

    async def _start(self, undo: contextlib.AsyncExitStack) -> None:
        config = self.config
        # First: the sockets derive their limit of connections from it.
        raise_file_limit()
        keep_freed_memory()
        # Before any other part is made: each part may log, and a line must never show a token.
        log.mask(secrets_of(config))
        # Before the queue is opened: a second sidecar would be a second writer to queue.db.
        undo.callback(StateLock(config.state).acquire().release)
        hops = Hops(_own_id(config.state))

        queue = Queue(
            queue_file(config.state),
            durability=config.queue.durability,
            chunk_bytes=config.proxy.block_bytes,
            capacity=Capacity(config.queue.max_size, "max_size"),
            drop_oldest=config.queue.when_full == "drop_oldest",
        )
        queue.open()
        # A stop runs in reverse, so the queue closes after the inputs, and can still commit what they hold.
        undo.push_async_callback(queue.close, _STOP_S)

        router = Router(config)
        _prepare(queue, router)
        schedule = Schedule()
        forwarders = Forwarders(config, router, queue, schedule, hops)
        undo.push_async_callback(forwarders.close)
        schedule.start()
        undo.push_async_callback(self._stop_forwarding, schedule, forwarders)
        maintenance = Maintenance(config, router, queue, forwarders, self._notifier)
        # Before anything is accepted: until this look the capacity does not know how much disk is left.
        maintenance.look_at_disk()
        maintenance.start(schedule)
        undo.callback(maintenance.stop)
        await forwarders.start()

        intake = Intake(
            router,
            queue,
            config.queue,
            block_bytes=config.proxy.block_bytes,
            event_bytes=config.proxy.event_bytes,
            clock=time.time,
            boot_clock=boot_clock,
            skew_s=lambda: forwarders.skew_s,
            hops=hops,
            remote_tokens=config.http.tokens,
        )
        maintenance.on_forgotten = intake.forget
        views = StatusCollector(router, queue, forwarders, maintenance, intake, self._run)
        self.reloader.forwarders = forwarders
        self.reloader.parts = [
            router.reload,
            maintenance.reload,
            lambda _: intake.reload(),
            lambda _: _prepare(queue, router),
        ]
        self._run.tails = tails = Tails(
            intake,
            queue.checkpoints,
            host=socket.gethostname(),
            skew_ms=lambda: int(forwarders.skew_s * 1000),
            expect=self.reloader.expect_address,
            leaves_in_s=forwarders.leaves_in_s,
        )
        control = ControlApi(router, queue, forwarders, tails, self.reloader.reload)
        await self._open_control(views, control, schedule, undo)
        await self._open_sockets(intake, schedule, undo)
        await self._open_http(intake, views, control, hops, undo)
        undo.push_async_callback(tails.stop)
        undo.callback(intake.stop)
        schedule.add_every("address", _ADDRESS_EVERY_S, self.reloader.look_for_address)
        await tails.start(config.tails, make_event_builders(config))
        # Ready means: what is written to a tailed file from now on is read from its beginning. So the tails come first.
        self._run.starting = False

        # Last, because gc.freeze() only covers objects that exist at this moment.
        spare_the_collector()
        self._log_start(queue, hops)
        self._notifier.tell("READY=1", f"STATUS=listening on http://{self.listens_on}")

    async def _open_control(
        self, views: StatusCollector, control: ControlApi, schedule: Schedule, undo: contextlib.AsyncExitStack
    ) -> None:
        path = control_socket(self.config.state)
        self._run.control = opened = ControlSocket(path, make_app(views, None, control.routes()))
        undo.push_async_callback(opened.stop)
        await opened.start()
        schedule.add_every("control", _SOCKETS_EVERY_S, opened.look)

    async def _open_sockets(self, intake: Intake, schedule: Schedule, undo: contextlib.AsyncExitStack) -> None:
        self._run.sockets = sockets = Sockets(self.config.sockets, intake, agent_configuration(self.config))
        undo.push_async_callback(sockets.stop)
        await sockets.start()
        schedule.add_every("sockets", _SOCKETS_EVERY_S, sockets.look)

    async def _open_http(
        self, intake: Intake, views: StatusCollector, control: ControlApi, hops: Hops, undo: contextlib.AsyncExitStack
    ) -> None:
        settings = self.config.http
        guard = Guard(settings.listen.host, settings.allowed_hosts)
        shared = Shared(
            intake.accept,
            intake.accept_large,
            guard,
            self._run.http_counts,
            hops,
            max_body_bytes=settings.max_body,
            max_connections=settings.max_connections,
        )
        listener = listen_tcp(settings.listen.host, settings.listen.port, "http.listen")
        self.listens_on = Address(*listener.getsockname()[:2])  # the port that was found, where 0 was asked for
        http = HttpServer(make_app(views, guard, control.page_routes()), listener, intake_protocol(shared))
        await http.start()
        undo.push_async_callback(http.stop)
        if settings.status_listen is not None:
            await self._open_status(settings.status_listen, views, undo)

    async def _open_status(self, listen: Address, views: StatusCollector, undo: contextlib.AsyncExitStack) -> None:
        """Show the status, and nothing else, to whoever can reach that address."""
        guard = Guard(listen.host, self.config.http.allowed_hosts)
        listener = listen_tcp(listen.host, listen.port, "http.status_listen")
        logger.info("status listener open", on=f"http://{Address(*listener.getsockname()[:2])}")
        http = HttpServer(make_app(views, guard, to_other_hosts=True), listener, bounded_protocol(_FEW_CONNECTIONS))
        await http.start()
        undo.push_async_callback(http.stop)

    async def _stop_forwarding(self, schedule: Schedule, forwarders: Forwarders) -> None:
        """Let the requests under way end, for a while; what they carry stays in the queue until the proxy has it."""
        forwarders.stop()
        await schedule.drain(_STOP_S)
        schedule.stop()
        # The cancelled jobs need one turn of the loop to end, before their connections are closed.
        await asyncio.sleep(0)

    def _log_start(self, queue: Queue, hops: Hops) -> None:
        books = queue.books()
        logger.info(
            "ready",
            version=__version__,
            id=hops.short,
            listen=f"http://{self.listens_on}",
            state=str(self.config.state),
            proxies=",".join(self.config.proxy.urls),
            config=",".join(map(str, self.reloader.loaded.files)) or "none",
            queued=books.queued,
        )
        if not books.balanced:
            logger.error("books do not balance; please report this bug", books=str(books))


def _own_id(state: Path) -> str:
    try:
        return own_id(state)
    except OSError as error:
        raise StartError(f"state directory {state}: {in_words(error)}") from None


def _prepare(queue: Queue, router: Router) -> None:
    for key in router.configured_keys():
        queue.stream(key, configured=True)
