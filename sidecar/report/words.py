"""Words a JSON value for the answer to a client, and what is wrong with one."""

from typing import Any


def describe(value: Any) -> str:
    """Return the name of a type: `an array` for a list, `null` for None.

    Short numbers are shown, since they are what the client looks for.
    """
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
    """Return the same for a value that stands in JSON, told from its first byte."""
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


def foreign(error: Exception) -> str:
    """Say in our words what msgspec has against a text."""
    text = str(error)
    if text.startswith("Expected `object`"):
        return text.replace("Expected `object`, got", "expected a JSON object, got").split(" - at")[0]
    return "not valid JSON: " + text.removeprefix("JSON is malformed: ")
