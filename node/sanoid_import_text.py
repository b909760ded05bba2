"""An imported sanoid.conf as the text of a configuration file, with the lines that it comes from."""

from collections.abc import Iterable, Iterator
from typing import Any

from node.settings_text import dotted_key, literal, policy_keys
from policy.import_policies import Written
from policy.import_sanoid import Imported
from policy.rules import Assignment, Policy, PoolLimits
from policy.sanoid_ini import Section
from policy.sanoid_keys import KEYS, policy_of

_HEAD = """\
# Written by `meshkeep config import-sanoid` from {source}; edit it as you like.
# What is not said here is as sanoid has it. Times of day are in UTC, as with sanoid's own units.
"""
_DEFAULTS = {key: default for key, (_, default) in KEYS.items()}


def as_toml(imported: Imported, source: str, timezone: str = "UTC") -> str:
    """The text. *timezone* is the one of policies that do not name theirs."""
    parts: list[Iterable[str]] = [[_HEAD.format(source=source).rstrip()]]
    parts += [[f"# NOT THE SAME: {one}"] for one in imported.differences]
    parts += [_policy(written, timezone) for written in imported.policies]
    parts += [_pool(pool, limits, imported.sections.get(pool)) for pool, limits in imported.pools.items()]
    parts += [_rule(rule, imported.sections.get(rule.dataset)) for rule in imported.rules]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _policy(written: Written, timezone: str) -> Iterator[str]:
    policy, base = written.policy, written.base
    yield f"[{dotted_key('policy', policy.name)}]"
    usual = policy_keys(base if base is not None else Policy(name="", timezone=timezone))
    if base is not None:
        yield f"extends = {literal(base.name)}"
    for key, value in policy_keys(policy).items():
        if value != usual[key]:
            yield f"{key} = {literal(value)}{_said_at(key, value, policy.timezone, written.sections)}"


def _said_at(key: str, value: Any, timezone: str, sections: Iterable[Section]) -> str:
    """A comment with the first line that says this."""
    for section in sections:
        said = section.keys.get(key)
        if said is None:
            continue
        alone = policy_of("", {**_DEFAULTS, key: said.text}, timezone)
        return f"  # {said.file}:{said.line}" if policy_keys(alone)[key] == value else ""
    return ""


def _pool(pool: str, limits: PoolLimits, section: Section | None) -> Iterator[str]:
    usual = PoolLimits()
    yield f"[{dotted_key('pool', pool)}]"
    for key in ("capacity_warn", "capacity_crit"):
        if getattr(limits, key) != getattr(usual, key):
            said = section.keys.get(key) if section else None
            yield f"{key} = {getattr(limits, key)}" + (f"  # {said.file}:{said.line}" if said else "")


def _rule(rule: Assignment, section: Section | None) -> Iterator[str]:
    yield f"[{dotted_key('dataset', rule.dataset)}]" + (
        f"  # {section.file}:{section.line}" if section else ""
    )
    yield f"policy = {literal(rule.policy.name)}"
    if rule.recursion != "no":
        yield f"recursive = {literal('zfs' if rule.recursion == 'zfs' else True)}"
    if rule.children_only:
        yield "process_children_only = true"
    if rule.exclude:
        yield f"exclude = {literal(rule.exclude)}"
