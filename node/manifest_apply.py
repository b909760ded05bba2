"""Giving a restored host its properties and configuration back, as its manifest says. Nothing that exists is lost.

Where something is mounted or shared is a matter of the host that burned: those properties are shown, and set only when
each is asked for by its name, as are those that are set here to something else. Encryption is never touched.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.identity import Identity
from node.errors import MeshkeepError
from node.files import write_atomic
from node.manifests import Gathered, Manifests
from node.replicator import Peer
from replication.manifest import DatasetFacts, Manifest
from zfs.door import Zfs
from zfs.errors import ZfsError

ASKED_FOR = frozenset({"mountpoint", "canmount", "sharenfs", "sharesmb"})
NEVER = frozenset({"keylocation", "keyformat", "pbkdf2iters", "encryption", "volsize"})


@dataclass(frozen=True, slots=True)
class Offer:
    """What a manifest says of a dataset that is not so here: to set, and to set only if asked for by name."""

    plain: Mapping[str, str]
    asked_for: Mapping[str, str]


def offer(facts: DatasetFacts, here: Mapping[str, str]) -> Offer:
    """`here` are the properties that are set on the dataset now: to change one of those has to be asked for too."""
    new = {
        name: value
        for name, value in sorted(facts.properties.items())
        if name not in NEVER and here.get(name) != value
    }
    return Offer(
        {name: value for name, value in new.items() if name not in ASKED_FOR and name not in here},
        {name: value for name, value in new.items() if name in ASKED_FOR or name in here},
    )


async def set_properties(
    zfs: Zfs, dataset: str, facts: DatasetFacts, *, plain: bool, also: Collection[str] = ()
) -> dict[str, Any]:
    """Set the plain ones if *plain*, and of the others those in *also*. What fails does not stop the rest.

    `left` are those that were not asked for. Raises ZfsError if *dataset* cannot be looked at.
    """
    found = offer(facts, (await zfs.own_properties([dataset]))[dataset])
    wanted = {**(found.plain if plain else {}), **_only({**found.plain, **found.asked_for}, also)}
    failed: dict[str, str] = {}
    for name, value in wanted.items():
        try:
            await zfs.set(dataset, {name: value})
        except ZfsError as error:
            failed[name] = str(error)
    left = {name: value for name, value in {**found.plain, **found.asked_for}.items() if name not in wanted}
    return {
        "dataset": dataset,
        "set": {name: value for name, value in wanted.items() if name not in failed},
        "failed": failed,
        "left": left,
        "encryption_root": facts.encryption_root,
        "was": facts.name,
    }


def _only(values: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name in names}


def write_files(
    manifest: Manifest, config: Path, check: Callable[[Sequence[Path]], object], *, renamed: bool
) -> list[dict[str, str]]:
    """The configuration's files: as they were where there is none, else as NAME.restored beside.

    All go beside where datasets were *renamed*, for the rules name the old ones, and where *check* (which raises
    MeshkeepError) finds that together with what is here they are no configuration. Nothing is loaded by this.
    """
    files = {name: config / name for name in sorted(manifest.files)}
    new = {name: path for name, path in files.items() if not path.exists()}
    why = "datasets have new names, and it names the old ones" if renamed else ""
    if new and not why:
        why = _objection(manifest, new, config, check)
    written = []
    for name, path in files.items():
        text = manifest.files[name]
        if path.exists() and _same(path, text):
            written.append({"file": name, "written": "", "why": "it is here as it was"})
            continue
        beside = path.exists() or bool(why)
        target = path.with_name(path.name + ".restored") if beside else path
        write_atomic(target, text)
        written.append(
            {
                "file": name,
                "written": str(target),
                "why": ("another one is here" if path.exists() else why) if beside else "",
            }
        )
    return written


class Giver:
    """Fetches manifests and does as they say. `check` reads a configuration and raises MeshkeepError for a bad one."""

    def __init__(
        self, zfs: Zfs, manifests: Manifests, config: Path, check: Callable[[Sequence[Path]], object]
    ) -> None:
        self._zfs = zfs
        self._manifests = manifests
        self._config = config
        self._check = check

    async def fetch(self, peers: Sequence[Peer], owner: str | None, recovery: Identity | None) -> Gathered:
        return await self._manifests.fetch(peers, owner, recovery)

    async def dataset(
        self, gathered: Gathered, dataset: str, to: str, *, plain: bool, also: Collection[str]
    ) -> dict[str, Any]:
        """The properties that *dataset* had, for *to*; an `error` where that cannot be known or looked at."""
        facts = gathered.facts(dataset)
        if facts is None:
            told = "; ".join(gathered.problems)
            why = f"no manifest that could be had tells of {dataset}" + (f": {told}" if told else "")
            return {"dataset": to, "error": why}
        try:
            return {**await set_properties(self._zfs, to, facts, plain=plain, also=also), "error": None}
        except ZfsError as error:
            return {"dataset": to, "error": str(error)}

    def files(self, gathered: Gathered, me: str, *, renamed: bool) -> list[dict[str, str]]:
        """The configuration of the host that burned: of the newest that is not our own, if there is one.

        Raises OSError.
        """
        others = [one for one in gathered.found if one.manifest.owner != me]
        for one in (others or gathered.found)[:1]:
            return write_files(one.manifest, self._config, self._check, renamed=renamed)
        return []


def _objection(
    manifest: Manifest, new: Mapping[str, Path], config: Path, check: Callable[[Sequence[Path]], object]
) -> str:
    """What is wrong with the configuration as it would be; empty for nothing. Nothing stays of trying."""
    trial = config / ".restored-trial"
    drafts = {name: trial / name for name in new}
    here = [
        path
        for path in (config / "meshkeep.toml", *sorted((config / "conf.d").glob("*.toml")))
        if path.exists()
    ]
    try:
        for name, path in drafts.items():
            write_atomic(path, manifest.files[name])
        check([*here, *drafts.values()])
    except MeshkeepError as error:
        return f"it does not fit what is here: {error.why or error.what}"
    finally:
        for path in drafts.values():
            path.unlink(missing_ok=True)
        for directory in (trial / "conf.d", trial):
            if directory.is_dir():
                directory.rmdir()
    return ""


def _same(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except UnicodeDecodeError:
        return False
