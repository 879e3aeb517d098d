"""`sidecar check`: is the configuration right, and what does it come to?"""

from pathlib import Path

import click

from sidecar.cli.options import configured, load
from sidecar.cli.output import console, print_json, table
from sidecar.config import tail_warnings
from sidecar.config.show import effective


@click.command()
@configured
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(config: Path | None, proxies: tuple[str, ...], state: Path | None, *, as_json: bool) -> None:
    """Validate the configuration and print what is in force, with where each value came from.

    Every mistake is reported at once; the exit code is then 78. A value that is valid
    but probably a mistake is a warning. Secrets are masked.
    """
    loaded = load(config, proxies, state)
    for warning in tail_warnings(loaded.config):
        click.echo(f"warning: {warning}", err=True)
    rows = effective(loaded)
    if as_json:
        print_json(rows)
        return
    shown = table("key", "value", "from")
    for row in rows:
        shown.add_row(row.key, row.value, row.origin, style=None if row.origin == "default" else "bold")
    console().print(shown)
