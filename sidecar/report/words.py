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
