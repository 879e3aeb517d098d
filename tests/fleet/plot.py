"""Draws docs/decisions/fleet.svg by hand: what a fleet of 500 hosts gets through in nine hours, and how evenly."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.fleet.simulation import BIN_S, HOUR_S, LIMIT, Member, Record, Run, TokenBucket, between, bins, simulate

_WIDTH, _LEFT, _RIGHT = 960, 64, 24
_JOIN_S, _LEAVE_S, _END_S = 3 * HOUR_S, 6 * HOUR_S, 9 * HOUR_S
_STYLE = """
  svg { font: 13px system-ui, sans-serif; --ink: #24292f; --faint: #8c959f; --good: #1a7f37; --bad: #cf222e;
        --band: #0969da; }
  @media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --faint: #7d8590; --good: #3fb950; --bad: #f85149;
        --band: #58a6ff; } }
  text { fill: var(--ink); } .small { fill: var(--faint); font-size: 12px; }
  .axis { stroke: var(--faint); stroke-width: 1; } .grid { stroke: var(--faint); stroke-width: 0.5; opacity: 0.4; }
  .event { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 4 3; } .line { fill: none; stroke-width: 1.2; }
  .good { stroke: var(--good); } .bad { stroke: var(--bad); } .middle { stroke: var(--band); stroke-width: 2; }
  .wide { fill: var(--band); opacity: 0.15; } .half { fill: var(--band); opacity: 0.25; }
"""


class Panel:
    """One diagram: hours to the right, `top` of the unit at the upper edge."""

    def __init__(self, title: str, y: int, height: int, top: float, ticks: Sequence[float]) -> None:
        self._y, self._height, self._top = y, height, top
        self.parts = [f'<text x="{_LEFT}" y="{y - 26}">{title}</text>']
        for tick in ticks:
            at = self._at(tick)
            self.parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            self.parts.append(f'<text class="small" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for hour in range(int(_END_S / HOUR_S) + 1):
            x = _x(hour * HOUR_S)
            label = f"{hour} h"
            self.parts.append(
                f'<text class="small" x="{x:.1f}" y="{y + height + 17}" text-anchor="middle">{label}</text>'
            )
        base = y + height
        self.parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
        for at_s in (_JOIN_S, _LEAVE_S):
            self.parts.append(
                f'<line class="event" x1="{_x(at_s):.1f}" x2="{_x(at_s):.1f}" y1="{y}" y2="{y + height}"/>'
            )

    def line(self, points: Sequence[tuple[float, float]], name: str) -> None:
        """Seconds and values."""
        self.parts.append(f'<polyline class="line {name}" points="{self._points(points)}"/>')

    def band(self, lower: Sequence[tuple[float, float]], upper: Sequence[tuple[float, float]], name: str) -> None:
        """What lies between two lines."""
        points = self._points([*lower, *reversed(upper)])
        self.parts.append(f'<polygon class="{name}" points="{points}"/>')

    def _points(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{_x(at_s):.1f},{self._at(value):.1f}" for at_s, value in points)

    def _at(self, value: float) -> float:
        return self._y + self._height * (1 - min(value, self._top) / self._top)


def _x(at_s: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / _END_S


def fleet() -> Run:
    """500 from the start, 100 join after three hours, and half of all leave after six."""
    members = [
        Member(joins_s=0.0 if index < 500 else _JOIN_S, leaves_s=_LEAVE_S if index % 2 else float("inf"))
        for index in range(600)
    ]
    return simulate(members, TokenBucket(LIMIT, 100), seconds=_END_S, seed=1)


def quantiles(records: Sequence[Record], start_s: float, end_s: float) -> list[float]:
    """Accepted a minute of the hosts that are there: the 5th, 25th, 50th, 75th and 95th in a hundred."""
    rates = sorted(
        len(between(record.accepted_s, start_s, end_s)) / (end_s - start_s) * 60
        for record in records
        if record.member.joins_s <= start_s and record.member.leaves_s >= end_s
    )
    return [rates[int(part * (len(rates) - 1))] for part in (0.05, 0.25, 0.5, 0.75, 0.95)]


def draw(run: Run) -> str:
    """The picture."""
    per_min = 60 / BIN_S
    flow = Panel("Accepted (green) and refused (red) requests a minute, per 30 s; the limit is 1,000", 60, 212, 1200,
                 (0, 250, 500, 750, 1000))  # fmt: skip
    for moments, name in ((lambda r: r.accepted_s, "good"), (lambda r: r.refused_s, "bad")):
        flow.line([((i + 0.5) * BIN_S, n * per_min) for i, n in enumerate(bins(run, moments))], name)
    spread = Panel("Accepted requests a minute of each host, per hour: median, middle half, 5 % to 95 %", 366, 166, 12,
                   (0, 2, 4, 8, 12))  # fmt: skip
    # One piece for each hour: nothing is carried over an event.
    for hour in range(int(_END_S / HOUR_S)):
        start_s, end_s = hour * HOUR_S, (hour + 1) * HOUR_S
        levels = [[(start_s, level), (end_s, level)] for level in quantiles(run.records, start_s, end_s)]
        spread.band(levels[0], levels[4], "wide")
        spread.band(levels[1], levels[3], "half")
        spread.line(levels[2], "middle")
    events = [(_JOIN_S, "100 hosts join"), (_LEAVE_S, "half of all leave")]
    marks = [f'<text class="small" x="{_x(at_s) + 6:.1f}" y="54">{what}</text>' for at_s, what in events]
    body = "\n".join([*flow.parts, *spread.parts, *marks])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} 570" role="img" '
        f'aria-label="A fleet of 500 hosts shares one token">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


def main(path: str) -> None:
    """Writes the picture to `path`."""
    Path(path).write_text(draw(fleet()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
