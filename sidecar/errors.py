"""Every exception that crosses a module border, named for what the caller does next.

    SidecarError
    ├── ConfigError        show every problem, exit 78
    ├── StartError         say why, exit 1
    ├── Refused            answer the client with `status`; the report must change first
    ├── Unavailable        answer 503; the same report may be sent again after `retry_after_s`
    └── Stale              read on from the checkpoint that is on disk; nothing of this was committed

Exceptions of libraries are translated once, in the module that owns the library.
"""

from collections.abc import Sequence

from sidecar.model import Checkpoint


class SidecarError(Exception):
    """Base of all errors that the sidecar raises on purpose."""


class ConfigError(SidecarError):
    """The configuration is wrong: `problems` holds one line for each mistake, all of them at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StartError(SidecarError):
    """The sidecar cannot start here and now: its state is in use, too new, damaged, or a port is taken."""


class Refused(SidecarError):
    """This report will never be taken as it is; nothing of it was queued."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Unavailable(SidecarError):
    """Nothing is wrong with the report; it cannot be put on disk now."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class Stale(SidecarError):
    """The checkpoint on disk is not the one that this was to follow; `checkpoint` is what stands there."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        super().__init__("the checkpoint on disk is another one")
        self.checkpoint = checkpoint
