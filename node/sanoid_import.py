"""Moving over from sanoid: the file that takes its place, what stands in the way of it, and what it would do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from node.errors import Exit, MeshkeepError
from node.files import write_atomic
from node.sanoid_files import load
from node.sanoid_import_text import as_toml
from node.sanoid_timer import UNKNOWN, stop_command
from node.settings import ConfigError, Settings, config_files, parse
from node.settings_merge import Merged
from policy.import_sanoid import Imported, import_sanoid
from policy.sanoid_conf import SanoidConf, SanoidConfError

NAME = "sanoid-import.toml"
"""The file in conf.d."""

Ask: TypeAlias = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""A verb of the agent and its arguments; raises MeshkeepError."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The file to write, and the other files of the configuration. `loose` is it with loose_names."""

    file: Path
    text: str
    loose: str
    others: tuple[tuple[str, str], ...]
    sanoid: str | None
    trouble: MeshkeepError | None
    imported: Imported

    def texts(self, text: str | None = None) -> list[tuple[str, str]]:
        """The whole configuration with the file in it, in the order in which it is read."""
        found = dict(self.others) | {str(self.file): text or self.text}
        return sorted(found.items(), key=lambda item: (Path(item[0]).parent == self.file.parent, item[0]))


def draft(place: Path, directory: Path, *, loose_names: bool) -> Draft:
    """What *place*, a sanoid.conf or the directory of one, becomes beside what is in *directory*.

    Raises MeshkeepError for a sanoid.conf that cannot be read or has mistakes.
    """
    conf = _load(place)
    file = directory / "conf.d" / NAME
    others, settings, trouble = _existing([one for one in config_files(directory) if one != file])
    timezone = _timezone(others)
    made = {loose: import_sanoid(conf, settings.policies, loose_names=loose) for loose in (loose_names, True)}
    texts = {loose: as_toml(imported, str(place), timezone) for loose, imported in made.items()}
    return Draft(
        file,
        texts[loose_names],
        texts[True],
        tuple(others),
        settings.sanoid,
        trouble,
        made[loose_names],
    )


def _load(place: Path) -> SanoidConf:
    try:
        return load(place)
    except SanoidConfError as error:
        count = "a mistake" if len(error.problems) == 1 else f"{len(error.problems)} mistakes"
        raise MeshkeepError(
            f"{place} has {count}", code="config_invalid", exit=Exit.CONFIG, why=str(error)
        ) from None
    except FileNotFoundError as error:
        raise MeshkeepError(
            f"there is no {error.filename}",
            code="no_sanoid_conf",
            exit=Exit.NOT_FOUND,
            hint="meshkeep config import-sanoid FILE",
        ) from None
    except OSError as error:
        raise MeshkeepError(
            f"{error.filename or place} cannot be read",
            code="unreadable",
            exit=Exit.NOT_PERMITTED if isinstance(error, PermissionError) else Exit.FAILED,
            why=error.strerror or str(error),
        ) from None


def _existing(
    files: Sequence[Path],
) -> tuple[list[tuple[str, str]], Settings, MeshkeepError | None]:
    """The texts, what they mean, and what is wrong with them."""
    texts: list[tuple[str, str]] = []
    try:
        for file in files:
            texts.append((str(file), file.read_text(encoding="utf-8")))
        return texts, parse(texts), None
    except ConfigError as error:
        return texts, Settings(), error
    except (OSError, UnicodeDecodeError) as error:
        why = f"{files[len(texts)]}: {error}"
        return (
            texts,
            Settings(),
            MeshkeepError(
                "the configuration cannot be read", code="config_invalid", exit=Exit.CONFIG, why=why
            ),
        )


def _timezone(texts: Sequence[tuple[str, str]]) -> str:
    merged = Merged()
    for file, text in texts:
        merged.add(file, text)
    snapshots = merged.document.get("snapshots")
    return str(snapshots.get("timezone", "UTC")) if isinstance(snapshots, dict) else "UTC"


def obstacles(made: Draft, at_work: str) -> list[MeshkeepError]:
    """Why *made* must not be applied, the weightiest first. *at_work* is how sanoid is started here, if it is."""
    found: list[MeshkeepError] = []
    if at_work:
        found.append(
            _refused(
                "sanoid may still run here" if at_work == UNKNOWN else "sanoid still runs here",
                "sanoid_at_work",
                f"{at_work}, and two that take and prune the same snapshots would undo each other's work",
                f"sudo {stop_command(at_work)} && sudo meshkeep config import-sanoid --apply",
            )
        )
    if made.file.exists():
        found.append(
            _refused(
                f"{made.file} exists already",
                "already_exists",
                "it may have been edited since it was written",
                f"sudo rm {made.file}",
            )
        )
    if made.sanoid is not None:
        found.append(
            _refused(
                f"the sanoid.conf in {made.sanoid} is in use as it is",
                "sanoid_in_use",
                "[snapshots] sanoid names it, so that all its rules would stand there twice",
                "take that line out of the configuration first",
            )
        )
    if made.trouble is not None:
        return [*found, made.trouble]
    try:
        parse(made.texts())
    except ConfigError as error:
        found.append(error)
    return found


def _refused(what: str, code: str, why: str, hint: str) -> MeshkeepError:
    return MeshkeepError(what, code=code, exit=Exit.REFUSED, why=why, hint=hint)


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be done with what is there now: the answer of policy.test, or why there is none.

    `loosely` are those that sanoid would destroy now and we would not, for they have not exactly the form of its names.
    """

    answer: dict[str, Any] | None
    loosely: tuple[str, ...] = ()
    error: MeshkeepError | None = None


def preview(made: Draft, ask: Ask) -> Preview:
    """Have the agent say it. Changes nothing."""
    try:
        answer = ask("policy.test", {"form": "toml", "texts": made.texts()})
        if made.text == made.loose:
            return Preview(answer)
        loosely = ask("policy.test", {"form": "toml", "texts": made.texts(made.loose)})
    except MeshkeepError as error:
        return Preview(None, error=error)
    ours = {one["snapshot"] for one in answer["prune"]}
    return Preview(answer, tuple(one["snapshot"] for one in loosely["prune"] if one["snapshot"] not in ours))


def write_new(path: Path, text: str) -> None:
    """Write *path*, which must not exist. Raises MeshkeepError; then nothing was changed."""
    if path.exists():
        raise _refused(
            f"{path} exists already", "already_exists", "it is not written over", "choose another --out"
        )
    try:
        write_atomic(path, text)
    except OSError as error:
        raise MeshkeepError(
            f"{path} cannot be written",
            code="unwritable",
            exit=Exit.NOT_PERMITTED if isinstance(error, PermissionError) else Exit.FAILED,
            why=error.strerror or str(error),
        ) from None
