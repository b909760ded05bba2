"""A key that is a file of this host, as a page for paper. It is read and written here and crosses no socket."""

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from node.errors import Exit, MeshkeepError

MAX_KEY = 4096
RAW = 32


@dataclass(frozen=True, slots=True)
class FileKey:
    """The key of the encryption root `root`: what is to be typed to have it again, and its check letters."""

    root: str
    format: str
    path: Path
    text: str = ""

    @property
    def check(self) -> str:
        """Eight letters that tell a misread key from a right one."""
        return hashlib.blake2b(self.text.encode(), digest_size=4, person=b"mk-key-sheet").hexdigest()


def read(root: str, format_: str, location: str) -> FileKey:
    """The key where ZFS itself finds it. Raises MeshkeepError where there is none to give away."""
    if location == "prompt" or not location.startswith("file://"):
        where = "it is typed" if location == "prompt" else f"it lies at {location}"
        raise MeshkeepError(
            f"there is no key of {root} to export",
            code="nothing_to_export",
            exit=Exit.REFUSED,
            why=f"{where}, and ZFS gives no key away: who does not know it any more cannot have it again",
            hint=f"try it while the original is here: meshkeep key verify {root}",
        )
    path = Path(unquote(location.removeprefix("file://")))
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEY + 1)
    except OSError as error:
        raise MeshkeepError(
            f"the key of {root} cannot be read: {error}", code="no_key_file", exit=Exit.NOT_FOUND
        ) from None
    return FileKey(root, format_, path, _text(root, format_, data))


def _text(root: str, format_: str, data: bytes) -> str:
    """Raw keys in hex; the others as they are."""
    if format_ == "raw" and len(data) == RAW:
        return data.hex()
    line = data.partition(b"\n")[0]
    if format_ == "hex" and len(line) == 2 * RAW and all(one in b"0123456789abcdefABCDEF" for one in line):
        return line.decode().lower()
    if format_ == "passphrase" and 8 <= len(line) <= 512 and line.isascii() and line.decode().isprintable():
        return line.decode()
    raise MeshkeepError(
        f"what lies there is no {format_} key that can be printed",
        code="bad_key_file",
        exit=Exit.REFUSED,
        why=f"the key of {root} has {len(data)} bytes",
    )


def sheet(key: FileKey, host: str, now: float) -> list[str]:
    """The page. Whoever has it, and a copy of the data, can read the data."""
    lines = [
        f"KEY OF {key.root}",
        f"of the host {host}, {time.strftime('%Y-%m-%d', time.gmtime(now))}, format {key.format}",
        "",
        *(f"    {line}" for line in _groups(key)),
        "",
        f"check letters of what is above, without spaces: {key.check}",
        "",
        "To have it again, on a host with a copy of the data:",
    ]
    if key.format == "raw":
        lines.append(f"    echo HEX | tr -d ' ' | xxd -r -p > KEYFILE        ({RAW} bytes)")
    else:
        lines.append(
            "    write it into KEYFILE, in one line" + (", without spaces" if key.format == "hex" else "")
        )
    return [*lines, "    zfs load-key -L file:///WHERE/IS/KEYFILE DATASET"]


def _groups(key: FileKey) -> list[str]:
    if key.format == "passphrase":
        return [key.text]
    words = [key.text[at : at + 4] for at in range(0, len(key.text), 4)]
    return [" ".join(words[:8]), " ".join(words[8:])]


def write(path: Path, lines: list[str]) -> None:
    """Into a new file that only its owner reads; durable when this returns. Raises MeshkeepError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MeshkeepError(
            f"{path} cannot be written: {error.strerror}",
            code="not_written",
            exit=Exit.REFUSED,
            why="it is written to a new file only, and through no link",
        ) from None


def check_output(descriptor: int) -> None:
    """A key is not printed into a file that others can read. Raises MeshkeepError."""
    told = os.fstat(descriptor)
    if stat.S_ISREG(told.st_mode) and told.st_mode & 0o077:
        raise MeshkeepError(
            "others could read the file that this goes into",
            code="readable_by_others",
            exit=Exit.REFUSED,
            why=f"its mode is {stat.S_IMODE(told.st_mode):o}",
            hint="give --to FILE",
        )
