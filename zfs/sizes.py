"""Byte counts in people's form."""


def size(count: float) -> str:
    """Bytes as ``zfs list`` writes them (zfs_nicenum): powers of 1024, at most five characters."""
    power = 0
    while power < 5 and count >= 1024 ** (power + 1):
        power += 1
    unit, scale = "BKMGTP"[power], 1024**power
    if count % scale == 0 or power == 0:
        return f"{int(count // scale)}{unit}"
    texts = [f"{count / scale:.{digits}f}{unit}" for digits in (2, 1, 0)]
    return next((text for text in texts if len(text) <= 5), texts[-1])
