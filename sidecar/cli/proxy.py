"""`sidecar proxy`: the stand-in for the cloud-area proxy, with faults to switch on."""

import asyncio
import signal
import ssl
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from sidecar.config import Address, parse_address
from sidecar.core.errors import in_words
from sidecar.core.units import Bytes, Rate, parse_duration, parse_rate, parse_size
from sidecar.standin import Behind, Faults, PipeRules, StandIn, parse_fault, server_context


class _Parsed(click.ParamType[Any]):
    """A parameter read by a function that raises ValueError saying what would be right."""

    def __init__(self, name: str, parse: Any) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"expected {error}, got {value}", param, ctx)


def _pipe(text: str) -> tuple[int, str]:
    data_id, equals, token = text.partition("=")
    if not (equals and token and data_id.isdecimal()):
        raise ValueError("DATA_ID=TOKEN")
    return int(data_id), token


_ADDRESS = _Parsed("address", parse_address)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


@click.command()
@click.option(
    "--listen", type=_ADDRESS, default="127.0.0.1:10215", show_default=True, help="Where it behaves as a proxy."
)
@click.option("--control", type=_ADDRESS, default="127.0.0.1:10216", show_default=True, help="Where it takes commands.")
@click.option("--token", "tokens", type=_Parsed("pipe", _pipe), multiple=True, metavar="DATA_ID=TOKEN",
              help="The only valid token of a data_id. Without this option every token is valid.")  # fmt: skip
@click.option(
    "--rate",
    type=_Parsed("rate", parse_rate),
    default="1000/min",
    show_default=True,
    help="The most requests of one token, such as 1000/min, or unlimited.",
)
@click.option("--burst", type=click.IntRange(min=1), metavar="N",
              help="Limit as the real proxy does: a bucket of N requests, refilled at --rate. Without --burst, no"
              " time window has more requests than --rate.")  # fmt: skip
@click.option(
    "--max-body", type=_Parsed("size", parse_size), default="500KB", show_default=True, help="Larger ones get 413."
)
@click.option(
    "--fault",
    type=_Parsed("fault", parse_fault),
    default="none",
    metavar="MODE[:TIMES]",
    help="One of the faults above; with TIMES only for this many requests.",
)
@click.option("--retry-after", help="Retry-After of a fault that is a status, redirect or busy: seconds or a date.")
@click.option("--delay", "delay_s", type=float, default=5.0, show_default=True,
              help="Seconds that slow and busy wait.")  # fmt: skip
@click.option("--poison", multiple=True, metavar="TEXT", help="An event that contains TEXT is bad.")
@click.option("--poison-status", type=click.IntRange(400, 599), default=400, show_default=True,
              help="The answer to a bad event.")  # fmt: skip
@click.option("--data-id", "data_ids", type=int, multiple=True, metavar="DATA_ID",
              help="Limit fault and poison to the documents of this data_id; may be repeated.")  # fmt: skip
@click.option("--skew", "skew_s", type=click.FloatRange(-1e9, 1e9), default=0.0, metavar="SECONDS",
              help="How far its clock is ahead; negative: behind.")  # fmt: skip
@click.option(
    "--merge",
    "merge_s",
    type=_Parsed("duration", parse_duration),
    default="3s",
    show_default=True,
    help="For how long what was accepted of a data_id becomes one message behind; 0s: each document by itself.",
)
@click.option("--lossless", is_flag=True,
              help="Pass everything on that was accepted, where the real proxy would lose some.")  # fmt: skip
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append every document that has arrived behind to this file, numbered from 1 at each start.",
)
@click.option("--tls-cert", type=_FILE, help="Speak https with this certificate (PEM, followed by its chain).")
@click.option("--tls-key", type=_FILE, help="Its private key, unless --tls-cert holds it.")
@click.option("--client-ca", type=_FILE, help="Accept only clients with a certificate of this CA.")
def proxy(
    listen: Address,
    control: Address,
    tokens: tuple[tuple[int, str], ...],
    rate: Rate | None,
    burst: int | None,
    max_body: Bytes,
    fault: Faults,
    merge_s: float,
    record: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    *,
    lossless: bool,
    **more: Any,
) -> None:
    """Run a stand-in for the cloud-area proxy, to try things with.

    \b
    Faults. Only slow and reset-after store what was sent:
      down                       nobody listens
      503                        this status, or any other from 201 to 599; a 3xx leads elsewhere
      redirect                   302 without a body
      busy                       429 without a body, after --delay
      html, empty, garbled, array, string, no-result, false, large
                                 a 200 that is no proxy's: a captive portal's page, no body, binary, [], "ok",
                                 {"code":"200"}, result false, more than 64 KB
      reset-before, reset-after  a TCP reset, before or after the document was judged
      cut-head, cut-body         the connection closes in the middle of the answer's head, or body
      hang                       no answer, until the client gives up
      slow                       judges the document, after --delay
      garbage                    something that is not HTTP, and the end

    \b
    While it runs, on the control address:
      curl http://127.0.0.1:10216/                                     what it has seen
      curl -X PUT http://127.0.0.1:10216/faults -d '{"mode":"503"}'    a fault; {"mode":"none"} ends it
        beside mode: times, retry_after, delay_s, poison, poison_status, data_ids, skew_s
      curl http://127.0.0.1:10216/accepted?after=0                     what it accepted, a document a line
      curl http://127.0.0.1:10216/arrived?after=0                      what of it has arrived behind

    Behind its 200 the real proxy loses what it cannot decode a second time, and messages of 10 MiB; so does this one.
    """
    if burst and rate is None:
        raise click.UsageError("--burst needs a --rate")
    rules = PipeRules(tokens=dict(tokens), rate=rate, burst=burst, max_body_bytes=max_body)
    try:
        faults = msgspec.structs.replace(fault, **more)
    except ValueError as error:
        raise click.UsageError(f"--fault: {error}") from None
    tls = _tls(tls_cert, tls_key, client_ca)
    try:
        stand_in = StandIn(listen, control, rules, record, tls, Behind(merge_s, lossless=lossless))
    except OSError as error:
        raise click.UsageError(f"--record: {record}: {in_words(error)}") from None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(stand_in, faults))


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        if key or client_ca:
            raise click.UsageError("--tls-key and --client-ca need --tls-cert")
        return None
    try:
        return server_context(cert, key, client_ca)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


async def _run(stand_in: StandIn, faults: Faults) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stand_in.start()
    await stand_in.set_faults(faults)
    click.echo(f"stand-in proxy on {stand_in.url}, commands on {stand_in.control_url}, fault: {faults.mode}")
    await stop.wait()
    await stand_in.stop()
    click.echo(msgspec.json.encode(stand_in.summary()).decode())
