"""`sidecar check`: is the configuration right, and what does it come to?"""

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from sidecar.cli.options import configured, load
from sidecar.config.show import effective


@click.command()
@configured
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(config: Path | None, proxies: tuple[str, ...], state: Path | None, *, as_json: bool) -> None:
    """Validate the configuration and print what is in force, with where each value came from.

    Every mistake is reported at once; the exit code is then 78. Secrets are masked.
    """
    rows = effective(load(config, proxies, state, need_proxy=False))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    table = Table("key", "value", "from", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.key, row.value, row.origin, style=None if row.origin == "default" else "bold")
    Console(soft_wrap=True).print(table)
