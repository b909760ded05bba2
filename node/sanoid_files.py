"""The files of a sanoid configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from policy.sanoid_conf import SanoidConf, SanoidConfError, read

Texts: TypeAlias = list[tuple[str, str]]
"""(file name, text), in the order in which they hold."""


_Stamp: TypeAlias = tuple[int, int, int, int] | None


class SanoidUnreadable(Exception):
    """There is no sanoid.conf at that place that makes sense. The text says everything that is wrong with it."""


class SanoidMissing(SanoidUnreadable):
    """There is none at all."""


def conf_files(place: Path) -> list[Path]:
    """*place* itself if it is a file; of a directory sanoid.conf, then sanoid.d/*.conf by name."""
    if not place.is_dir():
        return [place]
    return [place / "sanoid.conf", *sorted((place / "sanoid.d").glob("*.conf"))]


def text_of(path: Path) -> str:
    """The text of one file. Raises OSError.

    Surrogates stand for what is no UTF-8: the reader takes them in comments, and they survive JSON.
    """
    return path.read_bytes().decode(errors="surrogateescape")


def texts_of(place: Path) -> Texts:
    """Those of *place*, a sanoid.conf or the directory of one with its fragments. Raises OSError."""
    return [(str(path), text_of(path)) for path in conf_files(place)]


def load(place: Path) -> SanoidConf:
    """Read *place* as one configuration. Raises SanoidConfError with all mistakes, or OSError."""
    return read(texts_of(place))


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The files of a directory as they were at one moment; in `texts` are those that could be read.

    `stamps` tell without reading them whether they may have changed since.
    """

    directory: Path
    stamps: tuple[tuple[str, _Stamp], ...]
    texts: tuple[tuple[str, str], ...]
    errors: tuple[OSError, ...]

    def differs(self, other: "OnDisk") -> bool:
        """Whether they say something else. One that was written anew with the same text does not."""
        return self.texts != other.texts

    def parse(self) -> SanoidConf:
        """Raises SanoidUnreadable."""
        for error in self.errors:
            text = f"{error.filename or self.directory}: {error.strerror or error}"
            gone = isinstance(error, FileNotFoundError) and Path(error.filename).name == "sanoid.conf"
            raise SanoidMissing(text) if gone else SanoidUnreadable(text)
        try:
            return read(self.texts)
        except SanoidConfError as error:
            raise SanoidUnreadable("\n".join(map(str, error.problems))) from error


def look(directory: Path, before: OnDisk | None = None) -> OnDisk:
    """What is in *directory* now: *before* itself if no file was touched since."""
    files = conf_files(directory) if directory.is_dir() else [directory / "sanoid.conf"]
    stamps = tuple((str(file), _stamp(file)) for file in files)
    if before is not None and before.stamps == stamps:
        return before
    texts, errors = [], []
    for file in files:
        try:
            texts.append((str(file), text_of(file)))
        except OSError as error:
            errors.append(error)
    return OnDisk(directory, stamps, tuple(texts), tuple(errors))


def _stamp(file: Path) -> _Stamp:
    try:
        seen = file.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
