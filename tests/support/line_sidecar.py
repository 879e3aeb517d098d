"""A fake sidecar's line socket: it keeps lines in memory and answers them as the real one does, or worse."""

import json
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class _Peer:
    rest: bytes = b""
    seen: int = 0
    acked: int = 0
    lines: list[bytes] = field(default_factory=list)


class LineSidecar:
    """Listens at a path, or at a port of its own where `path` is None.

    `refuses` says which lines; without `acks` it takes lines and says nothing, without `reads` it takes none.
    `hang_up_after`: the first connection ends after so many lines, before the last of them are answered.
    """

    def __init__(
        self,
        path: str | None,
        *,
        refuses: Callable[[bytes], bool] = lambda _: False,
        acks: bool = True,
        reads: bool = True,
        hang_up_after: int | None = None,
    ) -> None:
        self.refuses, self.acks, self.reads, self.hang_up_after = refuses, acks, reads, hang_up_after
        self.connections = 0
        self.kept: list[bytes] = []
        self.port = 0
        self._path = path
        self._peers: dict[socket.socket, _Peer] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-sidecar")

    def __enter__(self) -> Self:
        if self._path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self._path)
            self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def contents(self) -> list[str]:
        """What the kept lines say, each a bare event or a report of one."""
        return [event["event"]["content"] for event in self.events()]

    def events(self) -> list[Any]:
        documents = [json.loads(line) for line in list(self.kept)]
        return [event for document in documents for event in document.get("data", [document])]

    def hang_up(self) -> None:
        """Ends all connections, with nothing unread."""
        for sock in list(self._peers):
            sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in selector.select(0.01):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    else:
                        self._serve(selector, key.fileobj)  # type: ignore[arg-type]
            for sock in [self._listener, *self._peers]:
                sock.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        sock, _ = self._listener.accept()
        self.connections += 1
        self._peers[sock] = _Peer()
        if self.reads:
            selector.register(sock, selectors.EVENT_READ)

    def _serve(self, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        peer = self._peers[sock]
        data = sock.recv(65_536)
        *lines, peer.rest = (peer.rest + data).split(b"\n")
        answers = [answer for line in lines if (answer := self._judge(peer, line))]
        hangs_up = self.connections == 1 and self.hang_up_after is not None and peer.seen >= self.hang_up_after
        if hangs_up or not data:
            selector.unregister(sock)
            sock.close()
            del self._peers[sock]
        elif self.acks and lines:
            sock.sendall(b"".join([*answers, b'{"acked": %d}\n' % peer.acked]))

    def _judge(self, peer: _Peer, line: bytes) -> bytes:
        peer.seen += 1
        if self.refuses(line):
            return (
                b'{"line": %d, "error": "data[0]: not like this", "place": ["data", 0], "problem": "not like this",'
                b' "scope": "event"}\n' % peer.seen
            )
        peer.acked += 1
        self.kept.append(line)
        return b""
