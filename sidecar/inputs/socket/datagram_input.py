"""A socket for datagrams: each holds whole lines, and gets no answer. What finds no room is dropped, and counted."""

import asyncio
import contextlib
import socket
import sys
from functools import partial

from sidecar.config import Socket
from sidecar.core.errors import Unavailable, in_words
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.backpressure import Backpressure
from sidecar.inputs.socket.line_framer import each_line, without_blank_lines
from sidecar.inputs.socket.listener import Opened, bound_to, open_listener
from sidecar.inputs.socket.log_throttle import LogThrottle
from sidecar.inputs.socket.peer_credentials import Allowed, close_passed_files, sender_of
from sidecar.inputs.socket.sessions import PrepareLines
from sidecar.intake import Prepared

_AT_ONCE = 256
_AT_ONCE_BYTES = 250_000
"""Bytes that are read at once: so few that even the smallest queue will not refuse them as too large for ever."""
_SETTLE_S = 1.0
"""Seconds for reading datagrams that have arrived, when the sidecar stops."""
_ANCILLARY_BYTES = 256
_SO_RXQ_OVFL = 40  # not in Python's socket module: how many datagrams the kernel had no room for
_NO_ROOM_IN_MEMORY = "the disk is slower than the input"
_KERNEL_FULL = "the socket's buffer was full"
_STORAGE = "storage"


class DatagramInput:
    """Read one datagram socket of the configuration. Event loop only."""

    def __init__(
        self, counts: InputCounts, settings: Socket, backpressure: Backpressure, *, prepare_lines: PrepareLines
    ) -> None:
        self.counts = counts
        self._settings, self._backpressure, self._check = settings, backpressure, prepare_lines
        self._allowed = Allowed.of(settings)
        self._loop = asyncio.get_running_loop()
        self._throttle = LogThrottle(counts.name, self._loop)
        self._buffer = bytearray(settings.max_line + 1)  # one more, so that a longer datagram shows
        self._lost_in_kernel = 0  # datagrams, as the kernel counted them last
        self._opened: Opened | None = None  # None: not started, or stopped

    def lost_file(self) -> str | None:
        """Return what has become of the socket's file; None: it is there."""
        return None if self._opened is None else self._opened.lost_file()

    async def start(self) -> str:
        """Listen; return where. Once more, if the file was lost: what came before is read. Raises StartError."""
        opened = open_listener(self._settings, self.counts.name)
        if self._opened is not None:
            self._loop.remove_reader(self._opened.listener.fileno())
            # Datagrams stay in the socket that received them; after its close they would be lost.
            while self._read(self._opened.listener):
                pass
            self._opened.listener.close()
        self._opened = opened
        listener = opened.listener
        if not self._allowed.everybody:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._loop.add_reader(listener.fileno(), self._read, listener)
        return bound_to(self._settings.listen, listener)

    async def stop(self) -> int:
        """Read what has arrived, and nothing more; what is in flight will still be committed."""
        if self._opened is not None:
            listener = self._opened.listener
            self._opened.remove_file()
            self._loop.remove_reader(listener.fileno())
            with contextlib.suppress(OSError):  # UDP has nobody to tell
                listener.shutdown(socket.SHUT_RD)
            give_up_s = self._loop.time() + _SETTLE_S
            while self._read(listener) and self._loop.time() < give_up_s:  # noqa: ASYNC110
                await asyncio.sleep(0)
            listener.close()
            self._opened = None
        return 0

    def _read(self, listener: socket.socket) -> bool:
        """Take some of what has arrived, and say whether it was anything; the event loop calls while there is more."""
        lines: list[bytes] = []
        size = 0
        while len(lines) < _AT_ONCE and size < _AT_ONCE_BYTES:
            datagram = self._receive(listener)
            if datagram is None:
                break
            lines.append(datagram)
            size += len(datagram)
        block = b"".join(lines)
        if block:
            self._submit(block)
        return bool(block)

    def _receive(self, listener: socket.socket) -> bytes | None:
        """Return the lines of the next datagram, none if it is refused; None if there is no datagram."""
        try:
            size, ancillary, flags, _ = listener.recvmsg_into([self._buffer], _ANCILLARY_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            self._refuse("datagram cannot be read", reason=in_words(error))
            return None
        close_passed_files(ancillary)
        self._count_lost(ancillary)
        if not self._allowed.everybody:
            sender = sender_of(ancillary, with_groups=bool(self._allowed.groups))
            if sender is None or not self._allowed.allows(sender):
                self._refuse("datagram refused: not in allow_users or allow_groups",
                             pid=sender.pid if sender else 0, uid=sender.uid if sender else -1)  # fmt: skip
                return b""
        if flags & socket.MSG_TRUNC or size > self._settings.max_line:
            self._refuse("datagram refused: longer than max_line")
            return b""
        datagram = bytes(memoryview(self._buffer)[:size])
        return without_blank_lines(datagram + b"\n") if size else b""

    def _submit(self, block: bytes) -> None:
        try:
            if self._backpressure.full:
                raise Unavailable(_NO_ROOM_IN_MEMORY, retry_after_s=1)
            checked = self._check(block)
        except Unavailable as why:
            self._drop(why.message, block.count(b"\n"))
            return
        except Exception as error:  # one line that nobody thought of must not cost those of others
            self._submit_each(each_line(block), error)
            return
        for _, rejected in checked.rejected:
            self._refuse("line of a datagram refused", reason=rejected.message)
        if checked.prepared is not None:
            self._backpressure.reserve(len(block))
            checked.prepared.submit(partial(self._settled, checked.prepared, len(block)))

    def _submit_each(self, lines: list[bytes], error: Exception) -> None:
        if len(lines) > 1:
            for line in lines:
                self._submit(line)
        else:
            self._refuse("unexpected error in a line of a datagram; please report this bug", error=repr(error)[:200])

    def _settled(self, prepared: Prepared, size: int, error: Exception | None) -> None:
        self._backpressure.reserve(-size)
        if error is not None:
            self._drop(_STORAGE, prepared.lines)
            return
        self.counts.took(prepared.events, prepared.bytes, prepared.repaired)

    def _count_lost(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL):
                lost = int.from_bytes(data[:4], sys.byteorder)
                if lost != self._lost_in_kernel:
                    # The kernel's counter has 32 bits and wraps around.
                    self._drop(_KERNEL_FULL, (lost - self._lost_in_kernel) % 2**32)
                    self._lost_in_kernel = lost

    def _drop(self, reason: str, lines: int) -> None:
        self.counts.dropped[reason] += lines
        self._throttle.say("datagrams dropped", reason=reason, lines=lines)

    def _refuse(self, what: str, **facts: object) -> None:
        self.counts.rejected += 1
        self._throttle.say(what, **facts)
