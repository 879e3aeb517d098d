"""Keeps what one connection still has to be told: refusals, and how many of its lines are committed. Pure.

However many lines are settled, there is one number to say, and a bounded text of refusals: a client that never reads
costs no more than that.
"""

import msgspec

from sidecar.core.errors import Rejection, Scope

_MAX_REFUSALS_BYTES = 65_536
_MESSAGE_CHARACTERS = 500


class _Answer(msgspec.Struct, omit_defaults=True):
    """`error` is for people: `place` and `problem` in one line. See `errors.Rejection`."""

    line: int
    error: str
    place: tuple[str | int, ...] = ()
    problem: str = ""
    scope: Scope = "report"


class _Untold(msgspec.Struct):
    not_shown: int
    error: str = "more lines were refused than could be said, since the answers were not read"


class _Acked(msgspec.Struct):
    acked: int


class Acks:
    """The answers of one connection that wait to be written: refusals, and one count of committed lines."""

    __slots__ = ("_refusals", "_refusals_bytes", "_told", "_untold", "acked")

    def __init__(self) -> None:
        self.acked = 0  # lines committed so far
        self._told = 0  # what the client knows of that
        self._refusals: list[bytes] = []  # to be written
        self._refusals_bytes = 0  # of all of them
        self._untold = 0  # refusals for which there was no room

    def committed(self, lines: int) -> None:
        """Note that so many more lines are committed."""
        self.acked += lines

    def reject(self, line: int, why: Rejection) -> None:
        """Note that line number `line`, counted from 1, will never be taken as it is."""
        if self._refusals_bytes >= _MAX_REFUSALS_BYTES:
            self._untold += 1
            return
        error, problem = why.message[:_MESSAGE_CHARACTERS], why.problem[:_MESSAGE_CHARACTERS]
        rejection = _Answer(line, error, why.place, problem if why.place else "", why.scope)
        refusal = msgspec.json.encode(rejection) + b"\n"
        self._refusals.append(refusal)
        self._refusals_bytes += len(refusal)

    def take(self) -> bytes:
        """Return all that is to be said now; empty if nothing has changed."""
        parts, self._refusals, self._refusals_bytes = self._refusals, [], 0
        if self._untold:
            parts.append(msgspec.json.encode(_Untold(self._untold)) + b"\n")
            self._untold = 0
        # After the refusals: a client counts them together with `acked` to know which lines are settled.
        if self.acked != self._told:
            self._told = self.acked
            parts.append(msgspec.json.encode(_Acked(self.acked)) + b"\n")
        return b"".join(parts)
