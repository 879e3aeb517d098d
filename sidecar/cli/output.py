"""Prints for all commands: into a pipe as wide as the text is, on a terminal with colours and within the window."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_PIPE_COLUMNS = 1000


def console() -> Console:
    """Square brackets are text here: what is printed comes from configurations and proxies."""
    # Without a terminal rich assumes 80 columns, and grep would search in cut lines.
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return Console(markup=False, highlight=False, emoji=False, width=width)


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """Return a table without lines; the columns in `numbers` are aligned to the right."""
    made = Table(box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=not sys.stdout.isatty())
    return made


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 event`, `2 events`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Return `text` without what could drive a terminal: events and proxies may hold anything."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def print_json(document: Any) -> None:
    """Print JSON for programs, and still readable."""
    encoded = document if isinstance(document, bytes) else msgspec.json.encode(document)
    click.echo(msgspec.json.format(encoded).decode())


@contextlib.contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how far something got; the caller tells how many are done in all."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.update(task, completed=done, total=max(total, done))
