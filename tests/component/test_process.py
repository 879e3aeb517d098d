"""What is set once for the whole process, and where it cannot be set."""

import ctypes

import pytest

from sidecar.host.process import keep_freed_memory


class NoGlibc:
    """musl and macOS have no mallopt."""


def test_where_the_system_cannot_be_told_it_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []

    class Glibc:
        def mallopt(self, parameter: int, value: int) -> int:
            told.append((parameter, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Glibc())
    keep_freed_memory()
    assert [parameter for parameter, _ in told] == [-3, -1]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: NoGlibc())
    keep_freed_memory()
