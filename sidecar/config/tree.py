"""Reads YAML files into one tree in which every value knows its place, and merges files in lexical order.

It keeps what PyYAML's loader forgets: line numbers and keys that are set twice. It knows nothing of the keys' meaning.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import yaml

from sidecar.core.errors import in_words

Scalar = str | int | float | bool | None
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})\Z")  # 18 digits always fit into 64 bits
_MAX_FILE_BYTES = 1_000_000


class Leaf(msgspec.Struct, frozen=True):
    """A scalar. `place` is `file:line`, or the option or variable that set it."""

    value: Scalar
    place: str


class List(msgspec.Struct, frozen=True):
    """A list of scalars or, where somebody got it wrong, of anything."""

    items: tuple["Node", ...]
    place: str


class Map(msgspec.Struct, frozen=True):
    """A mapping; `places` holds where each key stands, `overriding` the keys that are to win over earlier files."""

    items: dict[str, "Node"]
    places: dict[str, str]
    place: str
    overriding: frozenset[str] = frozenset()


Node = Leaf | List | Map


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with only the words true and false as booleans, no dates, octals or base-60 numbers, and no aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # An unquoted *.log is an alias for YAML; and nested aliases can grow without bound.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="*aliases are not supported; put the value in quotes", problem_mark=mark)
        return super().compose_node(parent, index)


_OVERRIDE = "!override"
# YAML 1.1 reads `no` as false, 0660 as octal and 10:30 as a base-60 number; in conf.d they are meant as text.
_Loader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [pair for pair in resolvers if pair[0] == "tag:yaml.org,2002:null"])
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)\Z"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-0123456789"))


def files_of(where: Path) -> list[Path]:
    """Return the YAML files of a conf.d directory in lexical order; a file stands for itself. Raises OSError."""
    if not where.is_dir():
        return [where]
    return sorted(path for path in where.iterdir() if path.suffix in (".yml", ".yaml") and path.is_file())


def read_tree(paths: list[Path], environ: Mapping[str, str], problems: list[str], texts: dict[Path, str]) -> Map:
    """Return the merged tree of `paths`; what cannot be read, parsed or merged is added to `problems`.

    `texts` is what was read of them before, and is not read again; what is read now is added.
    """
    merged = Map({}, {}, str(paths[0]) if paths else "")
    for path in paths:
        reader = _Reader(str(path), environ, problems)
        document = reader.read(path, texts)
        if document is not None:
            merged = _merge(merged, document, "", problems)
    return merged


def as_yaml(document: Mapping[str, object]) -> str:
    """Return a document as text, for a person to go on with."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def read_text(text: str, name: str) -> Map:
    """Return the tree of a text that is known to be good, called `name`."""
    root = yaml.compose(text, _Loader)
    document = _Reader(name, {}, []).document(root)
    assert document is not None
    return document


def _merge(first: Map, second: Map, above: str, problems: list[str]) -> Map:
    items, places = dict(first.items), dict(first.places)
    for key, node in second.items.items():
        name, old = f"{above}{key}", items.get(key)
        # An empty `streams:` in one file must not collide with the streams of another file.
        if old is None or key in second.overriding or (_is_null(old) and isinstance(node, Map)):
            items[key], places[key] = node, second.places[key]
        elif _is_null(node) and isinstance(old, Map):
            continue  # a key whose values are all commented out
        elif isinstance(old, Map) and isinstance(node, Map):
            items[key] = _merge(old, node, f"{name}.", problems)
        else:
            problems.append(
                f"{second.places[key]}: {name}: set twice, first at {places[key]}; keep one of them, or write"
                f" `{key}: !override ...` here"
            )
    return Map(items, places, first.place)


def _is_null(node: Node) -> bool:
    return isinstance(node, Leaf) and node.value is None


def _loader_tag(node: yaml.Node) -> str:
    """Return the tag that a scalar has without the one that was written."""
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return "tag:yaml.org,2002:str"
    return str(_Loader("").resolve(yaml.ScalarNode, node.value, (True, False)))  # type: ignore[no-untyped-call]


class _Reader:
    def __init__(self, name: str, environ: Mapping[str, str], problems: list[str]) -> None:
        self.name, self.environ, self.problems = name, environ, problems

    def read(self, path: Path, texts: dict[Path, str]) -> Map | None:
        try:
            if path not in texts:
                # A wrong --config, such as a log of gigabytes, must not be read into memory.
                if path.stat().st_size > _MAX_FILE_BYTES:
                    self.problems.append(f"{path}: larger than {_MAX_FILE_BYTES} bytes, not a configuration")
                    return None
                texts[path] = path.read_text("utf-8")
            text = texts[path]
            root = yaml.compose(text, _Loader)
        except OSError as error:
            self.problems.append(f"{path}: cannot be read: {in_words(error)}")
        except UnicodeDecodeError as error:
            self.problems.append(f"{path}: not UTF-8 (byte {error.start})")
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            hint = "; put a value with ${...} in quotes" if "${" in "".join(text.splitlines()[line - 1 : line]) else ""
            self.problems.append(f"{path}:{line}: not YAML: {error.problem}{hint}")
        except (yaml.YAMLError, RecursionError) as error:
            self.problems.append(f"{path}: not YAML: {str(error).splitlines()[0]}")
        else:
            return self.document(root)
        return None

    def document(self, root: yaml.Node | None) -> Map | None:
        """Return the tree of a document; None, with the problem noted, if it is no mapping."""
        if root is None:
            return Map({}, {}, self.name)
        node = self._node(root, depth=0)
        if not isinstance(node, Map):
            self.problems.append(f"{self.name}:1: expected keys and values such as `proxy: {{urls: [...]}}`")
            return None
        return node

    def _place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def _node(self, node: yaml.Node, depth: int) -> Node:
        if depth > 20:
            self.problems.append(f"{self._place(node)}: nested too deep")
            return Leaf(None, self._place(node))
        if isinstance(node, yaml.MappingNode):
            return self._map(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return List(tuple(self._node(item, depth + 1) for item in node.value), self._place(node))
        return Leaf(self._scalar(node), self._place(node))

    def _map(self, node: yaml.MappingNode, depth: int) -> Map:
        items: dict[str, Node] = {}
        places: dict[str, str] = {}
        overriding = set()
        for key, value in self._pairs(node):
            if key in items:
                self.problems.append(f"{self._place(value)}: {key}: set twice, first at {places[key]}; keep one")
                continue
            places[key] = self._place(value)
            if value.tag == _OVERRIDE:
                overriding.add(key)
                # The tag !override hides the type: without this line `!override 5` would be text.
                value.tag = _loader_tag(value)
            items[key] = self._node(value, depth + 1)
        return Map(items, places, self._place(node), frozenset(overriding))

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, value
            else:
                self.problems.append(f"{self._place(key)}: a key must be a word")

    def _scalar(self, node: yaml.Node) -> Scalar:
        text = str(node.value)
        match node.tag.rsplit(":", 1)[-1]:
            case "null":
                return None
            case "bool" if text in ("true", "false"):
                return text == "true"
            case "int" if _INTEGER.fullmatch(text):
                return int(text)
            case _:
                return self._expand(text, node)

    def _expand(self, text: str, node: yaml.Node) -> str:
        def value(found: re.Match[str]) -> str:
            if found[1] not in self.environ:
                self.problems.append(f"{self._place(node)}: ${{{found[1]}}}: no such environment variable")
            return self.environ.get(found[1], "")

        return _VARIABLE.sub(value, text)
