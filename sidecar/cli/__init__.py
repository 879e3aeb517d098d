"""The command `sidecar`. Each command is a module of its name; this one joins them and gives errors their exit codes.

0 done · 1 the thing asked for failed · 2 wrong usage · 78 wrong configuration (EX_CONFIG). Only this package exits.
"""

import importlib
import io
import keyword
import os
import sys
from pathlib import Path

import click

from sidecar import __version__
from sidecar.core.errors import ConfigError, SidecarError

EX_CONFIG = 78
_BEAT = "bkmonitorbeat"


_COMMANDS = (
    "run", "check", "init", "test", "try", "send", "status", "tails", "why", "dead", "retry", "reload", "replay",
    "drain", "proxy", "demo", "version",
)  # fmt: skip


class _Commands(click.Group):
    """Imports a command when it is asked for: scripts call some of them often, and those need little."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command = getattr(importlib.import_module(f"sidecar.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-v", "-V", "--version", prog_name="sidecar")
def cli() -> None:
    """A durable local agent in front of BlueKing Monitor's cloud-area proxy.

    \b
    sidecar run --proxy http://10.0.0.1:10205    a drop-in for that proxy on 127.0.0.1:10205
    sidecar demo                                 see it work, with an outage and a crash, in a minute
    """


def _use_any_locale() -> None:
    """Take arguments for UTF-8, whatever the locale says, and write what it cannot write with escapes."""
    sys.argv = [os.fsencode(argument).decode("utf-8", "surrogateescape") for argument in sys.argv]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line and exits. Called by the name of `bkmonitorbeat`, it is `sidecar send`."""
    _use_any_locale()
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
