"""The options of `sidecar send`, and what they say together. `job.py` does it."""

import time
from pathlib import Path
from typing import Any

import click

from sidecar.cli.options import readable_configuration
from sidecar.cli.send.beat import Beat, split_arguments
from sidecar.cli.send.destination import Where
from sidecar.cli.send.event import Given, make_event, read_metrics, read_pairs
from sidecar.cli.send.job import SendJob, send_as_beat, send_event, send_file
from sidecar.cli.send.outbox import Pipe
from sidecar.cli.times import When
from sidecar.client.connection import parse_address
from sidecar.config import Readable, read_secret
from sidecar.core.units import parse_duration

_TOKEN_BYTES = 10_000


class _Command(click.Command):
    """Takes the options of the beat as well; the context's `obj` is then a Beat."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with_value = [
            name for option in self.params if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        ]  # fmt: skip
        try:
            ctx.obj, others = split_arguments(args, with_value)
        except ValueError as error:
            raise click.UsageError(str(error), ctx) from None
        return super().parse_args(ctx, others)


@click.command(cls=_Command)
@readable_configuration
@click.option("--stream", metavar="NAME", help="Where it belongs: a configured stream; its token is not needed here.")
@click.option("--data-id", type=int, metavar="N", help="Or a data_id, with its token.")
@click.option("--token", envvar="SIDECAR_TOKEN", show_envvar=True, metavar="TOKEN",
              help="The access token of --data-id; on the command line, others on this host can see it.")  # fmt: skip
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="A file that holds it.")
@click.option("--name", metavar="NAME", help="What kind of event it is, such as login_failed.")
@click.option("--content", metavar="TEXT", help="What happened.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME=NUMBER",
              help="A time series instead, such as cpu_load=0.7; may be repeated.")  # fmt: skip
@click.option("--dimension", "dimensions", multiple=True, metavar="NAME=VALUE",
              help="Such as module=db; may be repeated.")  # fmt: skip
@click.option("--target", metavar="TARGET", help="Where it comes from, such as 0:10.0.0.9. Default: this host.")
@click.option("--timestamp", "timestamp_ms", type=When(time.time), metavar="TIME",
              help="When it was: 2026-01-31T08:00, 2h for two hours ago, or milliseconds. Default: now.")  # fmt: skip
@click.option("--file", metavar="PATH",
              help="Send what is in a file, or - for standard input: JSON, on each line an event, or without --stream"
              " and --data-id a report. Other options fill in what an event leaves out.")  # fmt: skip
@click.option("--socket", envvar="SIDECAR_SOCKET", show_envvar=True, metavar="ADDRESS",
              help="Where the sidecar is: unix:/PATH, unix:@NAME, tcp:HOST:PORT or a path."
              " Default: its usual places, those of the configuration first.")  # fmt: skip
@click.option("--timeout", metavar="DURATION",
              help="Give up when no event was acknowledged for this time. Default: 30s; with --file 5min.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Say nothing when all is well.")
def send(
    readable: Readable,
    *,
    stream: str | None,
    data_id: int | None,
    token: str | None,
    token_file: Path | None,
    socket: str | None,
    timeout: str | None,
    file: str | None,
    quiet: bool,
    **event: Any,
) -> None:
    """Report an event, a time series or a whole file through the running sidecar; returns when it is on disk.

    \b
    sidecar send --stream app-events --name login_failed --content "user00" --dimension module=db
    sidecar send --stream app-load --metric cpu_load=0.7
    sidecar send --stream app-events --file events.jsonl

    Bad lines of a file are named, with what is wrong, and the others are sent. Exits 1 unless all of it is on disk.

    It also takes the options of bkmonitorbeat: -report, -report.type, -report.bk_data_id, -report.message.kind,
    -report.message.body, -report.event.name, .content, .target and .timestamp, -report.http.server and
    -report.http.token, so that a link to this program called bkmonitorbeat does in its place. Reports go through the
    sidecar; only -report.type http posts to -report.http.server where none runs. -report.agent.address is ignored,
    unless it is a socket of the configuration's, which is then tried first.
    """
    where = Where(readable=readable, socket=_address(socket))
    job = SendJob(where=where, timeout_s=_timeout(timeout), quiet=quiet)
    beat = click.get_current_context().obj
    if isinstance(beat, Beat):
        if stream or data_id or file or any(event.values()):
            raise click.UsageError("the options of bkmonitorbeat say all of a report; they go with none of our own")
        send_as_beat(job, beat)
        return
    pipe = _pipe(stream, data_id, token, token_file)
    given = _given(**event)
    if file is not None:
        if given.is_whole:
            raise click.UsageError("either --file, or --name, --content or --metric")
        send_file(job, pipe, given, file)
        return
    if pipe is None:
        raise click.UsageError("where does it belong? --stream NAME, or --data-id N and its token")
    try:
        item = make_event(given, int(time.time() * 1000))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    send_event(job, pipe, item)


def _pipe(stream: str | None, data_id: int | None, token: str | None, token_file: Path | None) -> Pipe | None:
    """Return where it goes.

    Raises UsageError for what cannot be meant; a token of the environment may be there for another call.
    """
    from_environment = _is_from_environment("token")
    if stream is not None and data_id is not None:
        raise click.UsageError("either --stream or --data-id")
    if token_file is not None and token is not None and not from_environment:
        raise click.UsageError("either --token or --token-file")
    if data_id is not None and not 0 < data_id < 2**63:
        raise click.BadParameter("expected a positive whole number", param_hint="--data-id")
    if data_id is None:
        if token_file is not None or (token is not None and not from_environment):
            raise click.UsageError("a token goes with --data-id")
        return None if stream is None else Pipe(None, "", stream)
    return Pipe(data_id, _token_of(token_file) if token_file is not None else token or "", None)


def _is_from_environment(parameter: str) -> bool:
    return click.get_current_context().get_parameter_source(parameter) is click.core.ParameterSource.ENVIRONMENT


def _token_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return read_secret(file.read(_TOKEN_BYTES).decode().strip())
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{path}: not UTF-8 text") from None
    except ValueError as error:
        raise click.ClickException(f"{path}: expected {error}") from None


def _given(metrics: tuple[str, ...], dimensions: tuple[str, ...], **more: Any) -> Given:
    try:
        return Given(metrics=read_metrics(metrics), dimension=read_pairs(dimensions), **more)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parse_address(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--socket") from None
    return text


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        duration = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"expected {error}", param_hint="--timeout") from None
    if duration <= 0:
        raise click.BadParameter("expected a duration above zero", param_hint="--timeout")
    return duration
