"""What moves inside the queue: chunks that are split, set aside, buried, put back, replayed; and the books."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.cli.why import describe, matcher
from sidecar.core.filters import DeadFilter, KeptFilter, Moved
from sidecar.core.model import BEFORE_ALL, Block, Books, StreamKey
from sidecar.queue.filters import condition_of
from sidecar.queue.inspect import Lookup
from sidecar.queue.operations import (
    Acknowledge,
    Append,
    Bury,
    CancelReplay,
    Defer,
    Expire,
    Fit,
    ForgetQuotas,
    Operation,
    Ping,
    Purge,
    PutBack,
    Release,
    Replay,
    SaveQuotas,
    SeeDead,
    SetAside,
    Split,
    Tidy,
    requeue,
)
from tests.support.queues import KEY, OTHER, DirectQueue, direct_queue

ALL = DeadFilter()


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DirectQueue]:
    with direct_queue(tmp_path / "queue.db") as opened:
        yield opened


def head(queue: DirectQueue, lane: Any = "fresh") -> int:
    return queue.reader.chunks(queue.stream().lane(lane).id, BEFORE_ALL, 1)[0].seq


def split(queue: DirectQueue, events: int) -> None:
    assert queue.do(Split(queue.stream().fresh, head(queue), events)) is None


def bury(queue: DirectQueue, *, now_ms: int = 9, reason: str = "bad", lane: Any = "fresh") -> Exception | None:
    """The event at the head, by itself."""
    queue.now_ms = now_ms
    target = queue.stream().lane(lane)
    chunk = queue.reader.chunks(target.id, BEFORE_ALL, 1)[0]
    if chunk.events > 1:
        queue.do(Split(target, chunk.seq, 1))
    return queue.do(Bury(target, head(queue, lane), reason, 400, 3, 5, now_ms))


def put_back(queue: DirectQueue, wanted: DeadFilter = ALL, after_id: int = 0, fit: Fit = lambda _, body: body) -> Moved:
    return queue.get(PutBack(wanted, after_id, 50, fit))


def dead(queue: DirectQueue) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{queue.path}?mode=ro", uri=True) as other:
        return other.execute("SELECT id, body, reason, status, attempts, first_ms, last_ms FROM dead").fetchall()


def test_splitting_changes_no_event_and_no_book(queue: DirectQueue) -> None:
    queue.append("1", "2", "3", "4", "5")
    queue.append("6")
    for events in (3, 2, 1):
        split(queue, events)
    assert queue.waiting() == ["1", "2", "3", "4", "5", "6"]
    assert [c.events for c in queue.reader.chunks(queue.stream().fresh.id, BEFORE_ALL, 1000)] == [1, 1, 1, 2, 1]
    assert queue.stream().books == Books(accepted=6, queued=6)
    assert queue.stream().queued_bytes == 6 + 1  # a byte each, and the comma that is left inside a chunk
    assert queue.reader.audit() == []


def test_a_chunk_that_a_policy_dropped_is_neither_split_nor_buried(queue: DirectQueue) -> None:
    queue.append("1", "2")
    queue.do(Expire(100))
    assert queue.do(Split(queue.stream().fresh, 0, 1)) is None
    assert queue.do(Bury(queue.stream().fresh, 0, "bad", 400, 1, 1, 1)) is None
    assert queue.stream().books == Books(accepted=2, dropped=2)


def test_only_a_single_event_can_be_buried(queue: DirectQueue) -> None:
    queue.append("1", "2")
    error = queue.do(Bury(queue.stream().fresh, 0, "bad", 400, 1, 1, 1))
    assert "holds 2 events" in str(error)
    assert queue.stream().books == Books(accepted=2, queued=2)


def test_a_buried_event_keeps_its_words_and_its_history(queue: DirectQueue) -> None:
    queue.append('{"a":1}', "2")
    assert bury(queue, reason="HTTP 400: bad") is None
    assert dead(queue) == [(1, b'{"a":1}', "HTTP 400: bad", 400, 3, 5, 9)]
    assert queue.stream().books == Books(accepted=2, queued=1, dead=1)
    assert queue.stream().dead_bytes == 7
    assert queue.reader.audit() == []


def test_the_audit_counts_dead_letters(queue: DirectQueue) -> None:
    queue.append("1")
    bury(queue)
    with sqlite3.connect(queue.path) as vandal:
        vandal.execute("DELETE FROM dead")
    assert queue.reader.audit() == ["stream 1: 0 dead letters, 1 in the books"]


def test_what_is_set_aside_waits_in_its_own_lane_in_order(queue: DirectQueue) -> None:
    for number in range(4):
        queue.append(str(number))
    queue.do(SetAside(queue.stream().fresh, 1))
    queue.do(SetAside(queue.stream().fresh, 2))
    assert queue.waiting() == ["3"]
    assert queue.waiting(lane="suspect") == ["0", "1", "2"]
    assert queue.stream().books == Books(accepted=4, queued=4)
    assert queue.reader.audit() == []


def test_dead_letters_that_are_put_back_are_queued_in_a_lane_of_their_own(queue: DirectQueue) -> None:
    queue.append("1", "2", "3")
    bury(queue)
    bury(queue)
    moved = put_back(queue)
    assert (moved.events, moved.last_id) == (2, None)
    assert (queue.waiting(), queue.waiting(lane="retry")) == (["3"], ["1", "2"])
    assert queue.stream().books == Books(accepted=3, queued=3)
    assert (queue.stream().dead_bytes, dead(queue), queue.reader.audit()) == (0, [], [])


def test_filters_choose_dead_letters(queue: DirectQueue) -> None:
    for number in range(4):
        queue.append(str(number))
        bury(queue, now_ms=number, reason=("too LARGE", "bad timestamp")[number % 2])
    found = lambda **wanted: [  # noqa: E731
        row[1] for row in queue.reader._execute(
            f"SELECT id, body FROM dead WHERE {condition_of(DeadFilter(**wanted))[0]} ORDER BY id",
            tuple(condition_of(DeadFilter(**wanted))[1]),
        )
    ]  # fmt: skip
    assert found() == [b"0", b"1", b"2", b"3"]
    assert found(reason="Large") == [b"0", b"2"]
    assert found(reason="%") == []
    assert found(from_ms=1, to_ms=2) == [b"1", b"2"]
    assert found(ids=(2, 4)) == [b"1", b"3"]
    assert found(ids=()) == []
    assert found(streams=(7,)) == []
    assert found(streams=(1,), reason="bad", from_ms=2) == [b"3"]


def test_many_dead_letters_are_put_back_in_several_transactions(queue: DirectQueue) -> None:
    for number in range(5):
        queue.append(f'"{number}{"x" * 1_500_000}"')
        bury(queue)
    first = put_back(queue)
    assert (first.events, first.last_id) == (3, 3)
    second = put_back(queue, after_id=3)
    assert (second.events, second.last_id) == (2, None)
    assert [event[1] for event in queue.waiting(lane="retry")] == list("01234")


def test_purging_is_dropping_with_a_reason(queue: DirectQueue) -> None:
    queue.append("1", "2")
    bury(queue, reason="a")
    bury(queue, reason="b")
    queue.do(Purge(DeadFilter(reason="b"), 0))
    assert [row[1] for row in dead(queue)] == [b"1"]
    assert queue.stream().books == Books(accepted=2, dead=1, dropped=1)
    assert queue.reader.dropped() == {1: {"purged": 1}}
    assert queue.reader.audit() == []


def tidy(queue: DirectQueue, *, dead_before_ms: int = 0, dead_max_bytes: int = 10**9) -> None:
    assert queue.do(Tidy(0, dead_before_ms, dead_max_bytes, 10)) is None


def test_dead_letters_go_by_age_and_by_size_oldest_first(queue: DirectQueue) -> None:
    for number in range(5):
        queue.append(f'"{number}{"x" * 97}"')
        bury(queue, now_ms=number)
    tidy(queue, dead_before_ms=1)
    assert len(dead(queue)) == 4
    tidy(queue, dead_max_bytes=250 + 2 * 300)  # with what two rows cost beside their events
    assert [row[1][1:2] for row in dead(queue)] == [b"3", b"4"]
    assert queue.reader.dropped() == {1: {"dead_max_age": 1, "dead_max_size": 2}}
    assert queue.stream().books == Books(accepted=5, dead=2, dropped=3)
    assert queue.stream().dead_bytes == 200
    assert queue.reader.audit() == []


def replay(queue: DirectQueue, from_ms: int, to_ms: int, only: int | None = None, target: str | None = None) -> Moved:
    wanted = KeptFilter(streams=None if only is None else (only,), from_ms=from_ms, to_ms=to_ms)
    return queue.get(Replay(wanted, target, 0, 77))


def test_kept_deliveries_are_sent_again_in_a_lane_of_their_own(queue: DirectQueue) -> None:
    for number in range(4):
        queue.append(str(number), "x")
        queue.acknowledge(number, keep=True, now_ms=number)
    replay(queue, 1, 2, target="http://other")
    stream = queue.stream()
    assert (queue.waiting(), queue.waiting(lane="replay")) == ([], ["1", "x", "2", "x"])
    assert stream.books == Books(accepted=12, queued=4, delivered=8)
    assert (stream.replayed, stream.lane("replay").target) == (4, "http://other")
    replay(queue, 0, 9, only=5, target="http://other")
    assert stream.replayed == 4
    assert replay(queue, 0, 0).elsewhere == "http://other"
    assert stream.replayed == 4
    queue.do(CancelReplay())
    assert stream.books == Books(accepted=12, delivered=8, dropped=4)
    assert queue.reader.dropped() == {1: {"replay_cancelled": 4}}
    assert replay(queue, 0, 0).elsewhere is None
    assert (stream.lane("replay").target, stream.replayed) == ("", 6)
    assert queue.reader.audit() == []


def test_room_is_made_from_replays_first(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db", 62_000, drop_beyond_bytes=3_000_000) as queue:
        bodies = [f'"{os.urandom(30_000).hex()}"' for _ in range(20)]
        queue.append(*bodies)
        queue.acknowledge(10**6, keep=True, now_ms=1)
        queue.append('"older and never delivered"')
        replay(queue, 0, 9)
        while not queue.stream().books.dropped:
            queue.append(f'"{os.urandom(30_000).hex()}"')
        assert queue.writer.size_bytes <= 3_000_000
        assert queue.waiting()[0] == '"older and never delivered"'
        assert queue.stream().lane("replay").events < 20
        assert queue.reader.audit() == []


def test_a_lane_keeps_its_target_over_a_restart(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db") as queue:
        queue.append("1")
        queue.acknowledge(0, keep=True, now_ms=1)
        replay(queue, 0, 9, target="http://other")
    with direct_queue(tmp_path / "queue.db") as queue:
        assert queue.stream().lane("replay").target == "http://other"
        assert queue.waiting(lane="replay") == ["1"]


def later(queue: DirectQueue, event: str, due_ms: int, at_ms: int = 0) -> None:
    block = Block(event.encode(), 1, due_ms)
    queue.now_ms = at_ms
    assert queue.do(Append(queue.stream(), [block], at_ms)) is None


def test_what_lies_in_the_future_waits_until_it_is_due(queue: DirectQueue) -> None:
    later(queue, "30", 30)
    queue.append("now")
    later(queue, "20", 20)
    assert queue.waiting() == ["now"]
    assert queue.stream().books == Books(accepted=3, queued=3)
    assert (queue.reader.next_due_ms(), queue.reader.due_ms()) == (20, {1: 20})
    queue.do(Release(19, 500))
    assert queue.waiting() == ["now"]
    queue.do(Release(30, 500))
    assert queue.waiting() == ["now", "20", "30"]
    assert queue.stream().books == Books(accepted=3, queued=3)
    assert (queue.reader.next_due_ms(), queue.reader.due_ms(), queue.reader.audit()) == (None, {}, [])


def stamped(*stamps: int) -> list[str]:
    return [f'{{"timestamp":{stamp}}}' for stamp in stamps]


def test_what_the_proxys_clock_is_not_ready_for_is_put_off_and_the_rest_stays(queue: DirectQueue) -> None:
    hour_ms = 3_600_000
    late = 10**12 + hour_ms
    queue.append(*stamped(late + 5, 1, late + 20_000))
    queue.append(*stamped(late + 7))
    queue.append(*stamped(late + 9))
    assert queue.do(Defer(queue.stream().fresh, 1, late)) is None
    assert queue.waiting() == stamped(1, late + 9)
    assert queue.reader.next_due_ms() == 10**12 + 10_000
    assert queue.stream().lane("scheduled").events == 3
    assert queue.stream().books == Books(accepted=5, queued=5)
    assert queue.reader.audit() == []
    queue.do(Release(10**12 + 20_000, 500))
    assert queue.waiting() == stamped(1, late + 9, late + 5, late + 7, late + 20_000)
    assert queue.stream().queued_bytes == sum(len(chunk.body) for chunk in queue.reader.chunks(8, BEFORE_ALL, 10**6))
    assert queue.reader.audit() == []


def test_what_waits_for_its_time_grows_too_old_too(queue: DirectQueue) -> None:
    later(queue, "1", 10**6, at_ms=5)
    later(queue, "2", 10**6, at_ms=50)
    queue.do(Expire(20))
    assert queue.stream().books == Books(accepted=2, queued=1, dropped=1)
    assert queue.reader.audit() == []


def test_kept_deliveries_give_way_before_anything_is_lost(tmp_path: Path) -> None:
    limit = 3_000_000
    with direct_queue(tmp_path / "queue.db", 62_000, drop_beyond_bytes=limit) as queue:
        for number in range(200):
            queue.append(
                f'"{number:06}{number * 7919 % 10**9:09}{"".join(chr(33 + (number * n) % 90) for n in range(20_000))}"'
            )
            if number < 150:
                queue.acknowledge(number, keep=True, now_ms=number)
        assert queue.writer.size_bytes <= limit
        assert queue.stream().books.dropped == 0
        assert queue.reader.audit() == []


class Lanes:
    """The queue as lists, in events."""

    def __init__(self) -> None:
        self.fresh: list[list[str]] = []  # chunks
        self.suspect: list[str] = []
        self.retry: list[str] = []
        self.dead: list[str] = []
        self.accepted = self.delivered = self.dropped = 0


MOVES = st.lists(
    st.tuples(st.just("append"), st.integers(1, 5))
    | st.tuples(st.just("split"), st.integers(1, 4))
    | st.tuples(st.sampled_from(["bury", "aside", "back", "purge", "acknowledge", "reopen"]), st.just(0)),
    max_size=30,
)


@pytest.mark.property
@settings(max_examples=80)
@given(MOVES)
def test_moving_loses_nothing_repeats_nothing_and_keeps_the_books(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("moves") / "queue.db"
    model, queue, number = Lanes(), DirectQueue(path), 0
    try:
        for name, count in moves:
            if name == "append":
                events = [str(number + n) for n in range(count)]
                number += count
                queue.append(*events)
                model.fresh.append(events)
                model.accepted += count
            elif name == "reopen":
                queue.close()
                queue = DirectQueue(path)
            elif name == "back":
                put_back(queue)
                model.retry += model.dead
                model.dead = []
            elif name == "purge":
                assert queue.do(Purge(ALL, 0)) is None
                model.dropped += len(model.dead)
                model.dead = []
            elif not model.fresh:
                continue
            elif name == "split" and len(model.fresh[0]) > count:
                split(queue, count)
                model.fresh[:1] = [model.fresh[0][:count], model.fresh[0][count:]]
            elif name == "bury":
                bury(queue)
                first, *rest = model.fresh[0]
                model.dead.append(first)
                model.fresh[:1] = [rest] if rest else []
            elif name == "aside":
                assert queue.do(SetAside(queue.stream().fresh, head(queue))) is None
                model.suspect += model.fresh.pop(0)
            elif name == "acknowledge":
                queue.acknowledge(head(queue))
                model.delivered += len(model.fresh.pop(0))
            waiting = [event for chunk in model.fresh for event in chunk]
            assert queue.waiting() == waiting
            assert queue.waiting(lane="suspect") == model.suspect
            assert queue.waiting(lane="retry") == model.retry
            assert [row[1].decode() for row in dead(queue)] == model.dead
            assert queue.stream(KEY).books == Books(
                accepted=model.accepted, queued=len(waiting) + len(model.suspect) + len(model.retry),
                delivered=model.delivered, dead=len(model.dead), dropped=model.dropped,
            )  # fmt: skip
            assert queue.reader.audit() == []
    finally:
        queue.close()


def test_what_older_versions_kept_in_tables_of_other_names_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    with direct_queue(path) as queue:
        later(queue, "1", 20)
        later(queue, "2", 30)
        queue.do(SaveQuotas({"digest": b"12.5"}, "boot"))
    with sqlite3.connect(path) as connection:
        connection.execute("DROP VIEW readable_scheduled")
        connection.execute("ALTER TABLE scheduled RENAME TO later")
        connection.execute("ALTER TABLE quota RENAME TO budget")
        connection.execute(
            "CREATE VIEW readable_later AS SELECT * FROM later"
            " WHERE id NOT IN (SELECT id FROM unreadable WHERE what = 'later')"
        )
        connection.execute("INSERT INTO unreadable SELECT 'later', max(id) FROM later")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm009_words'")
    connection.close()
    with direct_queue(path) as queue:
        assert queue.reader.quotas() == {"digest": ("boot", b"12.5")}
        queue.do(Release(100, 500))
        assert queue.waiting() == ["1"]  # the other one was found to be damaged, and stays as it is


def together(queue: DirectQueue, *operations: Operation[Any]) -> None:
    """Have `operations` committed as one transaction."""
    hold, settled, errors = threading.Event(), threading.Semaphore(0), list[Exception | None]()

    def wait(_: Exception | None) -> None:
        hold.wait(10)

    def done(error: Exception | None) -> None:
        errors.append(error)
        settled.release()

    queue.submit(Ping(), wait)  # the writer waits here while the others gather
    for operation in operations:
        queue.submit(operation, done)
    hold.set()
    for _ in operations:
        assert settled.acquire(timeout=10)
    assert errors == [None] * len(operations)


def rows(queue: DirectQueue, sql: str) -> list[Any]:
    with sqlite3.connect(queue.path) as connection:
        found = connection.execute(sql).fetchall()
    connection.close()
    return found


def test_two_replays_of_one_commit_never_mix_their_proxies(queue: DirectQueue) -> None:
    queue.append("1")
    queue.acknowledge(0, keep=True, now_ms=1)
    elsewhere = Replay(KeptFilter(from_ms=0, to_ms=9), "http://o", 0, 77)
    together(queue, elsewhere, Replay(KeptFilter(from_ms=0, to_ms=9), None, 0, 77))
    lane = queue.stream().lane("replay")
    assert (lane.events, lane.target) == (1, "http://o")


def test_a_replay_may_follow_a_cancelled_one_in_the_same_commit(queue: DirectQueue) -> None:
    queue.append("1")
    queue.acknowledge(0, keep=True, now_ms=1)
    queue.get(Replay(KeptFilter(from_ms=0, to_ms=9), "http://o", 0, 77))
    together(queue, CancelReplay(), Replay(KeptFilter(from_ms=0, to_ms=9), None, 0, 77))
    lane = queue.stream().lane("replay")
    assert (lane.events, lane.target) == (1, "")


def test_what_is_deferred_keeps_its_age_and_rules_and_the_rest_stays(queue: DirectQueue) -> None:
    late = 10**12 + 3_600_000
    same = late + 5
    queue.append(*stamped(1, same, 2, same, late), at_ms=5)
    queue.append(*stamped(same, same + 60_000))
    queue.append(*stamped(3))
    rows(queue, "UPDATE chunk SET rules = 0")
    queue.now_ms = 50
    assert queue.get(Defer(queue.stream().fresh, 2, late)) == 4
    assert queue.get(Defer(queue.stream().fresh, 2, late)) == 0
    assert queue.waiting() == stamped(1, 2, late, 3)
    scheduled = "SELECT accepted_ms, steady_ms, rules FROM scheduled WHERE accepted_ms = 5"
    assert rows(queue, scheduled) == [(5, 5, 0)]
    assert queue.reader.audit() == []
    queue.get(Release(10**12 + 70_000, 50))
    assert queue.waiting() == stamped(1, 2, late, 3, same, same, same, same + 60_000)
    assert {number for (number,) in rows(queue, "SELECT rules FROM chunk")} == {0}
    assert queue.reader.audit() == []


def test_what_is_dated_at_the_limit_itself_is_not_deferred_nor_what_cannot_be_read(queue: DirectQueue) -> None:
    late = 10**12 + 3_600_000
    queue.append(*stamped(late))
    queue.append("{broken")
    assert queue.get(Defer(queue.stream().fresh, 1, late)) == 0
    assert queue.waiting() == [*stamped(late), "{broken"]


def growths(queue: DirectQueue) -> list[int | None]:
    return [chunk.growth for chunk in queue.reader.chunks(queue.stream().fresh.id, BEFORE_ALL, 10**9)]


def test_by_how_much_events_grow_is_known_of_a_chunk_if_it_is_of_all_its_blocks(queue: DirectQueue) -> None:
    for blocks in ([Block(b"1", 1, growth=5), Block(b"2", 1, growth=0)], [Block(b"3", 1, growth=5), Block(b"4", 1)]):
        assert queue.do(Append(queue.stream(), blocks, 0)) is None
    assert growths(queue) == [5, None]


def test_by_how_much_the_parts_of_a_chunk_grow_is_not_known(queue: DirectQueue) -> None:
    late = 10**12 + 3_600_000
    assert queue.do(Append(queue.stream(), [Block(b"1,2,3", 3, growth=5)], 0)) is None
    queue.get(Split(queue.stream().fresh, 0, 1))
    assert growths(queue) == [None, None]
    queue.acknowledge(0)
    body = ",".join(stamped(1, late + 5)).encode()
    assert queue.do(Append(queue.stream(), [Block(body, 2, growth=5)], 0)) is None
    queue.get(Defer(queue.stream().fresh, 1, late))
    assert growths(queue) == [None]


def test_a_queue_of_before_it_was_noted_by_how_much_events_grow_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    with direct_queue(path) as queue:
        queue.append("1")
    with sqlite3.connect(path) as connection:
        connection.execute("DROP VIEW readable_chunk")
        connection.execute("ALTER TABLE chunk DROP COLUMN growth")
        connection.execute(
            "CREATE VIEW readable_chunk AS SELECT * FROM chunk"
            " WHERE id NOT IN (SELECT id FROM unreadable WHERE what = 'chunk')"
        )
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm012_growth'")
    connection.close()
    with direct_queue(path) as queue:
        assert queue.waiting() == ["1"]
        assert growths(queue) == [None]


def test_what_is_set_aside_keeps_its_age_and_rules(queue: DirectQueue) -> None:
    queue.append("1", at_ms=5)
    rows(queue, "UPDATE chunk SET rules = 0")
    queue.now_ms = 50
    queue.do(SetAside(queue.stream().fresh, 0))
    assert rows(queue, "SELECT accepted_ms, steady_ms, rules FROM chunk") == [(5, 5, 0)]
    queue.do(Expire(20))
    assert queue.stream().books == Books(accepted=1, dropped=1)


def test_a_replay_keeps_the_rules_and_says_what_else_is_under_way(queue: DirectQueue) -> None:
    for number in range(4):
        queue.append(str(number), "x")
        queue.acknowledge(number, keep=True, now_ms=number)
    rows(queue, "UPDATE kept SET rules = 0")
    assert replay(queue, 0, 0, target="http://o") == Moved(2, None)
    assert replay(queue, 1, 1, target="http://o") == Moved(2, None)
    assert replay(queue, 1, 1) == Moved(0, None, elsewhere="http://o")
    assert {number for (number,) in rows(queue, "SELECT rules FROM chunk")} == {0}
    assert queue.get(CancelReplay()) == Moved(4, None)
    queue.get(Replay(KeptFilter(from_ms=0, to_ms=9), None, 0, 77))
    assert replay(queue, 0, 0, target="http://o").elsewhere == "the usual proxies"
    assert queue.get(CancelReplay()) == Moved(8, None)


def test_large_moves_are_made_in_parts(queue: DirectQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requeue, "_AT_ONCE_BYTES", 10)
    for number in range(4):
        queue.append(str(number))
        queue.acknowledge(number, keep=True, now_ms=number)
    parts: list[int] = []
    after: int | None = 0
    while after is not None:
        moved = queue.get(Replay(KeptFilter(from_ms=0, to_ms=9), None, after, 77))
        parts.append(moved.events)
        after = moved.last_id
    assert parts == [2, 2, 0]
    for number in range(4):
        later(queue, str(number), 10)
    queue.do(Release(10, 1))
    assert queue.waiting() == ["0", "1"]


@pytest.mark.parametrize(("limit", "most"), [("_AT_ONCE_BYTES", [2, 2, 1]), ("_AT_ONCE_ROWS", [2, 2, 1])])
def test_a_purge_is_made_in_parts(
    queue: DirectQueue, monkeypatch: pytest.MonkeyPatch, limit: str, most: list[int]
) -> None:
    monkeypatch.setattr(requeue, limit, 2)
    queue.do(Append(queue.stream(), [], 1, [(b"1", "bad")] * 5))
    parts: list[int] = []
    after: int | None = 0
    while after is not None:
        moved = queue.get(Purge(ALL, after))
        parts.append(moved.events)
        after = moved.last_id
    assert parts == most


def test_what_concerns_two_streams_is_counted_for_both(queue: DirectQueue) -> None:
    for key in (KEY, OTHER):
        queue.append("1", "2", key=key)
        queue.do(Acknowledge(queue.stream(key).fresh, 9, 1, keep=True))
        queue.do(Append(queue.stream(key), [], 1, [(b"1", "bad"), (b"2", "unfit")]))
    replay(queue, 0, 9)
    assert queue.get(CancelReplay()) == Moved(4, None)
    asked = set()

    def fit(key: StreamKey, body: bytes) -> bytes | None:
        asked.add(key)
        return None if body == b"2" else body

    moved = queue.get(PutBack(ALL, 0, 50, fit))
    assert (moved.events, moved.unfit, asked) == (2, 2, {KEY, OTHER})


def test_several_operations_of_one_commit_keep_the_books(queue: DirectQueue) -> None:
    queue.append("1", "2", "3")
    queue.append("4", "5")
    fresh = queue.stream().fresh
    together(
        queue,
        Append(queue.stream(), [Block(b"6", 1)], 0),
        Split(fresh, 0, 1),
        Acknowledge(fresh, -1, 0, keep=False),
        Split(fresh, 0, 1),
        Acknowledge(fresh, -1, 0, keep=False),
    )
    assert queue.reader.audit() == []
    assert queue.stream().books.delivered == 2
    assert queue.stream().queued_bytes == sum(len(c.body) for c in queue.reader.chunks(fresh.id, BEFORE_ALL, 10**6))


def test_what_was_scheduled_and_grew_too_old_has_its_reason(queue: DirectQueue) -> None:
    later(queue, "1", 10**6, at_ms=5)
    queue.do(Expire(20))
    assert queue.reader.dropped() == {1: {"max_age": 1}}


def test_what_is_scheduled_is_dropped_last_but_it_is(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db", 62_000, drop_beyond_bytes=3_000_000) as queue:
        for _ in range(20):
            later(queue, f'"{os.urandom(30_000).hex()}"', 10**6)
        while not queue.stream().books.dropped:
            queue.append(f'"{os.urandom(30_000).hex()}"')
        assert queue.stream().lane("scheduled").events == 20
        for _ in range(100):
            later(queue, f'"{os.urandom(30_000).hex()}"', 10**6)
            assert queue.writer.size_bytes <= 3_300_000
        assert queue.waiting() == []
        assert queue.reader.dropped() == {1: {"max_size": queue.stream().books.dropped}}
        assert queue.reader.audit() == []


def test_a_new_stream_larger_than_the_queue_is_dropped_in_the_commit_that_makes_it(tmp_path: Path) -> None:
    with direct_queue(tmp_path / "queue.db", 62_000, drop_beyond_bytes=3_000_000) as queue:
        blocks = [Block(f'"{os.urandom(30_000).hex()}"'.encode(), 1) for _ in range(140)]
        assert queue.do(Append(queue.stream(), blocks, 0)) is None
        assert queue.writer.size_bytes <= 3_000_000
        assert queue.stream().books.dropped > 0


def test_only_the_quotas_that_nobody_uses_are_forgotten(queue: DirectQueue) -> None:
    queue.do(SaveQuotas({"a": b"1", "b": b"2"}, "boot"))
    queue.do(ForgetQuotas(["a"]))
    assert set(queue.reader.quotas()) == {"b"}


def test_the_mark_of_seen_dead_letters_goes_neither_back_nor_ahead(queue: DirectQueue) -> None:
    queue.do(Append(queue.stream(), [], 1, [(b"1", "bad")] * 3))
    for through, mark in ((2, 2), (1, 2), (99, 3)):
        queue.do(SeeDead(through))
        assert rows(queue, "SELECT id FROM seen WHERE what = 'dead'") == [(mark,)]


def test_a_dead_letter_that_is_gone_while_it_is_described_is_no_error(queue: DirectQueue) -> None:
    queue.append('{"dimension":{"id":"a7"}}')
    bury(queue)
    with Lookup(queue.path) as lookup:
        (found,) = lookup.find(*matcher("id=a7"))
        names = {found.stream: "app-events"}
        assert describe(lookup, names, found)[1:] == ["  bad", f"  `sidecar dead retry {found.row}` sends it again"]
        queue.do(Purge(ALL, 0))
        (said,) = describe(lookup, names, found)
    assert said.startswith("was a dead letter of app-events a moment ago")
