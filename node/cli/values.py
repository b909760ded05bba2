"""What people write on the command line, made into what the agent takes. All raise click's BadParameter."""

import re

import click

__all__ = ["duration", "located", "name", "place", "size"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def duration(text: str) -> int:
    """``90``, ``30s``, ``15m``, ``1h``, ``30d``, ``2w``: whole seconds, more than none."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", text.strip())
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else 0
    if seconds <= 0:
        raise click.BadParameter(f"{text!r} is no length of time; write 90s, 15m, 1h or 30d")
    return seconds


def size(text: str) -> int:
    """``500G``, ``1.5T``, ``1048576``: bytes, units are powers of 1024."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGTP]?)(?:iB|B)?", text.strip(), re.IGNORECASE)
    count = int(float(match[1]) * 1024 ** " KMGTP".index(match[2].upper() or " ")) if match else 0
    if count <= 0:
        raise click.BadParameter(f"{text!r} is no size; write 500G or 1.5T")
    return count


def name(text: str) -> str:
    """The name of a node or a mesh: small letters, digits and inner hyphens, at most 32."""
    if not _NAME.fullmatch(text):
        raise click.BadParameter(
            f"{text!r} is no name; use a-z, 0-9 and inner hyphens, at most 32 characters"
        )
    return text


def located(text: str) -> tuple[str | None, str]:
    """``[NODE:]DATASET`` as (node or None, dataset). A colon behind a slash belongs to the dataset."""
    node, colon, dataset = text.partition(":")
    if colon and dataset and _NAME.fullmatch(node):
        return node, dataset
    return None, text


def place(text: str) -> dict[str, str]:
    """``NODE:DATASET`` or ``NODE:/PATH`` as the arguments of `mount`."""
    node, what = located(text)
    if node is None:
        raise click.BadParameter(f"{text!r} names no node; write NODE:DATASET or NODE:/PATH")
    return {"node": node, "path" if what.startswith("/") else "dataset": what}
