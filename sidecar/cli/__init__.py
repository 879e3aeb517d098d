"""The command `sidecar`. Each command is a module; this one joins them and gives errors their exit codes.

0 done · 1 the thing asked for failed · 2 wrong usage · 78 wrong configuration (EX_CONFIG). Only this package exits.
"""

import sys
from pathlib import Path

import click

from sidecar import __version__
from sidecar.cli.check import check
from sidecar.cli.dead import dead
from sidecar.cli.demo import demo
from sidecar.cli.drain import drain
from sidecar.cli.proxy import proxy
from sidecar.cli.reload import reload
from sidecar.cli.replay import replay
from sidecar.cli.retry import retry
from sidecar.cli.run import run
from sidecar.cli.send import send
from sidecar.cli.status import status
from sidecar.cli.why import why
from sidecar.errors import ConfigError, SidecarError

EX_CONFIG = 78
_BEAT = "bkmonitorbeat"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sidecar")
def cli() -> None:
    """A durable local agent in front of BlueKing Monitor's cloud-area proxy.

    \b
    sidecar run --proxy http://10.0.0.1:10205    a drop-in for that proxy on 127.0.0.1:10205
    sidecar demo                                 see it work, with an outage and a crash, in a minute
    """


for command in (run, check, send, status, why, dead, retry, reload, replay, drain, proxy, demo):
    cli.add_command(command)


def main() -> None:
    """Runs the command line and exits. Called by the name of `bkmonitorbeat`, it is `sidecar send`."""
    by_name = ["send"] if Path(sys.argv[0]).name.startswith(_BEAT) else []
    try:
        cli([*by_name, *sys.argv[1:]])
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"sidecar: {problem}", err=True)
        sys.exit(EX_CONFIG)
    except SidecarError as error:
        click.echo(f"sidecar: {error}", err=True)
        sys.exit(1)
