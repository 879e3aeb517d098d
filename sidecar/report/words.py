"""How a JSON value is called in the answer to a client."""

from typing import Any


def describe(value: Any) -> str:
    """`an array` for a list, `null` for None; short numbers are shown, since they are what the client looks for."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            text = repr(value)
            return text if len(text) <= 24 else "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def describe_json(text: bytes) -> str:
    """The same for a value that stands in JSON, told from its first byte."""
    match text[:1]:
        case b"n":
            return "null"
        case b"t" | b"f":
            return "a boolean"
        case b'"':
            return "a string"
        case b"[":
            return "an array"
        case b"{":
            return "an object"
        case _:
            return "a number"
