"""Durations and sizes as people write them in the configuration and on the command line."""

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PREFIXES = "KMGTP"
_DURATION = re.compile(r"(\d+)([smhdw])", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGTPk])(iB|B)?|B)?", re.ASCII)


def parse_duration(text: str) -> int:
    """Seconds in ``"90m"``, ``"24h"``, ``"7d"`` or ``"1h30m"``. Raises ValueError saying what is wanted."""
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text.strip(), re.ASCII):
        raise ValueError(f'{text!r} is not a duration; write it like "90m", "24h" or "7d"')
    return sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def parse_size(text: str) -> int:
    """Bytes in ``"500G"``, ``"8MiB"`` or ``"100MB"``. Raises ValueError saying what is wanted.

    As ZFS has it, G is 2**30; only the spelling with a plain B, like MB, is a power of ten.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} is not a size; write it like "500G", "8MiB" or "100MB"')
    number, prefix, suffix = match.groups()
    power = _PREFIXES.index(prefix.upper()) + 1 if prefix else 0
    return int(float(number) * (1000 if suffix == "B" else 1024) ** power)


def parse_rate(text: str) -> int:
    """Bytes per second in ``"8MiB/s"``. Raises ValueError saying what is wanted."""
    amount, slash, per = text.strip().partition("/")
    try:
        rate = parse_size(amount)
    except ValueError:
        rate = 0
    if slash != "/" or per.strip() != "s" or rate < 1:
        raise ValueError(f'{text!r} is not a rate; write it like "8MiB/s" or "500K/s"')
    return rate
