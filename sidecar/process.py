"""What is set once for the whole process."""

import contextlib
import gc
import resource


def raise_file_limit() -> None:
    """To what the system allows: connections and files need many."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spare_the_collector() -> None:
    """What exists at the start stays; and events make no cycles, so looking for some can be rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
