"""The sidecar's answers, from bytes that come in any pieces. It does not know which lines were sent."""

import json
from dataclasses import dataclass
from typing import Any

_MAX_ANSWER_BYTES = 65_536


class BadAnswer(Exception):
    """The received bytes are not an answer of a sidecar, so the connection cannot be used any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acked:
    """So many lines of this connection are on disk; refused ones do not count."""

    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LineRefused:
    """This line, the first is 1, will never be taken as it is.

    `error` says why. As data: `problem` at `place`, such as ("data", 0, "target"); with it goes what `scope` says:
    "event", "report" or "stream" (all of the same pipe). Without a place, `problem` is empty.
    """

    line: int
    error: str
    place: tuple[str | int, ...] = ()
    problem: str = ""
    scope: str = "report"


@dataclass(frozen=True, kw_only=True, slots=True)
class NotShown:
    """So many more lines were refused than the sidecar could say, since its answers were not read in time."""

    lines: int


Answer = Acked | LineRefused | NotShown


class Answers:
    """Cuts what arrives on one connection into answers."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Answer]:
        """Return the answers that are complete now. Raises BadAnswer."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_ANSWER_BYTES:
            raise BadAnswer("an answer without an end")
        return [answer for line in lines if line.strip() and (answer := _parse(line)) is not None]


def _parse(line: bytes) -> Answer | None:
    """Return one answer; None for an answer of a kind that is not known here: a later sidecar may say more."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise BadAnswer(f"expected JSON, got {line[:80]!r}") from None
    match answer:
        case {"acked": total}:
            return Acked(total=_whole(total))
        case {"line": number, "error": error}:
            return _refused(_whole(number), str(error), answer)
        case {"not_shown": lines}:
            return NotShown(lines=_whole(lines))
        case {}:
            return None
    raise BadAnswer(f"expected an object, got {line[:80]!r}")


def _refused(line: int, error: str, answer: dict[str, Any]) -> LineRefused:
    """Return a refusal; what is not as expected in the rest of it counts as not said."""
    place, problem, scope = (answer.get(name) for name in ("place", "problem", "scope"))
    steps = tuple(step for step in place if type(step) in (str, int)) if isinstance(place, list) else ()
    return LineRefused(
        line=line,
        error=error,
        place=steps if isinstance(problem, str) else (),
        problem=problem if isinstance(problem, str) and steps else "",
        scope=scope if isinstance(scope, str) else "report",
    )


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise BadAnswer(f"expected a whole number, got {value!r:.80}")
    return value
