"""How the commands print: in a pipe as wide as the text is, on a terminal with colours and within the window."""

import sys
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

_PIPE_COLUMNS = 1000


def console() -> Console:
    """Square brackets are text here: what is printed comes from configurations and proxies."""
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return Console(markup=False, highlight=False, emoji=False, width=width)


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """A table without lines; the columns in `numbers` are aligned to the right."""
    made = Table(box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=not sys.stdout.isatty())
    return made


def print_json(document: Any) -> None:
    """For programs, and still readable."""
    encoded = document if isinstance(document, bytes) else msgspec.json.encode(document)
    click.echo(msgspec.json.format(encoded).decode())
