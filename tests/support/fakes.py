"""Fakes that behave: the contract suites hold them and the real things to the same tests."""

import contextlib
from collections.abc import AsyncIterator, Callable, Hashable, Mapping

import msgspec

from sidecar.core.model import Chunk
from sidecar.forward.outcome import Failure, Reply

GOOD = Reply(200, {}, b'{"code":"200","message":"success","request_id":"x","result":"true"}')


class Clock:
    """Stands still until moved."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class FakeSource:
    """A lane of the queue in memory, and the lane of suspects beside it."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.aside: list[Chunk] = []
        self.delivered = 0
        self.dead: list[tuple[bytes, str, int, int, int]] = []
        self.spent: list[tuple[bytes, bytes]] = []
        self._next_seq = 0

    def add(self, body: bytes, events: int = 1) -> None:
        self.chunks.append(Chunk(self._next_seq, body, events))
        self._next_seq += 1

    @property
    def queued(self) -> int:
        return sum(chunk.events for chunk in self.chunks)

    @property
    def queued_bytes(self) -> int:
        return sum(len(chunk.body) for chunk in self.chunks)

    async def read(self, after_seq: int, max_bytes: int) -> list[Chunk]:
        found: list[Chunk] = []
        left = max_bytes
        for chunk in self.chunks:
            if chunk.seq > after_seq:
                if found and len(chunk.body) > left:
                    break
                found.append(chunk)
                left -= len(chunk.body) + 1
        return found

    async def acknowledge(self, through_seq: int) -> None:
        self.delivered += sum(chunk.events for chunk in self.chunks if chunk.seq <= through_seq)
        self.chunks = [chunk for chunk in self.chunks if chunk.seq > through_seq]

    async def split(self, seq: int, events: int) -> None:
        (place,) = [i for i, chunk in enumerate(self.chunks) if chunk.seq == seq]
        items = msgspec.json.decode(b"[%b]" % self.chunks[place].body, type=list[msgspec.Raw])
        front, rest = items[:events], items[events:]
        self.chunks[place : place + 1] = [
            Chunk(seq - 1, b",".join(front), len(front)),
            Chunk(seq, b",".join(rest), len(rest)),
        ]

    async def bury(self, seq: int, *, reason: str, status: int, attempts: int, first_ms: int) -> None:
        (chunk,) = [chunk for chunk in self.chunks if chunk.seq == seq]
        assert chunk.events == 1
        self.dead.append((chunk.body, reason, status, attempts, first_ms))
        self.chunks.remove(chunk)

    async def set_aside(self, through_seq: int) -> None:
        self.aside += [chunk for chunk in self.chunks if chunk.seq <= through_seq]
        self.chunks = [chunk for chunk in self.chunks if chunk.seq > through_seq]

    async def defer(self, through_seq: int, latest_ms: int) -> int:
        return 0

    async def save_quota(self, token: bytes, data_id: bytes) -> None:
        self.spent.append((token, data_id))


class FakeClient:
    """Answers from a script; after its end, as `judge` says of each body. `before` is called ahead of each answer."""

    def __init__(self, *answers: Reply | Failure) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[str, bytes]] = []
        self.before: Callable[[], None] = lambda: None
        self.before_turn: Callable[[], None] = lambda: None
        self.judge: Callable[[bytes], Reply | Failure] = lambda _: GOOD

    @contextlib.asynccontextmanager
    async def turn(self, base_url: str, stream: Hashable, size: int, standing: str = "proven") -> AsyncIterator[bool]:
        self.before_turn()
        yield True

    deadline_s = 1.0

    def dismiss(self, base_url: str | None = None) -> None:
        pass

    async def probe(self, base_url: str) -> Reply | Failure:
        return GOOD

    def is_contended(self, base_url: str) -> bool:
        return False

    async def post(self, base_url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply | Failure:
        self.posts.append((base_url, body))
        self.before()
        return self.answers.pop(0) if self.answers else self.judge(body)

    async def close(self) -> None:
        pass
