"""Finds the configuration for all commands."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from sidecar.config import Loaded, Options, Readable, load_config, load_good_parts, load_readable
from sidecar.core.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])


_STATE = click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), envvar="SIDECAR_STATE", show_envvar=True,
    help="State directory. Default: /var/lib/sidecar if writable, else $XDG_STATE_HOME/sidecar.",
)  # fmt: skip
_PROXY = click.option(
    "--proxy", "proxies", multiple=True, envvar="SIDECAR_PROXY", show_envvar=True, metavar="URL",
    help="The cloud area's proxy, such as http://10.0.0.1:10205; may be given several times.",
)  # fmt: skip
_CONFIG = click.option(
    "-c", "--config", type=click.Path(path_type=Path, exists=True), envvar="SIDECAR_CONFIG", show_envvar=True,
    help="A conf.d directory or one file. Default: /etc/sidecar/conf.d if it exists, else ./conf.d.",
)  # fmt: skip


def configured(command: Command) -> Command:
    """Add --config, --proxy and --state, each also from the environment."""
    return _CONFIG(_PROXY(_STATE(command)))


def placed(command: Command) -> Command:
    """Add --config and --state, each also from the environment."""
    return _CONFIG(_STATE(command))


def located(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config and --state, and hand the command the configuration they name, as `loaded`."""

    @functools.wraps(command)
    def run(*, config: Path | None, state: Path | None, **given: Any) -> None:
        command(load(config, (), state, need_proxy=False), **given)

    return placed(run)


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Return the same for a command that asks a running sidecar: with --state, the configuration need not be right."""

    @functools.wraps(command)
    def run(*, config: Path | None, state: Path | None, **given: Any) -> None:
        command(load_to_ask(config, (), state), **given)

    return placed(run)


def readable_configuration(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config, and hand the command what its user can read of the configuration, as `readable`.

    Only a configuration that was named must be right, and open to this user.
    """

    @functools.wraps(command)
    def run(*, config: Path | None, **given: Any) -> None:
        if config is None:
            command(load_readable(Options(), os.environ), **given)
        else:
            loaded = load(config, (), None, need_proxy=False)
            command(Readable(config=loaded.config, defaults_known=True), **given)

    return _CONFIG(run)


def load(config: Path | None, proxies: tuple[str, ...], state: Path | None, *, need_proxy: bool = True) -> Loaded:
    """Return the configuration that the options name. Raises ConfigError."""
    return load_config(options_of(config, proxies, state), os.environ, need_proxy=need_proxy)


def load_to_ask(config: Path | None, proxies: tuple[str, ...], state: Path | None) -> Loaded:
    """Return the configuration, or with a given `state` what is right of it. Raises ConfigError."""
    try:
        return load(config, proxies, state, need_proxy=False)
    except ConfigError:
        if state is None:
            raise
        click.echo("the configuration is not right; see `sidecar check`", err=True)
        return load_good_parts(options_of(config, proxies, state), os.environ)


def nearer(parameter: str, here: Path | None, above: Path | None) -> Path | None:
    """Return what was given to a subcommand, or else to the command above it, which also knows the environment."""
    source = click.get_current_context().get_parameter_source(parameter)
    return here if source is ParameterSource.COMMANDLINE else above


def options_of(config: Path | None, proxies: tuple[str, ...], state: Path | None) -> Options:
    """Return the options, with where they were given."""
    return Options(
        config=config,
        proxies=proxies,
        proxies_from=_given_by("proxies", "--proxy"),
        state=state,
        state_from=_given_by("state", "--state"),
    )


def _given_by(parameter: str, option: str) -> str:
    source = click.get_current_context().get_parameter_source(parameter)
    return f"SIDECAR_{option.removeprefix('--').upper()}" if source is ParameterSource.ENVIRONMENT else option
