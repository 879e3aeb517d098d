"""`sidecar init`: writes a first configuration."""

import re
import time
from pathlib import Path

import click
import msgspec

from sidecar.cli.output import counted
from sidecar.cli.proposal import Proposal, propose
from sidecar.config import as_yaml
from sidecar.inputs.tail import open_source

_LOOKED_AT_BYTES = 256 * 1024


@click.group()
def init() -> None:
    """Write a first configuration for what is there."""


@init.command("tail")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="The name of the tail (default: that of the file).")
@click.option("--stream", default="app-events", show_default=True, help="The configured stream where events go.")
def init_tail(file: Path, name: str | None, stream: str) -> None:
    """Look at FILE and print a tail that parses it.

    What the first lines would become stands behind it as comments. Put the output into
    a file of conf.d, change what is not as wanted, and ask `sidecar check` and
    `sidecar try --tail NAME FILE`.
    """
    source = open_source(str(file.absolute()))
    try:
        data = source.read(_LOOKED_AT_BYTES, 0)
    except EOFError as error:
        raise click.ClickException(f"{file}: {error}") from None
    finally:
        source.close()
    data = data[: data.rfind(b"\n") + 1] or data
    if not data.strip():
        raise click.ClickException(f"{file}: empty, so there is nothing to look at")
    name = name or _name_of(file)
    click.echo(_shown(propose(data, str(file.absolute()), name), file.absolute(), name, stream), nl=False)


def _shown(made: Proposal, file: Path, name: str, stream: str) -> str:
    tail = {"paths": [str(file)], "stream": stream, **made.settings}
    text = as_yaml({"tails": {name: tail}})
    odd = f", of which {made.counts.unparsed} do not parse" if made.counts.unparsed else ""
    untimed = f", {made.counts.untimed} without a time that can be read" if made.counts.untimed else ""
    notes = [f"{time.strftime('%F %T')}: {counted(made.made, 'event')} of the first lines{odd}{untimed}; such as"]
    notes += [msgspec.json.encode(event).decode() for event in made.events]
    return text + "".join(f"# {note}\n" for note in notes)


def _name_of(file: Path) -> str:
    return re.sub(r"[^\w-]+", "-", file.name.partition(".")[0]).strip("-") or "app"
