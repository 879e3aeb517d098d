"""Says how tails and their files stand."""

import msgspec

from sidecar.core.model import Loss
from sidecar.host.clock import boot_clock
from sidecar.inputs.tail.tracked_file import TrackedFile
from sidecar.inputs.tail.watcher import AS_CONFIGURED
from sidecar.inputs.tail.worker import Worker
from sidecar.status.document import InputStatus
from sidecar.status.tails import FileState, ShownFile, ShownLoss, ShownTail


def show_tail(worker: Worker, stream: str) -> ShownTail:
    """Return how a tail stands."""
    files = list(worker.registry.files.values())
    unreadable = _unreadable(worker, files)
    return ShownTail(
        name=worker.name,
        stream=stream,
        files=len(files),
        lag_bytes=sum([file.lag_bytes for file in files]),
        polling=worker.polling,
        waiting=worker.waiting,
        unreadable=len(unreadable),
        unreadable_first=next((f"{text_of(path)}: {why}" for path, why in unreadable), None),
    )


def tail_status(worker: Worker, stream: str) -> InputStatus:
    """Return the part of the status document."""
    counts, shown = worker.counts, show_tail(worker, stream)
    return msgspec.structs.replace(
        counts.status(),
        stream=shown.stream,
        files=shown.files,
        lag_bytes=shown.lag_bytes,
        lines=dict(counts.lines),
        recent=counts.recent.counts(boot_clock()),
        losses=counts.losses,
        polling=shown.polling if shown.polling != AS_CONFIGURED else None,
        waiting=shown.waiting,
        unreadable=shown.unreadable,
        unreadable_first=shown.unreadable_first,
    )


def _unreadable(worker: Worker, files: list[TrackedFile]) -> list[tuple[str, str]]:
    ignored = worker.ignored
    found = [(file.at, file.error) for file in files if file.error is not None and not file.is_finished]
    return found + [(path, why) for path, why in list(ignored.shown.items()) if path in ignored.closed]


def show_files(worker: Worker, now_s: float, now_ms: int) -> list[ShownFile]:
    """Return every file of a tail, and what matches its patterns and is not followed."""
    files = list(worker.registry.files.values())
    refused = [_refused(worker.name, path, why) for path, why in list(worker.ignored.shown.items())]
    return [_file(worker, file, now_s, now_ms) for file in files] + refused


def show_loss(loss: Loss) -> ShownLoss:
    """Return a loss as it is shown."""
    return ShownLoss(
        tail=loss.tail,
        path=text_of(loss.path),
        offset=loss.offset,
        at_most=loss.at_most,
        reason=loss.reason,
        why=loss.why,
        since_at=loss.since_ms,
        found_at=loss.found_ms,
    )


def text_of(path: str) -> str:
    """Return a path as text; bytes that are no UTF-8 are replaced."""
    return path.encode(errors="surrogateescape").decode(errors="replace")


def _file(worker: Worker, file: TrackedFile, now_s: float, now_ms: int) -> ShownFile:
    state, why = _state(worker, file)
    return ShownFile(
        tail=worker.name,
        path=text_of(file.path),
        at=text_of(file.at),
        device=file.reached.device,
        inode=file.reached.inode,
        offset=file.committed.offset,
        size=file.observed.size,
        lag_bytes=file.lag_bytes,
        lag_s=round(max(0, now_ms - file.observed.caught_up_ms) / 1000, 1) if file.lag_bytes else 0.0,
        rate_bytes_s=round(file.observed.rate(now_s), 1),
        last_event_at=file.last_event_ms,
        state=state,
        why=why,
    )


def _state(worker: Worker, file: TrackedFile) -> tuple[FileState, str | None]:
    if file.error is not None:
        return "error", file.error
    if worker.waiting and file.lag_bytes:
        return "waiting", worker.waiting
    before = file.after
    if before is not None and before.number in worker.registry.files and not before.is_drained:
        return "behind", f"{text_of(before.at)} is read first"
    if file.remainder.since_s is not None:
        return "held", "what is left may be the beginning of a longer line, or group of lines"
    if file.lag_bytes:
        return "reading", None
    return ("rotated", "read to its end; looked at as long as it is there") if file.is_rotated else ("idle", None)


def _refused(tail: str, path: str, why: str) -> ShownFile:
    return ShownFile(
        tail=tail,
        path=text_of(path),
        at=text_of(path),
        device=0,
        inode=0,
        offset=0,
        size=0,
        lag_bytes=0,
        lag_s=0.0,
        rate_bytes_s=0.0,
        last_event_at=None,
        state="refused",
        why=why,
    )
