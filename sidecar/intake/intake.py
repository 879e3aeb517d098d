"""The ways into the queue: a report, a block of lines, a frame of an agent's client, a block of a tailed file.

    is there capacity? ─ open ─ router (which stream?) ─ check ─ append

A report is taken as a whole or not at all, and its client told. Of lines and frames what is good is prepared, whatever
stands beside it, and its input submits it.
"""

import asyncio
import hmac
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from typing import TypedDict, TypeVar

import msgspec
import structlog

from sidecar.config import QueueSettings
from sidecar.core.errors import Rejected, Rejection, Unavailable
from sidecar.core.hops import Hops
from sidecar.core.model import THIS_HOST, Advance, Block, Done, Kind, Order, Sender
from sidecar.intake.capacity import SETTLED_S, CapacityCheck
from sidecar.intake.prepared import AcceptedReport, Prepared, PreparedFrame, PreparedLines, events_of, size_of
from sidecar.intake.router import Router
from sidecar.intake.streams import KnownRoute, Streams
from sidecar.queue import DEAD_ROW_BYTES, Queue, QueueStream
from sidecar.report import Checked, Envelope, check_items, check_lines, check_payload, open_envelope
from sidecar.status.document import QueueStatus

log = structlog.get_logger("intake")
_STOPPING_RETRY_S = 5
_CHECKERS = 4
"""Threads for large reports: one that needs long keeps no other large one waiting."""
_HINTS = 3
"""The number of wrong stream names in one block of lines for which the answer suggests the right name."""
T = TypeVar("T")


class _Limits(TypedDict):
    block_bytes: int
    event_bytes: int
    skew_ms: int


class Intake:
    """Takes events for the queue. `clock` is in seconds since 1970; `skew_s` is how far the proxy's is ahead of it.

    `remote_tokens`: of these a report of another host must carry one, if there are any.
    """

    def __init__(
        self,
        router: Router,
        queue: Queue,
        settings: QueueSettings,
        *,
        block_bytes: int,
        event_bytes: int,
        clock: Callable[[], float],
        boot_clock: Callable[[], float],
        skew_s: Callable[[], float],
        hops: Hops,
        remote_tokens: Collection[str] = (),
    ) -> None:
        self._router, self._queue = router, queue
        self._block_bytes, self._event_bytes, self._clock = block_bytes, event_bytes, clock
        self._skew_s, self._boot_clock = skew_s, boot_clock
        self._hops, self._remote_tokens = hops, remote_tokens
        self.capacity = CapacityCheck(queue, settings, boot_clock)
        self.streams = Streams(router, queue, boot_clock, self.capacity.refused_by)
        self._stopping = False  # reports are refused
        self._checkers = ThreadPoolExecutor(_CHECKERS, thread_name_prefix="intake-check")
        self._large: set[asyncio.Task[None]] = set()  # reports that are looked at by the checkers

    def status(self, queue: QueueStatus) -> QueueStatus:
        """Return `queue`, with what was refused here for want of capacity."""
        return msgspec.structs.replace(queue, refused_by=dict(self.capacity.refused_by))

    def reload(self) -> None:
        """Forget which report goes where, since the router has changed."""
        self.streams.reload()

    def forget(self, streams: Collection[QueueStream]) -> None:
        """Forget what is remembered of streams that are gone."""
        self.streams.forget(streams)
        for stream in streams:
            self._hops.forget(stream.key)

    def stop(self) -> None:
        """Refuse reports from now on. Lines and frames that clients could still write are taken."""
        self._stopping = True
        self._checkers.shutdown(wait=False)

    def accept(self, body: bytes, done: Done, sender: Sender = THIS_HOST) -> AcceptedReport:
        """Accept one report; `done` is called with None once it is on disk, or with Unavailable.

        Another host is lent no token, and each sender has a limit of streams. Raises Rejected or Unavailable at once,
        and then never calls `done`.
        """
        self._expect_going_on()
        now_ms = self._now_ms()
        envelope = open_envelope(body)
        if not sender.local:
            _check_token(envelope, self._remote_tokens, "http.tokens")
        # Token before items, as the proxy judges: its 401 comes before its 400.
        known, checked = self._check(envelope, now_ms, lend=sender.local)
        return self._append_report(envelope, known, checked, now_ms, sender, done)

    def accept_large(
        self, body: bytes, accepted: Callable[[AcceptedReport], None], done: Done, sender: Sender = THIS_HOST
    ) -> None:
        """Accept one report without keeping the event loop, and all other clients, for as long as that needs.

        A legal report of 5 MB may take seconds to check. It is looked at by other threads: Python gives each of them a
        few milliseconds, and no single step of theirs is long. `accepted` is called before `done`, which is told what
        is wrong with the report too (Rejected or Unavailable).
        """
        task = asyncio.create_task(self._accept_large(body, accepted, done, sender), name="large-report")
        self._large.add(task)
        task.add_done_callback(self._large.discard)

    async def _accept_large(
        self, body: bytes, accepted: Callable[[AcceptedReport], None], done: Done, sender: Sender
    ) -> None:
        aside = partial(asyncio.get_running_loop().run_in_executor, self._checkers)
        try:
            self._expect_going_on()
            now_ms = self._now_ms()
            envelope = await aside(self._unless_stopping, open_envelope, body)
            self._expect_going_on()
            if not sender.local:
                _check_token(envelope, self._remote_tokens, "http.tokens")
            known = KnownRoute(self._router.resolve(envelope, lend=sender.local))  # not for long: rules may be reloaded
            limits = self._limits()
            check = partial(check_items, rules=known.route.rules, now_ms=now_ms, **limits)
            checked = await aside(self._unless_stopping, check, envelope.data)
            self._expect_going_on()
            accepted(self._append_report(envelope, known, checked, now_ms, sender, done))
        except (Rejected, Unavailable) as error:
            done(error)
        except asyncio.CancelledError:
            done(Unavailable("the sidecar is stopping", retry_after_s=_STOPPING_RETRY_S))
            raise
        except Exception as error:  # a client must not wait for ever for what nobody foresaw
            log.exception("unexpected error in a large report")
            done(Unavailable(f"{type(error).__name__}: {error}", retry_after_s=_STOPPING_RETRY_S))

    def _unless_stopping(self, work: Callable[[bytes], T], data: bytes) -> T:
        """Run in a thread of the checkers: what still waits at a stop is refused at once."""
        self._expect_going_on()
        return work(data)

    def _expect_going_on(self) -> None:
        """Check that no stop has begun. Raises Unavailable."""
        if self._stopping:
            raise Unavailable("the sidecar is stopping", retry_after_s=_STOPPING_RETRY_S)

    def _append_report(
        self, envelope: Envelope, known: KnownRoute, checked: Checked, now_ms: int, sender: Sender, done: Done
    ) -> AcceptedReport:
        size = size_of(checked.blocks)
        # Before the stream is made: a report that is refused must leave nothing behind.
        self.capacity.admit(size)
        stream = self.streams.stream(known, checked.kind, sender.name)
        if sender.hops:
            self._hops.note(stream.key, sender.hops, self._boot_clock())
        self._queue.append(stream, checked.blocks, size, now_ms, done)
        return AcceptedReport(events_of(checked.blocks), size, envelope.repaired or checked.repaired)

    def prepare_lines(self, block: bytes, *, stream: str | None, tokens: Collection[str], local: bool) -> PreparedLines:
        """Check whole lines: reports, or bare events if there is a `stream` for these. Prepare the good ones.

        If there are `tokens`, a report must carry one of them. What is `local` needs no target, since it is this host.
        Raises Unavailable if there is no capacity; then nothing was looked at.
        """
        try:
            self.capacity.expect(len(block))
        except Rejected as too_large:
            return _all_rejected(block, too_large.why)
        lines = _LinesSoFar(self._now_ms())
        if stream is None:
            lines.reports = list(enumerate(block.split(b"\n")[:-1]))
        else:
            try:
                self._check_bare(block, stream, lines)
            except Rejected as gone:
                return _all_rejected(block, gone.why)
        for number, line in lines.reports:
            hint = len(lines.rejected) < _HINTS
            try:
                envelope = open_envelope(line)
                _check_token(envelope, tokens, "tokens")
                known, checked = self._check(envelope, lines.now_ms, local=local, hint=hint)
                lines.blocks.setdefault(self.streams.stream(known, checked.kind), []).extend(checked.blocks)
                lines.repaired += envelope.repaired or checked.repaired
            except Rejected as rejected:
                lines.rejected.append((number, rejected.why))
            except Unavailable as full:
                # No place for its stream: to wait for one would hold up all lines behind it.
                lines.rejected.append((number, Rejection(503, full.message)))
        good = block.count(b"\n") - len(lines.rejected)
        prepared = self._prepare(lines.blocks, {}, lines.now_ms, lines=good, repaired=lines.repaired)
        # Bare events were checked before reports, so the numbers are not in order yet.
        return PreparedLines(sorted(lines.rejected, key=itemgetter(0)), prepared, good)

    def prepare_frame(self, data_id: int, payload: bytes, sent_s: int) -> PreparedFrame:
        """Check what a client of the agent sent for `data_id`; what can never be sent is to become dead letters.

        Raises Unavailable if there is no capacity, and Rejected if there is nothing in it that could be kept.
        """
        self.capacity.expect(len(payload))
        now_ms = self._now_ms()
        if data_id <= 0:
            raise Rejected.for_stream(400, "data_id", f"expected a positive integer, got {data_id}")
        route, text_rule = self._router.pipe(data_id)
        checked = check_payload(payload, route.local_rules, text_rule, sent_s=sent_s, now_ms=now_ms, **self._limits())
        if not route.configured:
            checked = checked.all_dead(f"data_id {data_id} is no configured stream")
        if not checked.blocks and not checked.dead:
            raise Rejected(400, "no event is in it")
        self.capacity.expect_for_dead(route, len(checked.dead))
        known = KnownRoute(route)
        try:
            streams = {kind: self.streams.stream(known, kind) for kind in checked.kinds()}
        except Unavailable as too_many:  # to wait would not help
            raise Rejected(503, too_many.message) from None
        blocks = {stream: checked.blocks.get(kind, []) for kind, stream in streams.items()}
        dead = {
            stream: [(item, reason) for other, item, reason in checked.dead if other == kind]
            for kind, stream in streams.items()
        }
        prepared = self._prepare(blocks, dead, now_ms, lines=0, repaired=checked.repaired)
        assert prepared is not None  # there is something in it
        return PreparedFrame(Counter(reason for _, _, reason in checked.dead), prepared)

    def append_tail(
        self,
        name: str,
        kind: Kind,
        blocks: Sequence[Block],
        size: int,
        advance: Advance,
        done: Done,
        dead: Sequence[tuple[bytes, str]] = (),
    ) -> None:
        """Append events of a tailed file to the stream called `name`, with the place in the file behind them.

        They were made, and not sent, by somebody, and so need no check. Raises Unavailable while there is no capacity,
        and Rejected (413) if there never will be for so much, or (400) if the stream is not configured any more.
        """
        self.capacity.expect(size)
        # A tail can wait: its lines stay in the file.
        if dead and self.capacity.too_many_dead:
            raise Unavailable("there are too many dead letters; see `sidecar dead`", retry_after_s=int(SETTLED_S))
        stream = self.streams.stream(KnownRoute(self._router.bare(name)), kind)
        self._queue.append(stream, blocks, size, self._now_ms(), done, dead, advance)

    def _check_bare(self, block: bytes, name: str, lines: "_LinesSoFar") -> None:
        """Check bare events. Raises Rejected if there is no such stream."""
        route = self._router.bare(name)
        checked = check_lines(block, route.local_rules, now_ms=lines.now_ms, **self._limits())
        lines.reports, lines.rejected, lines.repaired = checked.reports, checked.rejected, checked.repaired
        for kind, blocks in checked.blocks.items():
            lines.blocks[self.streams.stream(KnownRoute(route), kind)] = blocks

    def _check(
        self, envelope: Envelope, now_ms: int, *, local: bool = False, hint: bool = True, lend: bool = True
    ) -> tuple[KnownRoute, Checked]:
        known = self.streams.resolve(envelope, hint=hint, lend=lend)
        rules = known.route.local_rules if local else known.route.rules
        return known, check_items(envelope.data, rules, now_ms=now_ms, **self._limits())

    def _prepare(
        self,
        blocks: dict[QueueStream, list[Block]],
        dead: dict[QueueStream, list[tuple[bytes, str]]],
        now_ms: int,
        *,
        lines: int,
        repaired: int,
    ) -> Prepared | None:
        """Return what is to be submitted: one append for each stream; None if there is none."""
        if not blocks:
            return None
        every = [block for each in blocks.values() for block in each]
        return Prepared(
            [partial(self._append, stream, each, now_ms, dead.get(stream, ())) for stream, each in blocks.items()],
            lines=lines,
            events=events_of(every) + sum(map(len, dead.values())),
            bytes=size_of(every),
            repaired=repaired,
        )

    def _append(
        self,
        stream: QueueStream,
        blocks: list[Block],
        now_ms: int,
        dead: Sequence[tuple[bytes, str]],
        done: Done,
        order: Order | None,
    ) -> None:
        size = size_of(blocks) + sum([len(body) + DEAD_ROW_BYTES for body, _ in dead])
        self._queue.append(stream, blocks, size, now_ms, done, dead, order=order)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _limits(self) -> _Limits:
        return {
            "block_bytes": self._block_bytes,
            "event_bytes": self._event_bytes,
            "skew_ms": int(self._skew_s() * 1000),
        }


class _LinesSoFar:
    """The results of checking a block of lines so far. `reports` are not checked yet, each with its line number."""

    __slots__ = ("blocks", "now_ms", "rejected", "repaired", "reports")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.blocks: dict[QueueStream, list[Block]] = {}  # what is good
        self.reports: list[tuple[int, bytes]] = []  # still to be checked, each with its line number
        self.rejected: list[tuple[int, Rejection]] = []  # by their line numbers, from 0
        self.repaired = 0  # lines in which something was replaced


def _all_rejected(block: bytes, why: Rejection) -> PreparedLines:
    return PreparedLines([(number, why) for number in range(block.count(b"\n"))], None, 0)


def _check_token(envelope: Envelope, tokens: Collection[str], setting: str) -> None:
    given = envelope.token.encode()
    # compare_digest: the time of a comparison must not tell how much of a token is right.
    if tokens and not any(hmac.compare_digest(given, token.encode()) for token in tokens):
        raise Rejected.for_stream(401, "access_token", f"not one that is taken here ({setting})")
