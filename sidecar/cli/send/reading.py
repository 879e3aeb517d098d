"""Reads a file, or standard input, as it comes. What stands in the lines is the business of `lines.py`."""

import contextlib
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO

import click

from sidecar.cli.send.lines import Line, LineCutter

_BLOCK_BYTES = 262_144


@contextlib.contextmanager
def opened(name: str) -> Iterator[tuple[io.RawIOBase | BinaryIO, int]]:
    """Return the file, and its size or 0 if it has none; `-` is standard input. Raises ClickException."""
    try:
        number = sys.stdin.fileno() if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        # Unbuffered: poll() knows nothing of bytes that Python has read ahead.
        file = os.fdopen(number, "rb", 0, closefd=name != "-")
    except OSError as error:
        raise click.ClickException(f"{name}: {error.strerror or error}") from None
    with file:
        found = os.fstat(file.fileno())
        yield file, found.st_size if stat.S_ISREG(found.st_mode) else 0


def read_lines(file: io.RawIOBase | BinaryIO) -> Iterator[Line | None]:
    """Return the lines; None where there are no more at the moment: who asks for the next then waits for it."""
    cutter, poller = LineCutter(), select.poll()
    poller.register(file, select.POLLIN)
    while True:
        if not poller.poll(0):
            yield None
            poller.poll()
        data = file.read(_BLOCK_BYTES)
        if data == b"":
            break
        yield from cutter.feed(data or b"")
    yield from cutter.end()
