"""Durations, sizes and rates as people write them."""

import pytest

from node.quantities import parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("24h", 86400), ("7d", 604800), ("1h30m", 5400), ("0s", 0), ("2w", 1209600)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500G", 500 * 2**30),
        ("8MiB", 8 * 2**20),
        ("100MB", 10**8),
        ("1.5K", 1536),
        ("12", 12),
        ("3B", 3),
        ("2kB", 2000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_rates() -> None:
    assert parse_rate("8MiB/s") == 8 * 2**20


@pytest.mark.parametrize("text", ["", "m", "5", "5 minutes", "-5m", "1.5h", "5M", "m5", "٥m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", "1GiBs", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "8MiB", "0/s", "8MiB/h", "fast/s", "/s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        parse_rate(text)
