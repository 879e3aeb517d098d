"""conf.d becomes one immutable `Config`, or every mistake in it at once.

`model.py` holds the keys and every default, `tree.py` reads and merges YAML with places, `bind.py` turns the tree into
the model, `load.py` joins them with the command line and the environment, `tls.py` turns the named PEM files into a
context, `show.py` prints the result with origins.
"""

from sidecar.config.load import Loaded, Options, load_config
from sidecar.config.model import Address, Config, Http, Proxy, Queue, Stream
from sidecar.config.reload import merge_reloadable
from sidecar.config.tls import tls_context

__all__ = [
    "Address",
    "Config",
    "Http",
    "Loaded",
    "Options",
    "Proxy",
    "Queue",
    "Stream",
    "load_config",
    "merge_reloadable",
    "tls_context",
]
