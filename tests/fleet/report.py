"""Runs the scenarios over several seeds and prints the figures of docs/decisions/fleet.md (`make fleet`)."""

import sys
from collections.abc import Callable
from multiprocessing import Pool
from statistics import median

from tests.fleet.simulation import (
    HOUR_S,
    LIMIT,
    Budget,
    SlidingWindow,
    TokenBucket,
    fair_share,
    figures,
    halving,
    joining,
    light,
    recovery_s,
    unequal,
)

SEEDS = range(11, 15)
"""Not those the constants were chosen with."""
Row = dict[str, float]


def budget_named(name: str) -> Budget:
    """`window`, or the size of a bucket."""
    return SlidingWindow(LIMIT) if name == "window" else TokenBucket(LIMIT, int(name))


def steady(hosts: int, budget: str, seed: int) -> Row:
    """Two hours of warm-up, four that are measured, and then half of the fleet leaves."""
    run = halving(hosts, budget_named(budget), seed, at_s=6 * HOUR_S, seconds=7 * HOUR_S)
    long, short = figures(run, 2 * HOUR_S, 6 * HOUR_S), figures(run, 5 * HOUR_S, 6 * HOUR_S)
    first, after = figures(run, 0, 600), figures(run, 6 * HOUR_S, 7 * HOUR_S)
    later = figures(run, 6 * HOUR_S + 120, 7 * HOUR_S)
    return {
        "goodput %": 100 * long.goodput, "refused %": 100 * long.refused, "Jain 4 h": long.jain, "Jain 1 h": short.jain,
        "silence median s": long.silence_median_s, "longest s": long.silence_longest_s,
        "recovery s": recovery_s(run, 6 * HOUR_S), "first 10 min refused %": 100 * first.refused,
        "first 10 min goodput %": 100 * first.goodput, "hour after: goodput %": 100 * after.goodput,
        "from 120 s to 1 h: goodput %": 100 * later.goodput,
        "hour after: refused %": 100 * after.refused, "hour after: longest s": after.silence_longest_s,
    }  # fmt: skip


def joins(seed: int) -> Row:
    """A hundred come to five hundred."""
    run = joining(500, 100, TokenBucket(LIMIT, 100), seed, at_s=4 * HOUR_S, seconds=7 * HOUR_S)
    row: Row = {}
    for name, start_s in (("0-10 min", 0.0), ("30-40 min", 1800.0), ("60-90 min", 3600.0), ("120-180 min", 7200.0)):
        a_s, b_s = 4 * HOUR_S + start_s, 4 * HOUR_S + start_s + (600, 600, 1800, 3600)[len(row) // 3]
        old = sum(len([t for t in r.accepted_s if a_s <= t < b_s]) for r in run.records[:500]) / 500
        new = sum(len([t for t in r.accepted_s if a_s <= t < b_s]) for r in run.records[500:]) / 100
        now = figures(run, a_s, b_s)
        row |= {f"{name}: goodput %": 100 * now.goodput, f"{name}: refused %": 100 * now.refused,
                f"{name}: new/old": new / old}  # fmt: skip
    return row


def loads(times: float, sigma: float, seed: int) -> Row:
    """Lognormal demands."""
    run = unequal(500, TokenBucket(LIMIT, 100), seed, times=times, sigma=sigma, seconds=6 * HOUR_S)
    level = fair_share([r.member.demand_per_min or 0 for r in run.records], LIMIT.count)
    heavy = [r for r in run.records if (r.member.demand_per_min or 0) > level]
    backlogged = [r for r in run.records if (r.member.demand_per_min or 0) > 1.25 * level]
    small = [r for r in run.records if (r.member.demand_per_min or 0) < 0.5 * level]
    near = [r for r in run.records if 0.5 * level <= (r.member.demand_per_min or 0) < level]
    a_s, b_s = 2 * HOUR_S, 6 * HOUR_S
    all_, clear = figures(run, a_s, b_s, among=heavy), figures(run, a_s, b_s, among=backlogged)
    low, mid = light(small, a_s, b_s), light(near, a_s, b_s)
    return {
        "fair share": level, "heavy": len(heavy), "goodput %": 100 * all_.goodput, "refused %": 100 * all_.refused,
        "Jain heavy": all_.jain, "Jain > 1.25 shares": clear.jain, "< half: hosts": low.hosts,
        "< half: had %": 100 * low.had_per_min / low.wanted_per_min, "< half: refused %": 100 * low.refused,
        "< half: delay p90 s": low.delay_p90_s, "< half: delay p99 s": low.delay_p99_s, "half to one: hosts": mid.hosts,
        "half to one: had %": 100 * mid.had_per_min / mid.wanted_per_min, "half to one: delay p50 s": mid.delay_p50_s,
        "half to one: delay p90 s": mid.delay_p90_s,
    }  # fmt: skip


def table(title: str, rows: list[Row]) -> str:
    """Minimum, median and maximum over the seeds."""
    lines = [f"{title}"]
    for name in rows[0]:
        values = [row[name] for row in rows]
        lines.append(f"  {name:28} {min(values):8.3f} {median(values):8.3f} {max(values):8.3f}")
    return "\n".join(lines)


def main(chosen: list[str]) -> None:
    scenarios: dict[str, tuple[Callable[..., Row], tuple[object, ...]]] = {
        "500/100": (steady, (500, "100")), "500/17": (steady, (500, "17")), "500/1000": (steady, (500, "1000")),
        "500/window": (steady, (500, "window")), "10/100": (steady, (10, "100")), "100/100": (steady, (100, "100")),
        "1000/100": (steady, (1000, "100")), "joins": (joins, ()), "loads3": (loads, (3.0, 1.5)),
        "loads2": (loads, (2.0, 2.0)), "loads4": (loads, (4.0, 1.0)),
    }  # fmt: skip
    with Pool(2) as pool:
        for name, (scenario, arguments) in scenarios.items():
            if chosen and name not in chosen:
                continue
            rows = pool.starmap(scenario, [(*arguments, seed) for seed in SEEDS])
            print(table(name, rows), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
