"""Sizes, durations and rates of the configuration."""

import pytest

from sidecar.core.units import Rate, format_duration, format_size, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("500KB", 500_000), ("2GiB", 2**31), ("1.5 MB", 1_500_000), ("64mib", 2**26), ("10", 10), ("1TB", 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("7d", 604_800), ("5min", 300), ("5m", 300), ("12h", 43_200), ("0", 0), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "KB", "5 parsecs", "-1KB", "1e3", "٣KB", "1..5MB"])
def test_what_is_no_size_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="500KB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "10", "ten seconds", "-1s", "1y"])
def test_what_is_no_duration_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="250ms"):
        parse_duration(text)


def test_rates() -> None:
    assert parse_rate("1000/min") == Rate(1000, 60.0)
    assert parse_rate("20/s") == Rate(20, 1.0)
    assert parse_rate("5 / h") == Rate(5, 3600.0)
    assert parse_rate("unlimited") is None
    assert str(Rate(1000, 60.0)) == "1000/min"


@pytest.mark.parametrize("text", ["1000", "0/min", "-1/s", "1000/year", "many"])
def test_what_is_no_rate_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="1000/min"):
        parse_rate(text)


def test_for_people() -> None:
    assert [format_size(n) for n in (0, 1023, 1536, 2**31, 2**41)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "2.0 GiB",
        "2.0 TiB",
    ]
    assert [format_duration(s) for s in (0.25, 59.94, 60, 3725, 90_061)] == [
        "250ms",
        "59.9s",
        "1min",
        "1h 2min",
        "1d 1h",
    ]
