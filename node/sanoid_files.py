"""The files of a sanoid configuration."""

from pathlib import Path

from policy.sanoid_conf import SanoidConf, SanoidConfError, read
from policy.sanoid_ini import ConfProblem


def conf_files(place: Path) -> list[Path]:
    """*place* itself if it is a file; of a directory sanoid.conf, then sanoid.d/*.conf by name."""
    if not place.is_dir():
        return [place]
    return [place / "sanoid.conf", *sorted((place / "sanoid.d").glob("*.conf"))]


def load(place: Path) -> SanoidConf:
    """Read a sanoid.conf, or the directory of one with its fragments, as one configuration.

    Raises SanoidConfError with all mistakes, or OSError.
    """
    texts: list[tuple[str, str]] = []
    problems: list[ConfProblem] = []
    for path in conf_files(place):
        try:
            texts.append((str(path), path.read_bytes().decode()))
        except UnicodeDecodeError:
            problems.append(ConfProblem(str(path), None, "", "", "is not UTF-8 text"))
    if problems:
        raise SanoidConfError(problems)
    return read(texts)
