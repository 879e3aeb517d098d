"""Defines the JSON between a command and the running sidecar: what the control socket is asked, and answers."""

from typing import Annotated, Literal

import msgspec

from sidecar.core.filters import DeadFilter, KeptFilter

RowId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Try this stream at once; its name, or its data_id."""

    stream: str


class DeadRound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Put back or purge dead letters behind row `after_id`."""

    wanted: DeadFilter
    after_id: RowId = 0


class ReplayRound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Replay kept deliveries behind row `after_id`. `proxy`: to send them to, else the usual ones."""

    wanted: KeptFilter
    proxy: str | None = None
    after_id: RowId = 0


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drop what waits to be replayed."""


class MoveTail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Read the files of a tail, or the one at `path`, anew (`reset`), or not what is there of them now (`skip`)."""

    tail: str
    action: Literal["reset", "skip"]
    path: str | None = None


class Files(msgspec.Struct, frozen=True):
    """Counts the files that were moved."""

    files: int


class AskTails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Show every file of every tail."""


class SeenDead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody has looked at the dead letters up to this number."""

    through_id: RowId


class Reload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Read the configuration again."""


class Reloaded(msgspec.Struct, frozen=True):
    """Tells what is in force now. `at_restart`: keys that have changed, and count only after a restart."""

    generation: int
    at_restart: list[str]
