"""The managed block of /etc/hosts: names of nodes for programs that only know the resolver's oldest way."""

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

BEGIN = "# BEGIN meshkeep"
END = "# END meshkeep"

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_OURS = re.compile(rf"[0-9a-f:.]+ {_LABEL}(?:\.{_LABEL})*")


class HostsError(Exception):
    """The hosts file could not be written. It is as it was before."""


def rewrite(text: str, entries: Mapping[str, str]) -> str:
    """*text* with one block of exactly *entries* (name -> address), none where there are none.

    Every other byte stays, but for a line end after a last line that has none. The block stays where it was;
    further ones go. Where END is missing, only lines of our own form below BEGIN count as the block. Raises
    ValueError for a name or address that is none: a hostile one could otherwise bring lines of its own.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    block = _block(entries, newline)
    kept, place = _without_blocks(_lines(text))
    if not block:
        return "".join(kept)
    if place is None:
        place = len(kept)
    if place and not kept[place - 1].endswith("\n"):
        kept[place - 1] += newline
    return "".join([*kept[:place], *block, *kept[place:]])


def _block(entries: Mapping[str, str], newline: str) -> list[str]:
    lines = []
    for name, address in sorted(entries.items()):
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no host name")
        lines.append(f"{ip_address(address)} {name}")
    return [line + newline for line in (BEGIN, *lines, END)] if lines else []


def _lines(text: str) -> list[str]:
    """Lines end at a line feed and nowhere else: str.splitlines would also cut at form feeds and such."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _without_blocks(lines: list[str]) -> tuple[list[str], int | None]:
    """The lines that are not ours, and where among them the first block stood."""
    kept: list[str] = []
    place: int | None = None
    index = 0
    while index < len(lines):
        mark = lines[index].strip()
        if mark == BEGIN:
            place = len(kept) if place is None else place
            index = _end_of_block(lines, index + 1)
        elif mark == END:
            index += 1  # the rest of a broken block
        else:
            kept.append(lines[index])
            index += 1
    return kept, place


def _end_of_block(lines: list[str], start: int) -> int:
    for index in range(start, len(lines)):
        if lines[index].strip() == END:
            return index + 1
        if lines[index].strip() == BEGIN:
            break
    index = start
    while index < len(lines) and _OURS.fullmatch(lines[index].strip()):
        index += 1
    return index


def update(entries: Mapping[str, str], path: Path = Path("/etc/hosts")) -> bool:
    """Bring the block of the file up to date; True if it was written. Blocks (a few milliseconds).

    Mode, owner and extended attributes (SELinux's label) stay. A file that cannot be replaced because it is a
    mount of its own, as in containers, is written in place. Raises HostsError, ValueError.
    """
    try:
        target = path.resolve()
        before = target.read_bytes() if target.exists() else b""
        after = rewrite(before.decode("utf-8", "surrogateescape"), entries).encode("utf-8", "surrogateescape")
        if after == before:
            return False
        _replace(target, after)
    except OSError as error:
        raise HostsError(f"{path}: {error.strerror}") from error
    return True


def _replace(target: Path, content: bytes) -> None:
    fresh = target.with_name(f".{target.name}.meshkeep")
    with suppress(FileNotFoundError):
        fresh.unlink()  # left by a power cut
    try:
        _write_new(fresh, content, target)
        fresh.rename(target)
    except OSError:
        with suppress(FileNotFoundError):
            fresh.unlink()
        if not os.path.ismount(target):
            raise
        _write_in_place(target, content)
        return
    _sync_folder(target.parent)


def _write_new(fresh: Path, content: bytes, model: Path) -> None:
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        if model.exists():
            like = model.stat()
            os.fchown(file.fileno(), like.st_uid, like.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))
            _copy_attributes(model, file.fileno())
        else:
            os.fchmod(file.fileno(), 0o644)
        file.flush()
        os.fsync(file.fileno())


def _copy_attributes(model: Path, descriptor: int) -> None:
    with suppress(OSError):  # not every filesystem has them, and a lost one is no reason to lose the names
        for name in os.listxattr(model):
            os.setxattr(descriptor, name, os.getxattr(model, name))


def _write_in_place(target: Path, content: bytes) -> None:
    with open(target, "r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
