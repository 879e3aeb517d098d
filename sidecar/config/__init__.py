"""conf.d becomes one immutable `Config`, or every mistake in it at once.

`model.py` holds the keys and every default, `tree.py` reads and merges YAML with places, `bind.py` turns the tree into
the model with the `readers.py` of single values, `load.py` joins them with the command line and the environment,
`sockets.py`, `tails.py` and `tls.py` look at what concerns several keys, `show.py` prints the result with origins.
"""

from sidecar.config.addresses import host_address, is_loopback, is_own_address, is_own_listener
from sidecar.config.load import Loaded, Options, Readable, load_config, load_good_parts, load_readable
from sidecar.config.model import (
    ENVELOPE_BYTES,
    Address,
    Config,
    FieldCondition,
    Http,
    Listen,
    Proxy,
    QueueSettings,
    Raw,
    Socket,
    Stream,
    Tail,
    TailTest,
    stream_name,
)
from sidecar.config.presets import preset_names
from sidecar.config.readers import parse_address, parse_url, read_secret
from sidecar.config.reload import merge_reloadable
from sidecar.config.sockets import group_id, user_id
from sidecar.config.tails import tail_warnings
from sidecar.config.tls import client_certificate_expires_s, tls_context
from sidecar.config.tree import as_yaml

__all__ = [
    "ENVELOPE_BYTES",
    "Address",
    "Config",
    "FieldCondition",
    "Http",
    "Listen",
    "Loaded",
    "Options",
    "Proxy",
    "QueueSettings",
    "Raw",
    "Readable",
    "Socket",
    "Stream",
    "Tail",
    "TailTest",
    "as_yaml",
    "client_certificate_expires_s",
    "group_id",
    "host_address",
    "is_loopback",
    "is_own_address",
    "is_own_listener",
    "load_config",
    "load_good_parts",
    "load_readable",
    "merge_reloadable",
    "parse_address",
    "parse_url",
    "preset_names",
    "read_secret",
    "stream_name",
    "tail_warnings",
    "tls_context",
    "user_id",
]
