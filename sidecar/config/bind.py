"""Turns a tree of values with places into the model, collecting every mistake on the way.

`readers.py` has a reader for each type of the model. A problem reads `file:line: key: expected WHAT, got VALUE`.
"""

import difflib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from sidecar.config.model import NULL_IS_A_VALUE, SHORT, Document, File, Secret, Word
from sidecar.config.readers import READERS, read_secret
from sidecar.config.tree import Leaf, List, Map, Node
from sidecar.core.errors import in_words
from sidecar.core.units import Rate

_FAILED: Any = object()
_MAX_SECRET_BYTES = 10_000
_SECRETS = (Secret, tuple[Secret, ...])
_FILE = "_file"  # `access_token_file` reads the secret `access_token` from a file


class Binder:
    """Binds one tree. Afterwards `origins` tells where each value came from, and `problems` what is wrong.

    `bound` holds the parts that are right, by name, also where others are not.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []
        self.origins: dict[str, str] = {}
        self.bound: dict[str, msgspec.Struct] = {}

    def bind(self, kind: Any, node: Node, name: str = "") -> Any:
        """Return a value of type `kind` from `node`, or a mark that only `bind` knows, with the problems noted."""
        if kind is Document:
            self.origins[name] = node.place
            return plain(node)
        if _is_struct(kind):
            return self._struct(kind, node, name)
        if get_origin(kind) is dict:
            return self._dict(get_args(kind)[1], node, name)
        if get_origin(kind) is tuple:
            return self._tuple(get_args(kind)[0], node, name)
        return self._leaf(kind, node, name)

    def _struct(self, kind: type[msgspec.Struct], node: Node, name: str) -> Any:
        # A section whose keys are all commented out is null in YAML: it means the defaults.
        if isinstance(node, Leaf) and node.value is None and kind not in NULL_IS_A_VALUE:
            node = Map({}, {}, node.place)
        if isinstance(node, Leaf | List) and kind in SHORT:
            node = Map({SHORT[kind]: node}, {SHORT[kind]: node.place}, node.place)
        if not isinstance(node, Map):
            return self._problem(node.place, name, "expected keys and values", node)
        hints = get_type_hints(kind)
        types_of = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}
        self._refuse_unknown(types_of, node, name)
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            key, wanted = field.encode_name, hints[field.name]
            path = _join(name, key)
            if key in node.items:
                values[field.name] = self.bind(wanted, node.items[key], path)
            elif wanted in _SECRETS and key + _FILE in node.items:
                values[field.name] = self._secret_file(wanted, node.items[key + _FILE], path + _FILE)
            elif field.required:
                # Binding goes on after a mistake, so that all mistakes are reported at once.
                values[field.name] = _FAILED
                self._problem(node.place, path, "missing" + _file_hint(wanted, path))
        if any(value is _FAILED for value in values.values()):
            return _FAILED
        self.bound[name] = made = kind(**values)
        return made

    def _refuse_unknown(self, types_of: dict[str, Any], node: Map, name: str) -> None:
        secrets = [key + _FILE for key, kind in types_of.items() if kind in _SECRETS]
        known = [*types_of, *secrets]
        for key in node.items:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
                hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
                self._problem(node.places[key], _join(name, key), f"unknown key; {hint}")
        for secret in secrets:
            if secret in node.items and secret.removesuffix(_FILE) in node.items:
                plain = secret.removesuffix(_FILE)
                self._problem(node.places[secret], _join(name, secret), f"set beside {plain}; keep one of them")

    def _dict(self, kind: Any, node: Node, name: str) -> Any:
        if isinstance(node, Leaf) and node.value is None:
            return {}
        if not isinstance(node, Map):
            return self._problem(node.place, name, "expected names, each with keys and values", node)
        values = {key: self.bind(kind, value, _join(name, key)) for key, value in node.items.items()}
        return _FAILED if any(value is _FAILED for value in values.values()) else values

    def _tuple(self, kind: Any, node: Node, name: str) -> Any:
        if isinstance(node, Leaf) and kind is Word:
            node = List((node,), node.place)
        if not isinstance(node, List):
            return self._problem(node.place, name, "expected a list such as [a, b]", node)
        self.origins[name] = node.place
        read = self._struct if _is_struct(kind) else self._leaf
        values = tuple(read(kind, item, f"{name}[{index}]") for index, item in enumerate(node.items))
        return _FAILED if any(value is _FAILED for value in values) else values

    def _leaf(self, kind: Any, node: Node, name: str) -> Any:
        self.origins[name] = node.place
        if not isinstance(node, Leaf):
            return self._problem(node.place, name, "expected a single value", node)
        if get_origin(kind) in (Union, types.UnionType):
            if node.value is None:
                # None as a rate means unlimited: an empty value must not remove the limit by accident.
                return None if kind != (Rate | None) else self._problem(node.place, name, "expected a rate", node)
            kind = next(part for part in get_args(kind) if part is not types.NoneType)
        if get_origin(kind) is Literal and kind not in READERS:
            if node.value in get_args(kind):
                return node.value
            return self._problem(node.place, name, f"expected {' or '.join(map(str, get_args(kind)))}", node)
        try:
            value = READERS[kind](node.value)
        except ValueError as error:
            # A secret of a wrong form may still be a secret, so it is not shown.
            return self._problem(node.place, name, f"expected {error}", node if kind is not Secret else None)
        return self._beside(node, value) if kind is File else value

    def _secret_file(self, kind: Any, node: Node, name: str) -> Any:
        """Read one secret, or one in each line."""
        self.origins[name] = node.place
        if not isinstance(node, Leaf) or not isinstance(node.value, str):
            return self._problem(node.place, name, "expected the path of a file", node)
        path = self._beside(node, Path(node.value))
        try:
            text = _read_small(path)
            return read_secret(text) if kind is Secret else tuple(map(read_secret, text.splitlines() or [""]))
        except OSError as error:
            return self._problem(node.place, name, f"{path}: {in_words(error)}")
        except UnicodeDecodeError:
            return self._problem(node.place, name, f"{path}: not UTF-8 text")
        except ValueError as error:
            return self._problem(node.place, name, f"{path}: expected {error}")

    def _beside(self, node: Node, path: Path) -> Path:
        """Return where a file is that `node` names: systemd's credentials, or beside the file that names it."""
        beside = Path(node.place.rpartition(":")[0]).parent
        return Path(self.environ.get("CREDENTIALS_DIRECTORY", beside)) / path

    def _problem(self, place: str, name: str, message: str, node: Node | None = None) -> Any:
        got = f", got {_shown(node)}" if node is not None and not _may_be_secret(name, node) else ""
        self.problems.append(f"{place}: {name}: {message}{got}" if name else f"{place}: {message}{got}")
        return _FAILED


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in READERS


def plain(node: Node) -> Any:
    """Return `node` as Python's own values."""
    if isinstance(node, Leaf):
        return node.value
    if isinstance(node, List):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.items.items()}


def _read_small(path: Path) -> str:
    """Return the text of a small file. Raises OSError, UnicodeDecodeError or ValueError."""
    # To open a FIFO would wait for a writer, and the start would wait with it.
    if not path.is_file():
        path.stat()  # says why, if it is not there at all
        raise ValueError("a file")
    with path.open("rb") as file:
        return file.read(_MAX_SECRET_BYTES).decode("utf-8").strip()


def _join(above: str, key: str) -> str:
    return f"{above}.{key}" if above else key


def _file_hint(kind: Any, path: str) -> str:
    return f" (or {path}{_FILE}, the path of a file that holds it)" if kind is Secret else ""


def _may_be_secret(name: str, node: Node) -> bool:
    """Hide a token or a password that stands in the wrong place."""
    return isinstance(node, Leaf) and ((name.startswith("streams.") and name.count(".") == 1) or "@" in str(node.value))


def _shown(node: Node) -> str:
    if isinstance(node, Leaf):
        return "nothing" if node.value is None else str(node.value)
    return "a list" if isinstance(node, List) else "keys and values"
