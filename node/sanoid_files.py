"""The files of a sanoid configuration."""

from pathlib import Path

from policy.sanoid_conf import SanoidConf, read


def conf_files(place: Path) -> list[Path]:
    """*place* itself if it is a file; of a directory sanoid.conf, then sanoid.d/*.conf by name."""
    if not place.is_dir():
        return [place]
    return [place / "sanoid.conf", *sorted((place / "sanoid.d").glob("*.conf"))]


def load(place: Path) -> SanoidConf:
    """Read a sanoid.conf, or the directory of one with its fragments, as one configuration.

    Raises SanoidConfError with all mistakes, or OSError.
    """
    # Surrogates stand for what is no UTF-8. The reader takes them in comments only.
    return read(
        [(str(path), path.read_bytes().decode(errors="surrogateescape")) for path in conf_files(place)]
    )
