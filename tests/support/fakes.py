"""Fakes that behave: the contract suites hold them and the real things to the same tests."""

from collections.abc import Callable

from sidecar.forward.outcome import Failure, Reply
from sidecar.model import Books, Chunk

GOOD = Reply(200, {}, b'{"code":"200","message":"success","request_id":"x","result":"true"}')


class Clock:
    """Stands still until moved."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class FakeSource:
    """A stream of the queue in memory."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.delivered = 0
        self.spent: list[tuple[str, float]] = []
        self._next_seq = 0

    def add(self, body: bytes, events: int = 1) -> None:
        self.chunks.append(Chunk(self._next_seq, body, events))
        self._next_seq += 1

    @property
    def books(self) -> Books:
        queued = sum(chunk.events for chunk in self.chunks)
        return Books(accepted=queued + self.delivered, queued=queued, delivered=self.delivered)

    async def read(self, after_seq: int, budget_bytes: int) -> list[Chunk]:
        found: list[Chunk] = []
        left = budget_bytes
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

    async def spend(self, token_digest: str, spent_until_s: float) -> None:
        self.spent.append((token_digest, spent_until_s))


class FakeClient:
    """Answers from a script; after its end, always well. `before` is called ahead of each answer."""

    def __init__(self, *answers: Reply | Failure) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[str, bytes]] = []
        self.before: Callable[[], None] = lambda: None

    async def post(self, base_url: str, body: bytes) -> Reply | Failure:
        self.posts.append((base_url, body))
        self.before()
        return self.answers.pop(0) if self.answers else GOOD

    async def close(self) -> None:
        pass
