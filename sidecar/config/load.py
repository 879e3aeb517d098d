"""Joins the files, the command line and the environment, and checks what concerns more than one key."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sidecar.config.addresses import LOOPBACK, host_address, is_loopback, is_own_listener
from sidecar.config.bind import Binder
from sidecar.config.model import Config, Http, Proxy, Socket, Stream, Tail, TailTest
from sidecar.config.presets import with_presets
from sidecar.config.sockets import socket_problems
from sidecar.config.tails import tail_problems, test_problems
from sidecar.config.tls import tls_problems
from sidecar.config.tree import Leaf, List, Map, Node, files_of, read_tree
from sidecar.core.errors import ConfigError, in_words

SYSTEM_CONFIG = Path("/etc/sidecar/conf.d")
SYSTEM_STATE = Path("/var/lib/sidecar")
_NOWHERE = Path("/")
T = TypeVar("T", bound=msgspec.Struct)
_SECTIONS = ("proxy", "queue", "dead", "http", "defaults")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The values from the command line and SIDECAR_CONFIG, SIDECAR_PROXY and SIDECAR_STATE; None: not given."""

    config: Path | None = None
    proxies: tuple[str, ...] = ()
    proxies_from: str = "--proxy"
    state: Path | None = None
    state_from: str = "--state"


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A valid configuration, the files it came from, and the place each value came from (else it is a default).

    `with_address`: what the same files make of another address of this host. None: the address is not looked for,
    since HOST_IP is set. `address`: the one that `config` was made of; None: none was found, loopback stands in.
    """

    config: Config
    files: tuple[Path, ...]
    origins: dict[str, str]
    with_address: Callable[[str], Config] | None = None
    address: str | None = None


def load_config(options: Options, environ: Mapping[str, str], *, need_proxy: bool = True) -> Loaded:
    """Load the configuration.

    Raises ConfigError with every problem. Without `need_proxy` a missing `proxy.urls` is none of them.
    """
    problems: list[str] = []
    texts: dict[Path, str] = {}
    address = environ["HOST_IP"] if "HOST_IP" in environ else host_address()
    files, tree = _tree(options, {**environ, "HOST_IP": address or LOOPBACK}, problems, texts)
    binder = Binder(environ)
    config = binder.bind(Config, tree)
    problems += binder.problems
    problems += _across(binder, tree, need_proxy=need_proxy)
    if problems or not isinstance(config, Config):
        raise ConfigError(problems)

    def with_address(address: str) -> Config:
        # Not the files of now: an edit must not come into force before somebody asks for a reload.
        _, tree = _tree(options, {**environ, "HOST_IP": address}, [], texts)
        changed = Binder(environ).bind(Config, tree)
        return changed if isinstance(changed, Config) else config

    looked_for = None if "HOST_IP" in environ else with_address
    return Loaded(config=config, files=tuple(files), origins=binder.origins, with_address=looked_for, address=address)


def load_good_parts(options: Options, environ: Mapping[str, str]) -> Loaded:
    """Load what is right, for commands that only ask a sidecar whose state directory is given.

    The rest is as by default.
    """
    assert options.state is not None
    files, tree = _tree(options, environ, [])
    binder = Binder(environ)
    config = binder.bind(Config, tree)
    if not isinstance(config, Config):
        config = Config(state=options.state.absolute(), **_good_parts(binder.bound))
    return Loaded(config=config, files=tuple(files), origins=binder.origins)


class Readable(msgspec.Struct, frozen=True, kw_only=True):
    """The valid and readable part of a configuration. All other keys have their defaults.

    `defaults_known`: whether every file was read, and there was one, so that what `defaults` says can be relied upon.
    """

    config: Config
    defaults_known: bool


def load_readable(options: Options, environ: Mapping[str, str]) -> Readable:
    """Load what can be read, for commands that any user may call: files with tokens may be closed to them.

    Never raises, and complains about nothing. The state directory is not looked for.
    """
    problems: list[str] = []
    files, tree = _tree(msgspec.structs.replace(options, state=_NOWHERE), environ, problems)
    binder = Binder(environ)
    config = binder.bind(Config, tree)
    known = bool(files) and not problems and "defaults" in binder.bound
    if not isinstance(config, Config):
        config = Config(state=_NOWHERE, **_good_parts(binder.bound))
    return Readable(config=config, defaults_known=known)


def _good_parts(bound: Mapping[str, msgspec.Struct]) -> dict[str, Any]:
    parts: dict[str, Any] = {name: bound[name] for name in _SECTIONS if name in bound}
    kinds: tuple[tuple[str, type[msgspec.Struct]], ...] = (("streams.", Stream), ("sockets.", Socket))
    for above, kind in kinds:
        parts[above[:-1]] = {name.removeprefix(above): made for name, made in _those(bound, kind).items()}
    return parts


def _tree(
    options: Options, environ: Mapping[str, str], problems: list[str], texts: dict[Path, str] | None = None
) -> tuple[list[Path], Map]:
    """Return the files, and what stands in them and in the options; what is wrong with that is added to `problems`.

    `texts`: what was read of the files before, which counts; what is read now is added.
    """
    files = _files(options, problems)
    variables = _Environment(environ)
    tree = with_presets(read_tree(files, variables, problems, {} if texts is None else texts))
    tree = _override(tree, "defaults.ip", _own_address(variables, tree))
    tree = _override(tree, "proxy.urls", _urls(options))
    return files, _override(tree, "state", _state(options, tree))


class _Environment(dict[str, str]):
    """The environment, with HOST_IP for whoever does not set it: this host's own address."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        if "HOST_IP" not in self:
            self["HOST_IP"] = host_address() or LOOPBACK


def _files(options: Options, problems: list[str]) -> list[Path]:
    where = options.config or SYSTEM_CONFIG
    try:
        if options.config is None and not where.is_dir():
            where = Path("conf.d")
            if not where.is_dir():
                return []
        found = files_of(where)
    except OSError as error:
        problems.append(f"{where}: cannot be read: {in_words(error)}")
        return []
    if not found:
        problems.append(f"{where}: no .yml or .yaml files")
    return found


def _urls(options: Options) -> Node | None:
    if not options.proxies:
        return None
    return List(tuple(Leaf(url, options.proxies_from) for url in options.proxies), options.proxies_from)


def _own_address(environ: Mapping[str, str], tree: Map) -> Node | None:
    defaults = tree.items.get("defaults")
    given = isinstance(defaults, Map) and "ip" in defaults.items
    unreadable = defaults is not None and not isinstance(defaults, Map) and defaults != Leaf(None, defaults.place)
    return None if given or unreadable else Leaf(environ["HOST_IP"], "default")


def _state(options: Options, tree: Map) -> Node | None:
    if options.state is not None:
        return Leaf(str(options.state.absolute()), options.state_from)
    if "state" in tree.items:
        return None
    return Leaf(str(_default_state()), "default")


def _default_state() -> Path:
    probe = SYSTEM_STATE if SYSTEM_STATE.exists() else SYSTEM_STATE.parent
    if os.access(probe, os.W_OK):
        return SYSTEM_STATE
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "sidecar"


def _override(tree: Map, name: str, node: Node | None) -> Map:
    if node is None:
        return tree
    key, _, rest = name.partition(".")
    if rest:
        inner = tree.items.get(key)
        node = _override(inner if isinstance(inner, Map) else Map({}, {}, node.place), rest, node)
    return Map({**tree.items, key: node}, {**tree.places, key: tree.places.get(key, node.place)}, tree.place)


def _across(binder: Binder, tree: Map, *, need_proxy: bool) -> Iterable[str]:
    """Return what concerns more than one key, as far as the parts in question are right by themselves."""
    proxy = binder.bound.get("proxy") if "proxy" in tree.items else Proxy()
    http = binder.bound.get("http") if "http" in tree.items else Http()
    if isinstance(proxy, Proxy):
        yield from _across_proxy(proxy, http if isinstance(http, Http) else None, binder.origins, need_proxy=need_proxy)
    if isinstance(http, Http) and not is_loopback(http.listen.host) and not http.allow_remote:
        place = binder.origins.get("http.listen", "default")
        yield (
            f"{place}: http.listen: {http.listen} is open to other hosts; "
            "expected a loopback address, or http.allow_remote: true beside it"
        )
    if isinstance(http, Http):
        yield from _across_http(http, binder.origins)
    seen: dict[int, str] = {}
    for name, stream in binder.bound.items():
        if isinstance(stream, Stream):
            # Names are looked up by data_id: of two names for one data_id, one would hide the other.
            other = seen.setdefault(stream.data_id, name)
            if other != name:
                place = binder.origins[f"{name}.data_id"]
                yield f"{place}: {name}.data_id: {stream.data_id} is already the data_id of {other}"
    bound, streams = binder.bound, list(_names(tree.items.get("streams")))
    yield from socket_problems(_those(bound, Socket), streams, binder.origins)
    yield from tail_problems(_those(bound, Tail), _those(bound, Stream), streams, binder.origins)
    yield from test_problems(_those(bound, TailTest), _names(tree.items.get("tails")), binder.origins)


def _across_http(http: Http, origins: Mapping[str, str]) -> Iterable[str]:
    if http.tokens and not http.allow_remote:
        place = origins.get("http.tokens") or origins.get("http.tokens_file", "default")
        yield f"{place}: http.tokens: are for reports of other hosts; expected http.allow_remote: true beside them"
    if http.status_listen is not None and http.status_listen == http.listen and http.listen.port:
        yield f"{origins['http.status_listen']}: http.status_listen: is http.listen; expected another port"


def _those(bound: Mapping[str, msgspec.Struct], kind: type[T]) -> dict[str, T]:
    return {name: made for name, made in bound.items() if isinstance(made, kind)}


def _names(node: Node | None) -> Iterable[str]:
    return node.items if isinstance(node, Map) else ()


def _across_proxy(proxy: Proxy, http: Http | None, origins: Mapping[str, str], *, need_proxy: bool) -> Iterable[str]:
    if need_proxy and not proxy.urls:
        yield "proxy.urls: missing; set it in conf.d, or give --proxy http://PROXY:10205"
    for key, why in tls_problems(proxy):
        yield f"{origins[f'proxy.{key}']}: proxy.{key}: {why}"
    for url in proxy.urls:
        if http is not None and is_own_listener(url, http.listen):
            place = origins["proxy.urls"]
            yield f"{place}: proxy.urls: {url} is this sidecar's own http.listen; expected the cloud area's proxy"
