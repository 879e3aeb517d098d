"""The sidecar's answers, from bytes that come in any pieces. It does not know which lines were sent."""

import json
from dataclasses import dataclass
from typing import Any

_MAX_ANSWER_BYTES = 65_536


class BadAnswer(Exception):
    """What came is not the sidecar's: the connection is of no use any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acked:
    """So many lines of this connection are on disk; refused ones do not count."""

    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """This line, the first is 1, will never be taken as it is."""

    line: int
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NotShown:
    """So many more lines were refused than the sidecar could say, since its answers were not read in time."""

    lines: int


Answer = Acked | Refused | NotShown


class Answers:
    """Cuts what arrives on one connection into answers."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that are complete now. Raises BadAnswer."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_ANSWER_BYTES:
            raise BadAnswer("an answer without an end")
        return [answer for line in lines if line.strip() and (answer := _parse(line)) is not None]


def _parse(line: bytes) -> Answer | None:
    """None for an answer of a kind that is not known here: a later sidecar may say more."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise BadAnswer(f"expected JSON, got {line[:80]!r}") from None
    match answer:
        case {"acked": total}:
            return Acked(total=_whole(total))
        case {"line": number, "error": error}:
            return Refused(line=_whole(number), error=str(error))
        case {"not_shown": lines}:
            return NotShown(lines=_whole(lines))
        case {}:
            return None
    raise BadAnswer(f"expected an object, got {line[:80]!r}")


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise BadAnswer(f"expected a whole number, got {value!r:.80}")
    return value
