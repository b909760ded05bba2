"""What people write on the command line, made into what the agent takes. All raise click's BadParameter."""

import re

import click

from node.quantities import parse_duration, parse_size

__all__ = ["duration", "located", "name", "place", "size"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def duration(text: str) -> int:
    """``15m``, ``1h30m``, ``30d``, or plain seconds: whole seconds, more than none."""
    try:
        seconds = int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if seconds < 1:
        raise click.BadParameter(f"{text!r} is no time at all")
    return seconds


def size(text: str) -> int:
    """``500G``, ``1.5T``: bytes, more than none."""
    try:
        count = parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if count < 1:
        raise click.BadParameter(f"{text!r} is nothing at all")
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


def maybe_moment(text: str | None, now: float, *, always: bool = False) -> int | None:
    """*text* as a time (epoch seconds) if it is one; what is none may name a snapshot, unless *always*."""
    from node.moments import moment

    if text is None:
        return None
    try:
        return moment(text, now)
    except ValueError as error:
        if always:
            raise click.UsageError(str(error), click.get_current_context()) from None
        return None
