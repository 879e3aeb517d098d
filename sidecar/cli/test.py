"""`sidecar test`: runs the configuration's own tests: lines of a file, and the events that they must become."""

import difflib
import io
import sys
import time
from typing import Any

import click
import msgspec

from sidecar.cli.options import located
from sidecar.cli.output import console, counted, print_json
from sidecar.cli.sample import sample
from sidecar.config import Config, Loaded, TailTest

_HOST = "host"
_NAMES = ("event_name", "target", "event", "metrics", "dimension", "timestamp")


class Result(msgspec.Struct, frozen=True):
    """The result of one test. `diff` is empty if it passed."""

    name: str
    passed: bool
    diff: list[str]


@click.command("test")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@located
def test(loaded: Loaded, names: tuple[str, ...], *, as_json: bool) -> None:
    """Run the tests of the configuration (`tests:` in conf.d), all or those called NAME. Exits 1 if one fails.

    There {host} is "host". An event that is expected may leave out `target` and, where it is the time of reading,
    `timestamp`.
    """
    tests = loaded.config.tests
    unknown = [name for name in names if name not in tests]
    if unknown:
        raise click.BadParameter(f"no test {unknown[0]}; there are: {', '.join(tests) or 'none'}", param_hint="NAME")
    results = [_run(loaded.config, name, tests[name]) for name in names or tests]
    failed = sum(not result.passed for result in results)
    if as_json:
        print_json(results)
    else:
        _show(results, failed)
    sys.exit(1 if failed else 0)


def _run(config: Config, name: str, wanted: TailTest) -> Result:
    tail = config.tails[wanted.tail]
    lines = "".join(f"{line}\n" for line in wanted.lines).encode(tail.encoding, "replace")
    path = wanted.path or tail.paths[0]
    now_ms = int(time.time() * 1000)
    parts = list(sample(config, wanted.tail, io.BytesIO(lines).read, path, _HOST, now_ms))
    got = [event for part in parts for event in part.events]
    got += [{"dead": reason, **event} for part in parts for event, reason in part.dead]
    expected: list[Any] = wanted.events  # type: ignore[assignment]
    diff = _difference([_completed(event, got, number, now_ms) for number, event in enumerate(expected)], got)
    return Result(name, not diff, diff)


def _completed(event: dict[str, Any], got: list[Any], number: int, now_ms: int) -> dict[str, Any]:
    """Return it with what may be left out, and numbers as numbers: YAML's fractions are text to the configuration."""
    actual = got[number] if number < len(got) else {}
    free = ("target", "timestamp") if actual.get("timestamp") == now_ms else ("target",)
    filled = {name: actual[name] for name in free if name in actual} | event
    if isinstance(filled.get("metrics"), dict):
        filled["metrics"] = {name: _number(value) for name, value in filled["metrics"].items()}
    return filled


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _difference(expected: list[Any], got: list[Any]) -> list[str]:
    before, after = _lines(expected), _lines(got)
    if before == after:
        return []
    return list(difflib.unified_diff(before, after, "expected", "got", lineterm=""))


def _lines(events: list[Any]) -> list[str]:
    lines: list[str] = []
    for event in events:
        known = {name: event[name] for name in _NAMES if name in event}
        if isinstance(known.get("metrics"), dict):
            known["metrics"] = {name: _number(value) for name, value in known["metrics"].items()}
        ordered = known | {name: value for name, value in event.items() if name not in known}
        lines += (
            msgspec.json.format(msgspec.json.encode(ordered, order="deterministic"), indent=2).decode().splitlines()
        )
    return lines


def _show(results: list[Result], failed: int) -> None:
    out = console()
    colours = {"+": "green", "-": "red"}
    for result in results:
        out.print(
            f"{'passed' if result.passed else 'FAILED'}  {result.name}", style=None if result.passed else "bold red"
        )
        for line in result.diff:
            out.print(f"    {line}", style=colours.get(line[:1]))
    out.print(f"{counted(len(results), 'test')}, {failed} failed")
