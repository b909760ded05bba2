"""The keys of sanoid.conf: which there are, what may stand behind them, and the policy that they make.

Numbers are read as Perl reads them, up to where they end, with a note. What makes sanoid die in the middle of a run,
or destroy what nobody wanted gone (``hourly = abc`` counts as 0), is a mistake here.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from policy.rules import KINDS, Hooks, Kind, Limit, Monitor, Policy, PoolLimits

TRUE = frozenset({"1", "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
FALSE = frozenset({"0", "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", ""})

_NUMBER = re.compile(r"([+-]?\d+)\s*(.*)", re.ASCII)
_AGE = re.compile(r"(\d{1,9})([a-z]?)", re.ASCII)
_DAY = 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": _DAY, "w": 7 * _DAY, "y": 365 * _DAY}
_BARE: Mapping[Kind, int] = {
    "frequently": 1,
    "hourly": 60,
    "daily": 3600,
    "weekly": _DAY,
    "monthly": 7 * _DAY,
    "yearly": 31 * _DAY,
}
"""What an age without a unit counts in: one kind down."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be said of a value: a mistake, or else a note."""

    text: str
    suggestion: str = ""
    mistake: bool = True


Check: TypeAlias = Callable[[str], Remark | None]


def number(text: str) -> int:
    """The number that *text* begins with, 0 if with none: as Perl has it, for whole numbers."""
    found = _NUMBER.match(text)
    return int(found[1]) if found else 0


def is_yes(text: str) -> bool:
    """A switch: whatever sanoid does not know is a yes to Perl."""
    return text not in FALSE


def age(text: str, kind: Kind) -> int:
    """Seconds in the ``_warn`` or ``_crit`` of *kind*: ``90m``, or a number of the next smaller unit."""
    found = _AGE.fullmatch(text.lower())
    if found is None:
        return 0
    return int(found[1]) * (_UNITS[found[2]] if found[2] else _BARE[kind])


def _whole(low: int, high: int | None = None) -> Check:
    wanted = f"from {low} to {high}" if high is not None else f"{low} or more"
    return _number_in(low, high, wanted)


def _number_in(low: int, high: int | None, wanted: str) -> Check:

    def check(text: str) -> Remark | None:
        found = _NUMBER.match(text)
        if found is None or re.match(r"[.eE]\d", found[2]) or len(found[1]) > 9:
            return Remark(f'"{text}" is not a whole number, {wanted}', "0" if not text and low == 0 else "")
        value = int(found[1])
        if value < low or (high is not None and value > high):
            return Remark(f"{value} is out of range: {wanted}")
        if found[2]:
            return Remark(f'"{text}" is read as {value}; comments have lines of their own', mistake=False)
        return None

    return check


def _weekday(text: str) -> Remark | None:
    if number(text) == 7:
        return Remark("7 is out of range: from 0 (Sunday) to 6", "0")
    return _whole(0, 6)(text)


def _percentage(text: str) -> Remark | None:
    if re.fullmatch(r"\d{1,3}", text, re.ASCII) and int(text) <= 100:
        return None
    digits = re.match(r"\d{1,3}(?!\d)", text, re.ASCII)
    close = digits[0] if digits and int(digits[0]) <= 100 else ""
    return Remark(f'"{text}" is not a number from 0 to 100 with nothing behind it', close)


def _limit(text: str) -> Remark | None:
    found = _AGE.fullmatch(text.lower())
    if found is None or found[2] not in ("", *_UNITS):
        close = _AGE.match(text.lower().replace(" ", ""))
        suggestion = close[0] if close and close[2] in ("", *_UNITS) else ""
        return Remark(f'"{text}" is not an age like 90m, 36h or 32d', suggestion)
    return None


def _switch(text: str) -> Remark | None:
    if text in TRUE or text in FALSE:
        return None
    word = re.split(r"\W", text.lower(), maxsplit=1)[0]
    suggestion = word if word in TRUE or word in FALSE else ""
    return Remark(f'"{text}" is neither yes nor no: it counts as yes', suggestion, mistake=False)


def _skip(text: str) -> Remark | None:
    if text in TRUE or text in FALSE:
        return None
    return Remark(f'"{text}" is neither yes nor no: it counts as no', mistake=False)


def _recursive(text: str) -> Remark | None:
    if text in TRUE or text in FALSE or reaches_by_zfs(text):
        return None
    return Remark(f'"{text}" is neither yes, no nor zfs: it counts as no', mistake=False)


def reaches_by_zfs(recursive: str) -> bool:
    """Whether a value of ``recursive`` means ``zfs snapshot -r``: it has only to contain the word."""
    return "zfs" in recursive.lower()


def _path(text: str) -> Remark | None:
    return None if text else Remark("is empty: it names the dataset that the section is for")


def _anything(text: str) -> Remark | None:
    return None


_MINUTE, _HOUR, _MONTH_DAY = _whole(0, 59), _whole(0, 23), _whole(1, 31)
_SWITCHES = ("monitor", "monitor_dont_warn", "monitor_dont_crit")

KEYS: dict[str, tuple[Check, str]] = {
    # By key: the check, and sanoid's default.
    "path": (_path, ""),
    "recursive": (_recursive, ""),
    "use_template": (_anything, ""),
    "process_children_only": (_switch, ""),
    "skip_children": (_skip, ""),
    "pre_snapshot_script": (_anything, ""),
    "post_snapshot_script": (_anything, ""),
    "pre_pruning_script": (_anything, ""),
    "pruning_script": (_anything, ""),
    "script_timeout": (_number_in(-999_999_999, None, "in seconds"), "5"),
    "no_inconsistent_snapshot": (_switch, ""),
    "force_post_snapshot_script": (_switch, ""),
    "frequent_period": (_whole(1), "15"),
    "autoprune": (_switch, "yes"),
    "frequently": (_whole(0), "0"),
    "hourly": (_whole(0), "48"),
    "daily": (_whole(0), "90"),
    "weekly": (_whole(0), "0"),
    "monthly": (_whole(0), "6"),
    "yearly": (_whole(0), "0"),
    "prune_defer": (_percentage, "0"),
    "autosnap": (_switch, "1"),
    "hourly_min": (_MINUTE, "0"),
    "daily_hour": (_HOUR, "23"),
    "daily_min": (_MINUTE, "59"),
    "weekly_wday": (_weekday, "1"),
    "weekly_hour": (_HOUR, "23"),
    "weekly_min": (_MINUTE, "30"),
    "monthly_mday": (_MONTH_DAY, "1"),
    "monthly_hour": (_HOUR, "0"),
    "monthly_min": (_MINUTE, "0"),
    "yearly_mon": (_whole(1, 12), "1"),
    "yearly_mday": (_MONTH_DAY, "1"),
    "yearly_hour": (_HOUR, "0"),
    "yearly_min": (_MINUTE, "0"),
    "monitor": (_switch, "yes"),
    "monitor_dont_warn": (_switch, "no"),
    "monitor_dont_crit": (_switch, "no"),
    "frequently_warn": (_limit, "0"),
    "frequently_crit": (_limit, "0"),
    "hourly_warn": (_limit, "90m"),
    "hourly_crit": (_limit, "360m"),
    "daily_warn": (_limit, "28h"),
    "daily_crit": (_limit, "32h"),
    "weekly_warn": (_limit, "0"),
    "weekly_crit": (_limit, "0"),
    "monthly_warn": (_limit, "32d"),
    "monthly_crit": (_limit, "40d"),
    "yearly_warn": (_limit, "0"),
    "yearly_crit": (_limit, "0"),
    "capacity_warn": (_percentage, "80"),
    "capacity_crit": (_percentage, "95"),
}

_NUMBERS = (
    *KINDS,
    *("frequent_period", "prune_defer", "hourly_min", "daily_hour", "daily_min"),
    *("weekly_wday", "weekly_hour", "weekly_min", "monthly_mday", "monthly_hour", "monthly_min"),
    *("yearly_mon", "yearly_mday", "yearly_hour", "yearly_min"),
)


class Guess:
    """What words were probably meant to be. Comparing costs time, so that only the first few words are looked at."""

    WORDS, KNOWN, LENGTH = 20, 200, 64

    def __init__(self) -> None:
        self.asked = 0

    def like(self, word: str, known: Collection[str]) -> str:
        """The one of *known* that *word* was probably meant to be, or nothing."""
        if self.asked >= self.WORDS or len(known) > self.KNOWN or len(word) > self.LENGTH:
            return ""
        self.asked += 1
        close = difflib.get_close_matches(word.lower(), sorted(known), 1)
        return close[0] if close else ""


def policy_of(name: str, keys: Mapping[str, str], timezone: str) -> Policy:
    """The policy that *keys*, all set and without mistakes, make."""
    numbers: dict[str, Any] = {key: number(keys[key]) for key in _NUMBERS}
    switches: dict[str, Any] = {key: is_yes(keys[key]) for key in _SWITCHES}
    limits: dict[str, Any] = {
        kind: Limit(age(keys[f"{kind}_warn"], kind), age(keys[f"{kind}_crit"], kind)) for kind in KINDS
    }
    return Policy(
        name=name,
        **numbers,
        autosnap=is_yes(keys["autosnap"]),
        autoprune=is_yes(keys["autoprune"]),
        timezone=timezone,
        loose_names=True,
        hooks=Hooks(
            pre_snapshot_script=keys["pre_snapshot_script"],
            post_snapshot_script=keys["post_snapshot_script"],
            pre_pruning_script=keys["pre_pruning_script"],
            pruning_script=keys["pruning_script"],
            script_timeout=number(keys["script_timeout"]),
            no_inconsistent_snapshot=is_yes(keys["no_inconsistent_snapshot"]),
            force_post_snapshot_script=is_yes(keys["force_post_snapshot_script"]),
        ),
        monitor=Monitor(**switches, **limits),
    )


def pool_limits_of(keys: Mapping[str, str]) -> PoolLimits:
    """The capacities from which a pool is complained of."""
    return PoolLimits(number(keys["capacity_warn"]), number(keys["capacity_crit"]))
