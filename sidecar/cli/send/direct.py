"""Posts one report directly to a cloud area's proxy: what `bkmonitorbeat -report` falls back to where no sidecar runs.

Nothing is kept on disk. The report is first checked by the sidecar's rules, since the proxy takes things that it then
loses. It is one request for each call of the command, and pauses of a second and more lie between its attempts.
"""

import http.client
import time
from urllib.parse import urlsplit

import msgspec

from sidecar.cli.send.http_link import TIMEOUT_S, HttpLink
from sidecar.cli.send.outbox import Report
from sidecar.config import Config, tls_context
from sidecar.core.errors import Rejected
from sidecar.forward import push_url
from sidecar.intake import Router
from sidecar.report import Envelope, check_items


def open_proxy(url: str, config: Config) -> HttpLink:
    """Return the way to a proxy; it connects with the report. Raises ConfigError for files of https."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=tls_context(config.proxy)
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    return HttpLink(url, connection, urlsplit(push_url(url)).path, _Checked(config))


class _Checked:
    """Makes the body for a proxy: with the configured token, and nothing in them that the proxy would not take."""

    def __init__(self, config: Config) -> None:
        self._router = Router(config)
        self._own_target, self._event_bytes = config.defaults.own_target, config.proxy.event_bytes

    def __call__(self, report: Report) -> tuple[bytes, str]:
        """Return the body, and the token in it. Raises Rejected."""
        pipe = report.pipe
        route = self._router.resolve(Envelope(pipe.data_id, pipe.token, pipe.stream, b"", repaired=False))
        rules = msgspec.structs.replace(route.local_rules, max_ahead_ms=0)
        limit_bytes = self._event_bytes
        checked = check_items(
            b"[%b]" % report.events(self._own_target), rules,
            now_ms=int(time.time() * 1000), block_bytes=limit_bytes, event_bytes=limit_bytes,
        )  # fmt: skip
        if len(checked.blocks) > 1:
            raise Rejected(413, f"over {limit_bytes} bytes, more than the proxy takes")
        named = msgspec.json.encode({"data_id": route.data_id, "access_token": route.token})
        return named[:-1] + b',"data":[' + checked.blocks[0].body + b"]}", route.token
