"""Settings as TOML text: values, keys and durations as a person would write them."""

import json
import re
from collections.abc import Mapping
from typing import Any

from policy.rules import KINDS, Hooks, Policy

_UNITS = (("d", 86400), ("h", 3600), ("m", 60))
_LONGEST_IN_HOURS = 4 * 86400
_APART = ("name", "hooks", "monitor")
_MONITOR = ("monitor", "monitor_dont_warn", "monitor_dont_crit")
_MOST_BARE_SECONDS = 86_400
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def literal(value: Any) -> str:
    """The TOML of a text, a number, true or false, a list or (inline) a table."""
    if isinstance(value, str):
        # A JSON string is a TOML string, but for this one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key(name)} = {literal(one)}" for name, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(one) for one in value)}]"
    raise TypeError(f"{type(value).__name__} is in no setting")


def key(name: str) -> str:
    """A key, quoted if it must be."""
    return name if _BARE.fullmatch(name) else literal(name)


def dotted_key(*names: str) -> str:
    """``policy.home`` or ``dataset."tank/home"``: what stands in a header."""
    return ".".join(key(name) for name in names)


def duration(seconds: int) -> str:
    """Whole seconds in one unit: ``90m``, ``28h``, ``32d``; what `quantities.parse_duration` reads."""
    for letter, unit in _UNITS:
        if seconds and seconds % unit == 0 and (unit < 86400 or seconds >= _LONGEST_IN_HOURS):
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def policy_keys(policy: Policy) -> dict[str, Any]:
    """The keys of a ``[policy.X]`` that says all of *policy*."""
    keys = {key: getattr(policy, key) for key in Policy.__dataclass_fields__ if key not in _APART}
    keys |= {key: getattr(policy.hooks, key) for key in Hooks.__dataclass_fields__}
    keys |= {key: getattr(policy.monitor, key) for key in _MONITOR}
    for kind in reversed(KINDS):
        limit = policy.monitor.limit(kind)
        keys |= {f"{kind}_warn": duration(limit.warn), f"{kind}_crit": duration(limit.crit)}
    if policy.hooks.script_timeout > _MOST_BARE_SECONDS:
        keys["script_timeout"] = duration(policy.hooks.script_timeout)
    keys["keep_every"] = {duration(rule.seconds): rule.count for rule in policy.keep_every}
    return keys
