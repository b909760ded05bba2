"""The configuration: /etc/meshkeep/meshkeep.toml and conf.d/*.toml, checked as one document.

All mistakes of all files are found at once, each with its file, line, key and, if there is one, a suggestion.
What is checked where: TOML and keys set twice in `settings_merge`, the shape of each section in
`settings_model`, policies and pools in `settings_policy`, what the other sections say of each other here.
"""

import contextlib
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from node.errors import Exit, MeshkeepError
from node.quantities import parse_duration
from node.settings_merge import Merged
from node.settings_model import (
    Access,
    DatasetSection,
    Document,
    PolicySection,
    PoolSection,
    ReplicateSection,
    Section,
    ShareSection,
    Squash,
    StorageSection,
)
from node.settings_policy import limits_of, odd_inheritance, odd_pools, policy_of
from node.settings_problems import Origin, Problem, Source, dotted, explain
from node.settings_replicate import ReplicateRule, odd_trees, replicate_rule
from policy.rules import Assignment, Policy, PoolLimits, Recursion
from replication.target_retention import Keep
from zfs.names import is_below

CONFIG_DIR = Path("/etc/meshkeep")
_RECURSION: Mapping[bool | str, Recursion] = {False: "no", True: "each", "zfs": "zfs"}


class ConfigError(MeshkeepError):
    """The configuration has mistakes. Nothing was changed: what ran with the old one goes on."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__(
            f"the configuration has {count}",
            code="config_invalid",
            exit=Exit.CONFIG,
            why="\n".join(str(problem) for problem in problems),
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """``[mesh]``. `endpoints` are where others may dial this node, beside what they see; `vault_ports` the
    TCP ports of other programs that a vault leaves open to the mesh.
    """

    listen_port: int = 51820
    endpoints: tuple[str, ...] = ()
    domain: str = "mesh"
    vault_ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ShareRule:
    """One ``[[share]]``. `map_to` is the user that squashed accesses act as; None means the owner."""

    dataset: str
    to: tuple[str, ...]
    access: Access
    squash: Squash
    map_to: int | str | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration without mistakes. `tick` is in seconds; `origins` says where each key was set.

    `sanoid` is the directory of a sanoid.conf whose rules hold besides; `metrics` an address:port to serve
    them at. `storage_under` is the dataset below which replicas of other nodes are kept; None leaves the choice to us;
    `keep` is which of them stay.
    `lineage` has for each policy itself and what it extends: of a key that several set, the first one's value holds.
    """

    mesh: MeshSettings = MeshSettings()
    storage_under: str | None = None
    keep: Keep = field(default_factory=Keep)
    tick: int = 60
    policies: Mapping[str, Policy] = field(default_factory=dict)
    assignments: tuple[Assignment, ...] = ()
    pools: Mapping[str, PoolLimits] = field(default_factory=dict)
    sanoid: str | None = None
    timezone: str = "UTC"
    metrics: str | None = None
    replicate: tuple[ReplicateRule, ...] = ()
    parallel: int = 2
    shares: tuple[ShareRule, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    lineage: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def config_files(directory: Path = CONFIG_DIR) -> list[Path]:
    """meshkeep.toml, then conf.d/*.toml by name: those that exist."""
    main = directory / "meshkeep.toml"
    return [*([main] if main.exists() else []), *sorted((directory / "conf.d").glob("*.toml"))]


def load(paths: Iterable[Path]) -> Settings:
    """Read and check all *paths* together; none at all means the defaults. Raises ConfigError."""
    texts: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            texts.append((str(path), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            problems.append(Problem(str(path), None, "", "is not UTF-8 text"))
        except OSError as error:
            problems.append(Problem(str(path), None, "", f"cannot be read: {error.strerror}"))
    return parse(texts, problems)


def parse(texts: Iterable[tuple[str, str]], problems: Iterable[Problem] = ()) -> Settings:
    """The settings that (file name, TOML text) pairs make together. *problems* were met on the way here.

    Raises ConfigError.
    """
    merged = Merged(problems=list(problems))
    complete = not merged.problems
    for file, text in texts:
        complete &= merged.add(file, text)
    source = Source(merged.origins)
    found = merged.problems
    try:
        document = Document.model_validate(merged.document)
    except ValidationError as error:
        found += explain(error, source)
    found += _contradictions(_Sound.of(merged.document), source, complete)
    if found:
        raise ConfigError(sorted(found, key=lambda problem: (problem.file, problem.line or 0)))
    return _settings(document, source)


_S = TypeVar("_S", bound=Section)
_K = TypeVar("_K", str, int)


@dataclass(frozen=True, slots=True)
class _Sound:
    """The sections that are well formed by themselves, so that one mistake does not hide another."""

    policies: tuple[str, ...]
    inheriting: dict[str, PolicySection]
    pools: dict[str, PoolSection]
    datasets: dict[str, DatasetSection]
    replicate: dict[int, ReplicateSection]
    share: dict[int, ShareSection]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "_Sound":
        policies, datasets, pools = (document.get(key) for key in ("policy", "dataset", "pool"))
        return cls(
            tuple(policies) if isinstance(policies, dict) else (),
            _well_formed(PolicySection, policies.items()) if isinstance(policies, dict) else {},
            _well_formed(PoolSection, pools.items()) if isinstance(pools, dict) else {},
            _well_formed(DatasetSection, datasets.items()) if isinstance(datasets, dict) else {},
            _well_formed(ReplicateSection, _numbered(document.get("replicate"))),
            _well_formed(ShareSection, _numbered(document.get("share"))),
        )


def _numbered(value: Any) -> Iterable[tuple[int, Any]]:
    return enumerate(value) if isinstance(value, list) else ()


def _well_formed(model: type[_S], sections: Iterable[tuple[_K, Any]]) -> dict[_K, _S]:
    found = {}
    for key, section in sections:
        with contextlib.suppress(ValidationError):
            found[key] = model.model_validate(section)
    return found


def _contradictions(sound: _Sound, source: Source, complete: bool) -> list[Problem]:
    # What a file that cannot be read defines is unknown, so nothing can be said to be missing.
    return [
        *(_unknown_policies(sound, source) if complete else ()),
        *(odd_inheritance(sound.policies, sound.inheriting, source) if complete else ()),
        *_odd_recursion(sound, source),
        *odd_pools(sound.pools, source),
        *_repeated("replicate", "from", sound.replicate, source),
        *odd_trees(sound.replicate, source),
        *_repeated("share", "dataset", sound.share, source),
        *_odd_maps(sound, source),
    ]


def _unknown_policies(sound: _Sound, source: Source) -> Iterable[Problem]:
    for name, section in sound.datasets.items():
        if section.policy not in sound.policies:
            close = difflib.get_close_matches(section.policy, sound.policies, 1)
            text = f'there is no policy "{section.policy}"'
            yield source.problem(("dataset", name, "policy"), text, close[0] if close else "")


def _odd_recursion(sound: _Sound, source: Source) -> Iterable[Problem]:
    for name, section in sound.datasets.items():
        if section.process_children_only and not section.recursive:
            path = ("dataset", name, "process_children_only")
            yield source.problem(path, "takes nothing at all without recursive = true")
        path = ("dataset", name, "exclude")
        if section.exclude and not section.recursive:
            yield source.problem(path, "means nothing without recursive = true")
        for excluded in section.exclude:
            if section.recursive and not is_below(excluded, name):
                yield source.problem(path, f'"{excluded}" is not below {name}')


def _repeated(
    section: str, key: str, rules: Mapping[int, ReplicateSection | ShareSection], source: Source
) -> Iterable[Problem]:
    seen: dict[tuple[str, str], int] = {}
    for number, rule in rules.items():
        dataset = rule.from_ if isinstance(rule, ReplicateSection) else rule.dataset
        for node in rule.to:
            first = seen.setdefault((dataset, node), number)
            if first != number or rule.to.count(node) > 1:
                where = source.at((section, first, key))
                text = f"{dataset} to {node} is set already at {where.file}:{where.line}"
                yield source.problem((section, number, "to"), text)
                break


def _odd_maps(sound: _Sound, source: Source) -> Iterable[Problem]:
    for number, share in sound.share.items():
        if share.map_to is not None and share.squash == "none":
            yield source.problem(("share", number, "map_to"), 'means nothing with squash = "none"')


def _lineage(name: str, document: Document) -> tuple[str, ...]:
    bases = reversed(document.policy[name].extends)
    return (name, *(one for base in bases for one in _lineage(base, document)))


def _keep(storage: StorageSection) -> Keep:
    counts = storage.model_dump(exclude={"under", "floor"})
    return Keep(floor=parse_duration(storage.floor), **counts)


def _settings(document: Document, source: Source) -> Settings:
    policies = {name: policy_of(name, document) for name in document.policy}
    return Settings(
        mesh=MeshSettings(
            document.mesh.listen_port,
            tuple(document.mesh.endpoints),
            document.mesh.domain,
            tuple(document.mesh.vault_ports),
        ),
        storage_under=document.storage.under,
        keep=_keep(document.storage),
        tick=document.snapshots.tick,
        policies=policies,
        pools={name: limits_of(section) for name, section in document.pool.items()},
        sanoid=document.snapshots.sanoid,
        timezone=document.snapshots.timezone,
        metrics=document.metrics.listen,
        assignments=tuple(
            Assignment(
                name,
                policies[section.policy],
                _RECURSION[section.recursive],
                tuple(section.exclude),
                section.process_children_only,
            )
            for name, section in document.dataset.items()
        ),
        replicate=tuple(
            replicate_rule(section, document.snapshots.timezone, source.at(("replicate", number)))
            for number, section in enumerate(document.replicate)
        ),
        parallel=document.replication.parallel,
        shares=tuple(
            ShareRule(
                share.dataset,
                tuple(share.to),
                share.access,
                share.squash,
                share.map_to,
                source.at(("share", number)),
            )
            for number, share in enumerate(document.share)
        ),
        origins={dotted(path): origin for path, origin in source.origins.items()},
        lineage={name: _lineage(name, document) for name in document.policy},
    )
