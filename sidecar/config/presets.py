"""Fills in what a preset stands for: `parse: nginx` is a few ordinary keys of a tail, which stand in presets.yml.

A key that the tail gives itself counts; `event.timestamp` and `multiline` are each taken as a whole, but for the time
zone, which may be given alone. Behind `parse: {format: cri}`, `then: nginx` does the same for what the program wrote.
"""

from functools import cache
from importlib.resources import files

import msgspec

from sidecar.config.tree import Leaf, Map, Node, read_text

_WHOLE = {"timestamp": {"timezone"}, "multiline": {"max_lines", "flush_after"}}
"""Keys whose parts make no sense without one another, and what of them may be given alone."""


@cache
def presets() -> dict[str, Map]:
    """Return the keys of a tail that each preset stands for, by its name."""
    text = files("sidecar.config").joinpath("presets.yml").read_text("utf-8")
    tree = read_text(text, "presets.yml")
    return {name: _placed(node, f"preset {name}") for name, node in tree.items.items() if isinstance(node, Map)}


def preset_names() -> list[str]:
    """Return the names of all presets."""
    return list(presets())


def with_presets(tree: Map) -> Map:
    """Return the tree with the presets of its tails filled in."""
    tails = tree.items.get("tails")
    if not isinstance(tails, Map):
        return tree
    filled = {name: _filled(node) if isinstance(node, Map) else node for name, node in tails.items.items()}
    return _with(tree, "tails", msgspec.structs.replace(tails, items=filled))


def _filled(tail: Map) -> Map:
    parse = tail.items.get("parse")
    key = "parse"
    if isinstance(parse, Map):
        key = "then" if "then" in parse.items else "format"
    named = parse.items.get(key) if isinstance(parse, Map) else parse
    if isinstance(named, Map):
        named = named.items.get("format")
    preset = presets().get(str(named.value)) if isinstance(named, Leaf) else None
    if preset is None or not isinstance(rule := preset.items["parse"], Map):
        return tail
    rest = Map({name: node for name, node in preset.items.items() if name != "parse"}, preset.places, preset.place)
    if not isinstance(parse, Map):
        return _with(_below(tail, rest), "parse", rule)
    if key == "then":
        return _with(_below(tail, rest), "parse", _with(parse, "then", rule))
    own = Map({name: node for name, node in parse.items.items() if name != "format"}, parse.places, parse.place)
    return _with(_below(tail, rest), "parse", _below(own, rule))


def _below(own: Map, preset: Map) -> Map:
    """Return `own` with what only the preset has."""
    items, places = dict(own.items), dict(own.places)
    for key, node in preset.items.items():
        there = items.get(key)
        if there is None:
            items[key], places[key] = node, preset.places[key]
        elif isinstance(there, Map) and isinstance(node, Map) and _may_join(key, there):
            items[key] = _below(there, node)
    return Map(items, places, own.place)


def _may_join(key: str, own: Map) -> bool:
    return key not in _WHOLE or _WHOLE[key].issuperset(own.items)


def _with(tree: Map, key: str, node: Node) -> Map:
    return Map({**tree.items, key: node}, {**tree.places, key: tree.places.get(key, node.place)}, tree.place)


def _placed(node: Map, place: str) -> Map:
    """Return `node` as if all of it stood at `place`."""
    return Map(
        {key: _moved(inner, place) for key, inner in node.items.items()}, dict.fromkeys(node.items, place), place
    )


def _moved(node: Node, place: str) -> Node:
    return _placed(node, place) if isinstance(node, Map) else msgspec.structs.replace(node, place=place)
