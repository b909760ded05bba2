"""Rules that are not in force, from files of either front end: read, and resolved for datasets that are given."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from node.errors import Exit, MeshkeepError
from policy.rules import Resolution, resolve

Form: TypeAlias = Literal["toml", "sanoid"]
Texts: TypeAlias = Sequence[tuple[str, str]]
"""(file name, text), in the order in which they hold."""


def form_of(path: Path) -> Form:
    """A file that ends in .conf, or a directory with a sanoid.conf, is sanoid's."""
    if path.is_dir():
        return "sanoid" if (path / "sanoid.conf").exists() else "toml"
    return "sanoid" if path.suffix == ".conf" else "toml"


def read_texts(path: Path, form: Form) -> list[tuple[str, str]]:
    """The file, or those of a directory that hold. Raises MeshkeepError (config) for one that cannot be read."""
    texts, problems = [], []
    for file in _files(path, form):
        try:
            texts.append((str(file), _text(file, form)))
        except UnicodeDecodeError:
            problems.append(f"{file}: is not UTF-8 text")
        except OSError as error:
            problems.append(f"{file}: cannot be read: {error.strerror}")
    if problems:
        raise _invalid(problems)
    return texts


def _text(file: Path, form: Form) -> str:
    if form == "sanoid":
        from node.sanoid_files import text_of

        return text_of(file)
    return file.read_text(encoding="utf-8")


def _files(path: Path, form: Form) -> list[Path]:
    if form == "sanoid":
        from node.sanoid_files import conf_files

        return conf_files(path)
    from node.settings import config_files

    return config_files(path) if path.is_dir() else [path]


def resolve_texts(
    form: Form, texts: Texts, datasets: Iterable[str], roots: Collection[str], timezone: str = "UTC"
) -> Resolution:
    """What every dataset would get. *roots* are those of replicas, *timezone* that of a sanoid.conf's times of day.

    Raises MeshkeepError (config): all mistakes.
    """
    # Each front end loads on use: the command line needs one of them, and pydantic takes its time.
    if form == "sanoid":
        from policy import sanoid_conf

        try:
            return sanoid_conf.read(texts).resolve(datasets, roots, timezone)
        except sanoid_conf.SanoidConfError as error:
            raise _invalid([str(problem) for problem in error.problems]) from None
    from node.settings import parse

    settings = parse(texts)
    resolution = resolve(settings.assignments, datasets, roots, settings.pools)
    if settings.sanoid is None:
        return resolution
    note = f"the rules of {settings.sanoid} are not looked at here; they would hold besides"
    return replace(resolution, notes=(*resolution.notes, note))


def _invalid(problems: Sequence[str]) -> MeshkeepError:
    count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    return MeshkeepError(
        f"the configuration has {count}", code="config_invalid", exit=Exit.CONFIG, why="\n".join(problems)
    )
