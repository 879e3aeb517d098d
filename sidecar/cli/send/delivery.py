"""Brings an outbox to its end, over one connection after another if need be. How each speaks is its own business."""

import time
from collections.abc import Callable

from sidecar.cli.send.destination import NoSidecarError
from sidecar.cli.send.link import BrokenError, GaveUpError, Patience, SendLink
from sidecar.cli.send.outbox import ReportOutbox
from sidecar.core.backoff import Backoff

_BACKOFF = Backoff(first_s=0.02, cap_s=1.0)


def deliver(
    link: SendLink,
    outbox: ReportOutbox,
    patience: Patience,
    *,
    connect: Callable[[], SendLink] | None,
    distrust: Callable[[str], None],
) -> None:
    """Over `link` first; what is open when a connection is lost is sent again over what `connect` gives, if anything.

    `distrust` hears of a way that was shut without a word. Raises GaveUpError and StoppedError.
    """
    failures = 0  # in a row, without anything settled in between
    current: SendLink | None = link
    while True:
        settled = outbox.settled_events
        try:
            current = current or (connect() if connect else link)
            current.carry(outbox, patience)
            return
        except (BrokenError, NoSidecarError) as error:
            outbox.take_back()
            if current is not None and isinstance(error, BrokenError) and error.silent:
                distrust(current.name)
            if connect is None or not patience.left_s:
                raise GaveUpError(str(error)) from None
            failures = 1 if outbox.settled_events > settled else failures + 1
        finally:
            if current is not None:
                current.close()
                current = None
        time.sleep(min(_BACKOFF.longest_s(failures), patience.left_s))
