"""The ways into the queue: a report, a block of lines, a frame of an agent's client.

    is there room? ─ open ─ router (which stream?) ─ check ─ append

A report is taken as a whole or not at all, and its client told. Of lines and frames what is good is taken, whatever
stands beside it.
"""

import asyncio
import hmac
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypedDict, TypeVar

import structlog

from sidecar.config import QueueSettings as QueueConfig
from sidecar.core.errors import Rejected, Rejection, Unavailable
from sidecar.core.hops import Hops
from sidecar.core.model import THIS_HOST, Advance, Block, Done, Kind, Order, Sender, StreamKey
from sidecar.intake.admission import Refuse, Take, admit
from sidecar.intake.gathered import Gathered
from sidecar.intake.router import Route, Router
from sidecar.intake.submission import Submission
from sidecar.intake.taken import FrameTaken, LinesTaken, Taken, events_of, size_of
from sidecar.queue import Queue, QueueStream
from sidecar.report import Checked, Envelope, check_items, check_lines, check_payload, open_envelope

log = structlog.get_logger("intake")
_STOPPING_RETRY_S = 5
_CHECKERS = 4
"""Threads for large reports: one that needs long keeps no other large one waiting."""
_HINTS = 3
"""In a block of lines: so many wrong names of streams get a hint at the right one."""
_LARGEST_DEAD_PART = 0.25
"""Of the room, what is dead from the start may take no more: clients that get no answer must not fill the queue."""
_MAX_UNKNOWN_PIPES = 100
_DEAD_BYTES = 300
"""What a dead letter costs beside its event, on its way to the disk."""
_LARGEST_PART = 0.5
"""Of the queue, what is larger need not be waited with: there might never be so much room."""
_SETTLED_S = 5.0
"""Without a refusal for so long, reports are taken again; a queue at its limit changes its mind many times a second."""
MAX_STREAMS_OF_A_PEER = 250
"""Pass-through streams of one other host, or of all programs of this one: a quarter of all."""
TOO_MANY_STREAMS = "too many streams"
T = TypeVar("T")
_Names = tuple[int | None, str, str | None]


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
        settings: QueueConfig,
        *,
        block_bytes: int,
        event_bytes: int,
        clock: Callable[[], float],
        boot_clock: Callable[[], float],
        skew_s: Callable[[], float],
        hops: Hops,
        remote_tokens: Collection[str] = (),
    ) -> None:
        self._router, self._queue, self._settings = router, queue, settings
        self._block_bytes, self._event_bytes, self._clock = block_bytes, event_bytes, clock
        self._skew_s, self._boot_clock = skew_s, boot_clock
        self._hops, self._remote_tokens = hops, remote_tokens
        self._known: dict[_Names, _Known] = {}
        self._stopping = False
        self._checkers = ThreadPoolExecutor(_CHECKERS, thread_name_prefix="intake-check")
        self._large: set[asyncio.Task[None]] = set()  # reports that are looked at by the checkers
        self.refused_by: Counter[str] = Counter()
        self._refused = 0  # reports since room was last found missing
        self._refused_s = 0.0  # when the last of them came, on the boot clock
        self._unknown_pipes: set[int] = set()
        self.crowded: dict[
            str, float
        ] = {}  # peers with all the streams they may have, and when that was last in the way

    @property
    def refusing(self) -> bool:
        """Return whether reports were refused lately, for want of room; perhaps only large ones."""
        return bool(self._refused) and self._boot_clock() - self._refused_s <= _SETTLED_S

    def reload(self) -> None:
        """Forget which report goes where, since the router has changed."""
        self._known.clear()

    def forget(self, streams: Collection[QueueStream]) -> None:
        """Forget which reports go to streams that are gone."""
        gone = set(streams)
        for names, known in list(self._known.items()):
            if not gone.isdisjoint(known.streams.values()):
                del self._known[names]
        for stream in gone:
            self._hops.forget(stream.key)

    def stop(self) -> None:
        """Refuse reports from now on. Lines and frames that clients could still write are taken."""
        self._stopping = True
        self._checkers.shutdown(wait=False)

    def take(self, body: bytes, done: Done, sender: Sender = THIS_HOST) -> Taken:
        """Take one report; `done` is called with None once it is on disk, or with Unavailable.

        Another host is lent no token, and each sender has a limit of streams. Raises Rejected or Unavailable at once,
        and then never calls `done`.
        """
        self._expect_going_on()
        now_ms = self._now_ms()
        envelope = open_envelope(body)
        if not sender.local:
            _check_token(envelope, self._remote_tokens, "http.tokens")
        known, checked = self._check(envelope, now_ms, lend=sender.local)
        return self._accept(envelope, known, checked, now_ms, sender, done)

    def take_large(self, body: bytes, taken: Callable[[Taken], None], done: Done, sender: Sender = THIS_HOST) -> None:
        """Take one report without keeping the event loop, and so all other clients, for as long as that needs.

        A legal report of 5 MB may take seconds to check. It is looked at by other threads: Python gives each of them a
        few milliseconds, and no single step of theirs is long. `taken` is called before `done`, which is told what is
        wrong with the report too (Rejected or Unavailable).
        """
        task = asyncio.create_task(self._take_large(body, taken, done, sender), name="large-report")
        self._large.add(task)
        task.add_done_callback(self._large.discard)

    async def _take_large(self, body: bytes, taken: Callable[[Taken], None], done: Done, sender: Sender) -> None:
        aside = partial(asyncio.get_running_loop().run_in_executor, self._checkers)
        try:
            self._expect_going_on()
            now_ms = self._now_ms()
            envelope = await aside(self._unless_stopping, open_envelope, body)
            self._expect_going_on()
            if not sender.local:
                _check_token(envelope, self._remote_tokens, "http.tokens")
            known = _Known(self._router.resolve(envelope, lend=sender.local))  # not for long: rules may be reloaded
            limits = self._limits()
            check = partial(check_items, rules=known.route.rules, now_ms=now_ms, **limits)
            checked = await aside(self._unless_stopping, check, envelope.data)
            self._expect_going_on()
            taken(self._accept(envelope, known, checked, now_ms, sender, done))
        except (Rejected, Unavailable) as error:
            done(error)
        except asyncio.CancelledError:
            done(Unavailable("the sidecar is stopping", retry_after_s=_STOPPING_RETRY_S))
            raise
        except Exception as error:  # a client must not wait for ever for what nobody foresaw
            log.exception("a large report could not be taken")
            done(Unavailable(f"{type(error).__name__}: {error}", retry_after_s=_STOPPING_RETRY_S))

    def _unless_stopping(self, work: Callable[[bytes], T], data: bytes) -> T:
        """Run in a thread of the checkers: what still waits at a stop is refused at once."""
        self._expect_going_on()
        return work(data)

    def _expect_going_on(self) -> None:
        """Raises Unavailable."""
        if self._stopping:
            raise Unavailable("the sidecar is stopping", retry_after_s=_STOPPING_RETRY_S)

    def _accept(
        self, envelope: Envelope, known: "_Known", checked: Checked, now_ms: int, sender: Sender, done: Done
    ) -> Taken:
        size = size_of(checked.blocks)
        self._admit(size)
        stream = self._stream(known, checked.kind, sender.name)
        if sender.hops:
            self._hops.note(stream.key, sender.hops, self._boot_clock())
        self._queue.append(stream, checked.blocks, size, now_ms, done)
        return Taken(events_of(checked.blocks), size, envelope.repaired or checked.repaired)

    def take_lines(
        self, block: bytes, *, stream: str | None, tokens: Collection[str], local: bool, done: Done
    ) -> LinesTaken:
        """Take the good ones of whole lines: reports, or bare events if there is a `stream` for these.

        If there are `tokens`, a report must carry one of them. What is `local` needs no target, since it is this host.
        Raises Unavailable at once if there is no room; then nothing was taken. What was taken is for the caller to
        submit; `done` as for `Submission`.
        """
        lines = Gathered(self._now_ms())
        try:
            self._expect_room(len(block))
        except Rejected as too_large:
            lines.reject_all(block, too_large.why)
            return lines.taken(block, Submission(done))
        if stream is None:
            lines.reports = list(enumerate(block.split(b"\n")[:-1]))
        else:
            self._take_bare(block, stream, lines)
        for number, line in lines.reports:
            hint = len(lines.rejected) < _HINTS
            try:
                envelope = open_envelope(line)
                _check_token(envelope, tokens, "tokens")
                known, checked = self._check(envelope, lines.now_ms, local=local, hint=hint)
                lines.found.setdefault(self._stream(known, checked.kind), []).extend(checked.blocks)
                lines.repaired += envelope.repaired or checked.repaired
            except Rejected as rejected:
                lines.rejected.append((number, rejected.why))
            except Unavailable as full:
                lines.rejected.append((number, Rejection(503, full.message)))
        submission = Submission(done)
        for stream_found, blocks in lines.found.items():
            submission.add(partial(self._append, stream_found, blocks, lines.now_ms, ()))
        return lines.taken(block, submission)

    def take_frame(self, data_id: int, payload: bytes, sent_s: int, done: Done) -> FrameTaken:
        """Take what a client of the agent sent for `data_id`; what can never be sent becomes dead letters.

        Raises Unavailable at once if there is no room, and Rejected if there is nothing in it that could be kept.
        """
        self._expect_room(len(payload))
        now_ms = self._now_ms()
        if data_id <= 0:
            raise Rejected.for_stream(400, "data_id", f"expected a positive integer, got {data_id}")
        route, text_rule = self._router.pipe(data_id)
        checked = check_payload(payload, route.local_rules, text_rule, sent_s=sent_s, now_ms=now_ms, **self._limits())
        if not route.configured:
            checked = checked.all_dead(f"data_id {data_id} is no configured stream")
        if not checked.blocks and not checked.dead:
            raise Rejected(400, "no event is in it")
        self._expect_room_for_dead(route, len(checked.dead))
        known = _Known(route)
        try:
            streams = {kind: self._stream(known, kind) for kind in checked.kinds()}
        except Unavailable as too_many:  # to wait would not help
            raise Rejected(503, too_many.message) from None
        submission = Submission(done)
        for kind, stream in streams.items():
            blocks = checked.blocks.get(kind, [])
            dead = [(item, reason) for other, item, reason in checked.dead if other == kind]
            submission.add(partial(self._append, stream, blocks, now_ms, dead))
        taken = [block for blocks in checked.blocks.values() for block in blocks]
        reasons = Counter(reason for _, _, reason in checked.dead)
        return FrameTaken(events_of(taken), size_of(taken), reasons, checked.repaired, submission)

    def take_tail(
        self,
        name: str,
        kind: Kind,
        blocks: Sequence[Block],
        size: int,
        advance: Advance,
        done: Done,
        dead: Sequence[tuple[bytes, str]] = (),
    ) -> None:
        """Take events of a tailed file for the stream called `name`, with the place in the file behind them.

        They were made, and not sent, by somebody, and so need no check. Raises Unavailable while there is no room, and
        Rejected (413) if there never will be for so much, or (400) if the stream is not configured any more.
        """
        self._expect_room(size)
        if dead and self._too_many_dead():
            raise Unavailable("there are too many dead letters; see `sidecar dead`", retry_after_s=int(_SETTLED_S))
        stream = self._stream(_Known(self._router.bare(name)), kind)
        self._queue.append(stream, blocks, size, self._now_ms(), done, dead, advance)

    def _too_many_dead(self) -> bool:
        return self._queue.dead_bytes > _LARGEST_DEAD_PART * self._queue.room.bytes

    def _expect_room_for_dead(self, route: Route, dead: int) -> None:
        """Raises Rejected: what is dead may take only a part of the queue, and of the streams that are remembered."""
        if dead and self._too_many_dead():
            raise Rejected(503, "there are too many dead letters already; see `sidecar dead`")
        if not route.configured and route.data_id not in self._unknown_pipes:
            self._unknown_pipes = {stream.key.data_id for stream in self._queue.streams() if not stream.key.token}
            if len(self._unknown_pipes) >= _MAX_UNKNOWN_PIPES and route.data_id not in self._unknown_pipes:
                raise Rejected(503, f"already {_MAX_UNKNOWN_PIPES} data_ids that no stream has; no other is remembered")

    def _take_bare(self, block: bytes, name: str, lines: Gathered) -> None:
        try:
            route = self._router.bare(name)
        except Rejected as gone:
            lines.reject_all(block, gone.why)
            return
        checked = check_lines(block, route.local_rules, now_ms=lines.now_ms, **self._limits())
        lines.reports, lines.rejected, lines.repaired = checked.reports, checked.rejected, checked.repaired
        for kind, blocks in checked.blocks.items():
            lines.found[self._stream(_Known(route), kind)] = blocks

    def _check(
        self, envelope: Envelope, now_ms: int, *, local: bool = False, hint: bool = True, lend: bool = True
    ) -> tuple["_Known", Checked]:
        names = (envelope.data_id, envelope.token, envelope.stream)
        known = self._known.get(names) if lend else None
        known = known or _Known(self._router.resolve(envelope, hint=hint, lend=lend), names)
        rules = known.route.local_rules if local else known.route.rules
        return known, check_items(envelope.data, rules, now_ms=now_ms, **self._limits())

    def _stream(self, known: "_Known", kind: Kind, peer: str = THIS_HOST.name) -> QueueStream:
        """Return the stream; make it if need be, so only for good reports: a refused one must leave nothing behind.

        Raises Unavailable.
        """
        stream = known.streams.get(kind)
        if stream is None:
            route = known.route
            key = StreamKey(route.data_id, route.token, kind)
            if not route.configured and not self._queue.has(key):
                self._expect_place(peer)
            stream = self._queue.stream(key, configured=route.configured)
            if not route.configured and not stream.saved:
                stream.peer = peer
            known.streams[kind] = stream
            if known.names is not None:
                self._known[known.names] = known
        return stream

    def _expect_place(self, peer: str) -> None:
        """Raises Unavailable if `peer` has as many streams of its own as one peer may."""
        mine = sum(stream.peer == peer for stream in self._queue.streams())
        if mine >= MAX_STREAMS_OF_A_PEER:
            self.refused_by[TOO_MANY_STREAMS] += 1
            self.crowded[peer] = self._boot_clock()
            raise Unavailable(
                f"already {mine} streams of {peer} that are not configured; no new data_id or token of it is taken"
                " until some of them have been drained for a while",
                retry_after_s=60,
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
        size = size_of(blocks) + sum([len(body) + _DEAD_BYTES for body, _ in dead])
        self._queue.append(stream, blocks, size, now_ms, done, dead, order=order)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _limits(self) -> _Limits:
        return {
            "block_bytes": self._block_bytes,
            "event_bytes": self._event_bytes,
            "skew_ms": int(self._skew_s() * 1000),
        }

    def _verdict(self, size: int) -> Take | Refuse:
        return admit(
            size,
            used_bytes=self._queue.size_bytes,
            pending_bytes=self._queue.pending_bytes,
            log_bytes=self._queue.log_bytes,
            room=self._queue.room,
            when_full=self._settings.when_full,
        )

    def _expect_room(self, size: int) -> None:
        """For clients that can wait; they are not counted as refused. Raises Unavailable, or Rejected if in vain."""
        verdict = self._verdict(size)
        if isinstance(verdict, Refuse):
            if size > self._settings.max_size * _LARGEST_PART:
                raise Rejected(413, f"{size} bytes, too much for a queue of {self._settings.max_size} (queue.max_size)")
            raise Unavailable(verdict.reason, retry_after_s=verdict.retry_after_s)

    def _admit(self, size: int) -> None:
        verdict = self._verdict(size)
        if isinstance(verdict, Refuse):
            if not self._refused:
                log.error("reports are refused", reason=verdict.reason)
            self._refused += 1
            self.refused_by[verdict.reason] += 1
            self._refused_s = self._boot_clock()
            raise Unavailable(verdict.reason, retry_after_s=verdict.retry_after_s)
        if self._refused and self._boot_clock() - self._refused_s > _SETTLED_S:
            log.info("reports are taken again", refused=self._refused)
            self._refused = 0


class _Known:
    """A way to name a stream that worked before; there are as many as streams, times the few ways to name one."""

    __slots__ = ("names", "route", "streams")

    def __init__(self, route: Route, names: _Names | None = None) -> None:
        self.route, self.names = route, names
        self.streams: dict[Kind, QueueStream] = {}


def _check_token(envelope: Envelope, tokens: Collection[str], setting: str) -> None:
    given = envelope.token.encode()
    if tokens and not any(hmac.compare_digest(given, token.encode()) for token in tokens):
        raise Rejected.for_stream(401, "access_token", f"not one that is taken here ({setting})")
