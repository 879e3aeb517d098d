"""Every exception that crosses a module border, named for what the caller does next.

    SidecarError
    ├── ConfigError        show every problem, exit 78
    ├── StartError         say why, exit 1
    ├── Rejected            answer the client with `status`; the report must change first
    ├── Unavailable        answer 503; the same report may be sent again after `retry_after_s`
    └── Stale              read on from the checkpoint that is on disk; nothing of this was committed

Exceptions of libraries are translated once, in the module that owns the library.
"""

from collections.abc import Sequence
from typing import Literal, Self

import msgspec

from sidecar.core.model import Checkpoint

Place = tuple[str | int, ...]
Scope = Literal["event", "report", "stream"]
_PLACE_CHARACTERS = 120
REJECTION_HEADER = "x-sidecar-rejection"
"""The header that holds a `Rejection` as JSON in our own HTTP answers. The body has the proxy's words."""


def in_words(error: Exception) -> str:
    """Return what is wrong in the system's words, without the number and the path that Python adds to them."""
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error) or type(error).__name__


class SidecarError(Exception):
    """Base of all errors that the sidecar raises on purpose."""


class ConfigError(SidecarError):
    """The configuration is wrong: `problems` holds one line for each mistake, all of them at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StartError(SidecarError):
    """The sidecar cannot start here and now: its state is in use, too new, damaged, or a port is taken."""


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """Says what is wrong with a report, or with one event.

    `status`: the HTTP status of the answer. `problem` says what is wrong and what would be right; `place` says where:
    ("data", 3, "dimension", "module"), empty where it is the whole. `scope` says what else is rejected with it: nothing
    but this event, the report, or everything that names the stream as it does.
    """

    status: int
    problem: str
    place: Place = ()
    scope: Scope = "report"

    @property
    def message(self) -> str:
        """Return place and problem as one line for people."""
        return f"{_short(_in_words(self.place))}: {self.problem}" if self.place else self.problem


class Rejected(SidecarError):
    """The report is refused for good, and nothing of it was queued. The details are in `why`. A retry does not help."""

    def __init__(self, status: int, problem: str, place: Place = (), *, scope: Scope = "report") -> None:
        steps = tuple([_short(step) if type(step) is str else step for step in place])
        self.why = Rejection(status, problem, steps, scope)
        super().__init__(self.why.message)

    @classmethod
    def for_stream(cls, status: int, field: str, problem: str) -> Self:
        """Return that `field`, by which a report names its stream, is wrong."""
        return cls(status, problem, (field,), scope="stream")

    def inside(self, *outer: str | int) -> "Rejected":
        """Return the same about an event that stands at `outer` in a report."""
        return Rejected(self.why.status, self.why.problem, (*outer, *self.why.place), scope="event")


def _in_words(place: Place) -> str:
    """Return `data[3].dimension.module` for ("data", 3, "dimension", "module")."""
    return "".join([f"[{step}]" if type(step) is int else f".{step}" for step in place]).removeprefix(".")


def _short(text: str) -> str:
    return text if len(text) <= _PLACE_CHARACTERS else f"{text[:_PLACE_CHARACTERS]}..."


class Unavailable(SidecarError):
    """Nothing is wrong with the report; it cannot be put on disk now."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class Stale(SidecarError):
    """The checkpoint on disk is not the expected one, so nothing was committed. `checkpoint` is the one on disk."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        super().__init__("the checkpoint on disk is another one")
        self.checkpoint = checkpoint
