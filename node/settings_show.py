"""The configuration in effect, value by value, each with the line that set it. Reads no file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from node.settings_lines import KeyPath
from node.settings_merge import Merged
from node.settings_model import (
    DatasetSection,
    Document,
    MeshSection,
    MetricsSection,
    ReplicateSection,
    Section,
    ShareSection,
    SnapshotsSection,
    StorageSection,
)
from node.settings_problems import Origin, Source, dotted
from node.settings_text import dotted_key, duration, literal, policy_keys
from policy.rules import Policy, PoolLimits


@dataclass(frozen=True, slots=True)
class Value:
    """One key. `value` is as a file would have it, None if unset; `origin` is None for a default."""

    path: KeyPath
    value: Any
    origin: Origin | None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        origin = asdict(self.origin) if self.origin else None
        return {"key": dotted(self.path), "value": self.value, "origin": origin}


def effective(texts: Iterable[tuple[str, str]]) -> list[Value]:
    """Every value that (file name, TOML text) pairs without mistakes make, those that stand nowhere included.

    What a policy extends is already in its values.
    """
    merged = Merged()
    for file, text in texts:
        merged.add(file, text)
    tree, source = merged.document, Source(merged.origins)
    found: list[Value] = []
    for name in ("mesh", "storage", "snapshots", "metrics"):
        found += _section((name,), tree.get(name, {}), _SECTIONS[name], source)
    for name in tree.get("policy", {}):
        found += _policy(name, tree, source)
    for name, section in tree.get("pool", {}).items():
        found += _section(("pool", name), section, _POOL, source)
    for name, section in tree.get("dataset", {}).items():
        found += _section(("dataset", name), section, _defaults(DatasetSection), source)
    for name, model in (("replicate", ReplicateSection), ("share", ShareSection)):
        for number, section in enumerate(tree.get(name, [])):
            found += _section((name, number), section, _defaults(model), source)
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a file, with the defaults that an absent key has in effect."""
    schema = Document.model_json_schema()
    for model, defaults in (("PolicySection", _policy_defaults()), ("PoolSection", _POOL)):
        properties = schema["$defs"][model]["properties"]
        for key, value in defaults.items():
            properties[key]["default"] = value
    properties = schema["$defs"]["SnapshotsSection"]["properties"]
    properties["tick"]["default"] = _SECTIONS["snapshots"]["tick"]
    return schema


def as_toml(values: Sequence[Value], *, origins: bool) -> list[str]:
    """The lines of one file that says the same, on wish each with where it comes from."""
    lines: list[str] = []
    section: KeyPath = ()
    for value in values:
        if value.path[:-1] != section:
            section = value.path[:-1]
            lines += ["", _header(section)]
        name = str(value.path[-1])
        line = f"# {name}" if value.value is None else f"{dotted_key(name)} = {literal(value.value)}"
        lines.append(f"{line:<40}  # {_where(value)}" if origins else line)
    return lines[1:]


def _header(section: KeyPath) -> str:
    name = dotted_key(*(part for part in section if isinstance(part, str)))
    return f"[[{name}]]" if isinstance(section[-1], int) else f"[{name}]"


def _where(value: Value) -> str:
    if value.origin is not None:
        return f"{value.origin.file}:{value.origin.line}"
    return "not set" if value.value is None else "default"


def _defaults(model: type[Section]) -> dict[str, Any]:
    """What its keys are when absent; None for those that then mean nothing, or that may not be absent."""
    return {
        field.alias or name: None if field.is_required() else field.default
        for name, field in model.model_fields.items()
    }


_SECTIONS: Mapping[str, dict[str, Any]] = {
    "mesh": _defaults(MeshSection),
    "storage": _defaults(StorageSection),
    "snapshots": _defaults(SnapshotsSection) | {"tick": duration(SnapshotsSection().tick)},
    "metrics": _defaults(MetricsSection),
}
# No mark at all is how a file says that there is no space guard.
_POOL = asdict(PoolLimits()) | {"space_high": None, "space_low": None}


def _section(
    path: KeyPath, section: Mapping[str, Any], defaults: Mapping[str, Any], source: Source
) -> list[Value]:
    return [
        Value((*path, key), section[key], source.at((*path, key)))
        if key in section
        else Value((*path, key), default, None)
        for key, default in defaults.items()
    ]


def _policy(name: str, tree: Mapping[str, Any], source: Source) -> list[Value]:
    values = {key: Value(("policy", name, key), default, None) for key, default in _policy_defaults().items()}
    timezone = tree.get("snapshots", {}).get("timezone")
    if timezone is not None:
        origin = source.at(("snapshots", "timezone"))
        values["timezone"] = Value(("policy", name, "timezone"), timezone, origin)
    for key, (value, path) in _keys_set(name, tree["policy"]).items():
        values[key] = Value(("policy", name, key), value, source.at(path))
    return list(values.values())


def _keys_set(name: str, policies: Mapping[str, Any]) -> dict[str, tuple[Any, KeyPath]]:
    """As `settings` reads them: what it extends from left to right, then its own."""
    section = policies[name]
    bases = section.get("extends", [])
    found: dict[str, tuple[Any, KeyPath]] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        found |= _keys_set(base, policies)
    own = {key: (value, ("policy", name, key)) for key, value in section.items() if key != "extends"}
    return found | own


def _policy_defaults() -> dict[str, Any]:
    return policy_keys(Policy(name=""))
