"""A fleet of hosts with one access token, in virtual time: the real Limiter, a proxy with one budget, a network.

Nothing here sleeps or reads a clock: one heap of events, one generator of random numbers for each run, so that a seed
gives the same run again. A host knows nothing but its own answers, as in reality.
"""

import heapq
import random
import statistics
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sidecar.core.units import Rate
from sidecar.forward.limiter import Limiter

LIMIT = Rate(1000, 60.0)
BIN_S = 30.0
HOUR_S = 3600.0
Make = Callable[[random.Random], Limiter]
_WAKE, _ARRIVE, _ANSWER, _DEMAND = range(4)


def limited(source: random.Random) -> Limiter:
    """A host whose own ceiling is the proxy's limit."""
    return Limiter(LIMIT, random=source.random)


class Budget(Protocol):
    """What the proxy grants to the token."""

    def take(self, now_s: float) -> bool:
        """Whether the request that arrives now is accepted."""


class TokenBucket:
    """`size` tokens, filled at the rate."""

    def __init__(self, rate: Rate, size: int) -> None:
        self._per_s, self._size = rate.count / rate.window_s, float(size)
        self._tokens, self._filled_s = float(size), 0.0

    def take(self, now_s: float) -> bool:
        self._tokens = min(self._size, self._tokens + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class SlidingWindow:
    """Exactly `rate.count` accepted requests in any window."""

    def __init__(self, rate: Rate) -> None:
        self._rate, self._taken = rate, deque[float]()

    def take(self, now_s: float) -> bool:
        while self._taken and self._taken[0] <= now_s - self._rate.window_s:
            self._taken.popleft()
        if len(self._taken) >= self._rate.count:
            return False
        self._taken.append(now_s)
        return True


@dataclass(frozen=True, kw_only=True)
class Member:
    """One host: its demand in requests per minute (None: always backlogged), and when it is there."""

    demand_per_min: float | None = None
    joins_s: float = 0.0
    leaves_s: float = float("inf")
    streams: int = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one host had: moments of its accepted and refused requests, and the delay of each accepted one."""

    member: Member
    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Run:
    """All records of a run."""

    seconds: float
    records: Sequence[Record]


class _Host:
    def __init__(self, member: Member, limiter: Limiter, latency_s: float) -> None:
        self.member, self.limiter, self.latency_s = member, limiter, latency_s
        self.record = Record(member=member)
        self.waiting = deque[float]()
        self.in_flight = 0
        self.wakes_s = float("inf")

    def has_work(self) -> bool:
        return self.in_flight < self.member.streams and (
            self.member.demand_per_min is None or self.in_flight < len(self.waiting)
        )


class _Fleet:
    def __init__(self, members: Sequence[Member], budget: Budget, seed: int, make: Make) -> None:
        self._random = random.Random(seed)
        self._budget = budget
        self._events: list[tuple[float, int, int, int, float, bool]] = []
        self._count = 0
        self.hosts = []
        for index, member in enumerate(members):
            self.hosts.append(_Host(member, make(self._random), self._random.uniform(0.005, 0.1)))
            kind = _WAKE if member.demand_per_min is None else _DEMAND
            self._push(member.joins_s + self._random.random(), kind, index)

    def _push(self, at_s: float, kind: int, index: int, sent_s: float = 0.0, good: bool = False) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, kind, index, sent_s, good))

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] < until_s:
            now_s, _, kind, index, sent_s, good = heapq.heappop(self._events)
            host = self.hosts[index]
            if now_s >= host.member.leaves_s and kind != _ARRIVE:
                continue
            if kind == _ARRIVE:
                self._arrives(now_s, index, sent_s)
            elif kind == _ANSWER:
                self._answered(now_s, host, sent_s, good)
                self._sends(now_s, index)
            elif kind == _DEMAND:
                host.waiting.append(now_s)
                self._push(now_s + self._random.expovariate((host.member.demand_per_min or 1.0) / 60), _DEMAND, index)
                self._sends(now_s, index)
            elif now_s == host.wakes_s or host.wakes_s == float("inf"):
                host.wakes_s = float("inf")
                self._sends(now_s, index)

    def _sends(self, now_s: float, index: int) -> None:
        host = self.hosts[index]
        while host.has_work():
            wait_s = host.limiter.wait_s(now_s)
            if wait_s > 0:
                wakes_s = now_s + max(wait_s, 1e-6)
                if wakes_s != host.wakes_s:
                    host.wakes_s = wakes_s
                    self._push(wakes_s, _WAKE, index)
                return
            host.limiter.spend(now_s)
            host.in_flight += 1
            self._push(now_s + host.latency_s * self._random.uniform(0.3, 0.7), _ARRIVE, index, now_s)

    def _arrives(self, now_s: float, index: int, sent_s: float) -> None:
        host = self.hosts[index]
        good = self._budget.take(now_s)
        (host.record.accepted_s if good else host.record.refused_s).append(now_s)
        self._push(now_s + host.latency_s * self._random.uniform(0.3, 0.7), _ANSWER, index, sent_s, good)

    def _answered(self, now_s: float, host: _Host, sent_s: float, good: bool) -> None:
        host.in_flight -= 1
        if not good:
            host.limiter.refused(now_s, sent_s, None)
            return
        host.limiter.accepted(now_s)
        if host.waiting:
            host.record.delays_s.append(now_s - host.waiting.popleft())


def simulate(members: Sequence[Member], budget: Budget, *, seconds: float, seed: int, make: Make | None = None) -> Run:
    """Runs the fleet from 0 to `seconds`."""
    fleet = _Fleet(members, budget, seed, make or limited)
    fleet.run(seconds)
    return Run(seconds=seconds, records=[host.record for host in fleet.hosts])


def jain(shares: Sequence[float]) -> float:
    """Jain's index: 1 if all are equal, 1/n if one has all."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares) or 1.0)


def fair_share(demands: Sequence[float], limit: float) -> float:
    """The max-min fair level: who wants less has all of it, the others have this much each."""
    left, rest = limit, sorted(demands)
    for index, demand in enumerate(rest):
        level = left / (len(rest) - index)
        if demand > level:
            return level
        left -= demand
    return float("inf")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a stretch of a run was like. Shares of the limit, parts of all requests, seconds."""

    goodput: float
    refused: float
    jain: float
    silence_median_s: float
    silence_longest_s: float


@dataclass(frozen=True, kw_only=True)
class Light:
    """The hosts below their fair share: what they wanted and had a minute, and how long a request waited."""

    hosts: int
    wanted_per_min: float
    had_per_min: float
    refused: float
    delay_p50_s: float
    delay_p90_s: float
    delay_p99_s: float


def between(moments: Sequence[float], start_s: float, end_s: float) -> Sequence[float]:
    """Those of the sorted `moments` from `start_s` until before `end_s`."""
    return moments[bisect_left(moments, start_s) : bisect_left(moments, end_s)]


def bins(run: Run, moments: Callable[[Record], list[float]]) -> list[int]:
    """How many of all hosts in each BIN_S."""
    counts = [0] * int(run.seconds / BIN_S)
    for record in run.records:
        for at_s in between(moments(record), 0.0, len(counts) * BIN_S):
            counts[int(at_s / BIN_S)] += 1
    return counts


def figures(run: Run, start_s: float, end_s: float, *, among: Sequence[Record] | None = None) -> Figures:
    """Of all hosts; Jain's index and the silences of those in `among` (else: the backlogged that are there)."""
    accepted = sum(len(between(record.accepted_s, start_s, end_s)) for record in run.records)
    refused = sum(len(between(record.refused_s, start_s, end_s)) for record in run.records)
    if among is None:
        there = [r for r in run.records if r.member.joins_s <= start_s and r.member.leaves_s >= end_s]
        among = [record for record in there if record.member.demand_per_min is None]
    had = [between(record.accepted_s, start_s, end_s) for record in among]
    silences = [max(b - a for a, b in zip([start_s, *m], [*m, end_s], strict=True)) for m in had]
    return Figures(
        goodput=accepted / (end_s - start_s) * LIMIT.window_s / LIMIT.count,
        refused=refused / (accepted + refused),
        jain=jain([len(moments) for moments in had]),
        silence_median_s=statistics.median(silences),
        silence_longest_s=max(silences),
    )


def recovery_s(run: Run, event_s: float, part: float = 0.97, window_s: float = 30.0) -> float:
    """From `event_s` until the first `window_s` after it in which `part` of the limit was accepted; its end counts."""
    moments = sorted(at_s for record in run.records for at_s in between(record.accepted_s, event_s, run.seconds))
    wanted = part * LIMIT.count * window_s / LIMIT.window_s
    end_s = event_s + window_s
    while end_s <= run.seconds:
        if len(between(moments, end_s - window_s, end_s)) >= wanted:
            return end_s - event_s
        end_s += 1.0
    return float("inf")


def light(records: Sequence[Record], start_s: float, end_s: float) -> Light:
    """Of the hosts in `records`."""
    accepted = sum(len(between(record.accepted_s, start_s, end_s)) for record in records)
    refused = sum(len(between(record.refused_s, start_s, end_s)) for record in records)
    # The delays stand in the order of the answers, which with one stream is that of the acceptances.
    delays = sorted(
        delay_s
        for record in records
        for at_s, delay_s in zip(record.accepted_s, record.delays_s, strict=False)
        if start_s <= at_s < end_s
    )
    return Light(
        hosts=len(records),
        wanted_per_min=sum(record.member.demand_per_min or 0.0 for record in records),
        had_per_min=accepted / (end_s - start_s) * 60,
        refused=refused / max(1, accepted + refused),
        delay_p50_s=delays[len(delays) // 2],
        delay_p90_s=delays[len(delays) * 9 // 10],
        delay_p99_s=delays[len(delays) * 99 // 100],
    )


def halving(hosts: int, budget: Budget, seed: int, *, at_s: float, seconds: float, make: Make | None = None) -> Run:
    """All are backlogged; every second one leaves at `at_s`."""
    members = [Member(leaves_s=at_s if index % 2 else float("inf")) for index in range(hosts)]
    return simulate(members, budget, seconds=seconds, seed=seed, make=make)


def joining(hosts: int, more: int, budget: Budget, seed: int, *, at_s: float, seconds: float) -> Run:
    """All are backlogged; `more` new ones come at `at_s`."""
    members = [Member()] * hosts + [Member(joins_s=at_s)] * more
    return simulate(members, budget, seconds=seconds, seed=seed)


def unequal(hosts: int, budget: Budget, seed: int, *, times: float, sigma: float, seconds: float) -> Run:
    """Demands are lognormal and together `times` the limit."""
    source = random.Random(seed + 1000)
    demands = [source.lognormvariate(0.0, sigma) for _ in range(hosts)]
    scale = times * LIMIT.count / sum(demands)
    return simulate([Member(demand_per_min=each * scale) for each in demands], budget, seconds=seconds, seed=seed)
