"""Worlds from a seed: trees, configurations full of corner cases, and histories around the moments that matter.

What sanoid gets wrong by itself is left out here and has tests of its own: see docs/sanoid.md.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

from policy.rules import KINDS
from tests.differential.world import World
from zfs.names import is_below, pool_of

MINUTE, HOUR, DAY = 60, 3600, 86400
PERIODS = {"hourly": HOUR, "daily": DAY, "weekly": 7 * DAY, "monthly": 31 * DAY, "yearly": 31_557_600}
COUNTS = (0, 0, 1, 2, 3, 5)
YES = ("yes", "Yes", "YES", "1", "true", "True", "on", "ON")
NO = ("no", "No", "NO", "0", "false", "FALSE", "off", "Off")
PARTS = ("a", "b", "home", "vm-1", "x:y", "a.b", "UPPER", "deep", "my docs", "one two: three", "_u", "0")
FOREIGN = (
    "manual",
    "manual_hourly",
    "zfs-auto-snap_hourly-2020-01-01-0000",
    "autosnapX_family",
    "autosnap_2020-01-01_00:00:00_Hourly",
    "autosnap_hourly_",
    "autosnap_x_hourly2",
    "autosnap_early",
    "before upgrade",
    "xautosnap_2020-01-01_00:00:00_hourly",
)
LOOSE = (
    "autosnap_x_{n}_{kind}",
    "autosnapX{n}_{kind}",
    "autosnap_daily_{n}_{kind}",
    "autosnap_{n}_{kind}-early",
    "autosnap {n}_{kind}",
    "autosnap_{n}__{kind}",
)


def world(seed: int, version: tuple[int, ...]) -> World:
    """One world. *version* is the oracle's: some spellings mean something only since then."""
    return _Maker(Random(seed), version).world()


class _Maker:
    def __init__(self, random: Random, version: tuple[int, ...]) -> None:
        self.random = random
        self.version = version
        self.pools = {pool: random.choice((0, 49, 50, 51, 100)) for pool in ("tank", "dozer", "rpool")}
        self.now = self._now()
        at = datetime.fromtimestamp(self.now, UTC)
        self.minutes = (0, 59, at.minute, (at.minute + 1) % 60, random.randrange(60))
        self.hours = (0, 23, at.hour, (at.hour + 1) % 24, random.randrange(24))
        self.days = (1, 28, min(at.day, 28), min(at.day + 1, 28), random.randint(1, 28))
        self.periods = (5, 15, 60, random.randint(5, 60))

    def world(self) -> World:
        datasets = self._datasets()
        conf = self._conf(datasets)
        snapshots = tuple(sorted(self._snapshots(datasets), key=lambda one: self.random.random()))
        return World(conf, self.now, datasets, snapshots, self.pools)

    def _now(self) -> int:
        start = datetime(self.random.randint(2005, 2036), 1, 1, tzinfo=UTC)
        moment = start + timedelta(seconds=self.random.randrange(366 * DAY))
        match self.random.randrange(5):
            case 0:
                moment = moment.replace(day=self.random.choice((1, 2, 28)))
            case 1:
                moment = moment.replace(month=1, day=1)
            case 2:
                moment = moment.replace(hour=0, minute=0)
            case 3:
                moment = moment.replace(second=0)
        return int(moment.timestamp())

    def _datasets(self) -> tuple[str, ...]:
        found = list(self.pools)
        while len(found) < 20:
            parent = self.random.choice(found)
            child = f"{parent}/{self.random.choice(PARTS)}"
            if child not in found and child.count("/") < 6:
                found.append(child)
        return tuple(found)

    # The configuration

    def _conf(self, datasets: tuple[str, ...]) -> str:
        templates = [f"template_{name}" for name in ("default", "a", "b", "my one") if self._one_in(2)]
        named = self.random.sample(datasets, self.random.randint(2, 9))
        sections = {name: self._section(name, templates) for name in named}
        if self._one_in(3):
            gone = f"{self.random.choice(list(self.pools))}/not there"
            sections[gone] = self._section(gone, templates)
        if self._one_in(3):
            self._add_alias(sections, datasets, templates)
        sections |= {name: self._keys(self.random.randint(1, 12)) for name in templates}
        for name in templates:
            if self._one_in(4):
                sections[name]["process_children_only"] = self.random.choice((*YES, *NO))
            if self._one_in(4):
                sections[name][self.random.choice(("recursive", "skip_children", "use_template"))] = "yes"
        order = list(sections)
        self.random.shuffle(order)
        return self._text([(name, sections[name]) for name in order])

    def _section(self, name: str, templates: list[str]) -> dict[str, str]:
        keys = self._keys(self.random.randint(0, 10))
        if self._one_in(2):
            used = [one.removeprefix("template_") for one in self.random.sample(templates, len(templates))]
            keys["use_template"] = self.random.choice((",", ", ", " , ")).join([*used[:2], "none"])
        # Through a shell sanoid does not find what is below a dataset with a blank in its name.
        if " " not in name:
            if self._one_in(2):
                keys["recursive"] = self.random.choice((*YES, "no", "zfs", "zfs", "ZFS", "nO", ""))
            if self._one_in(6):
                keys["skip_children"] = self.random.choice((*YES, "no", "nope"))
        if self._one_in(6):
            keys["process_children_only"] = self.random.choice((*YES, "no", "nope", ""))
        items = list(keys.items())
        self.random.shuffle(items)
        return dict(items)

    def _add_alias(
        self, sections: dict[str, dict[str, str]], datasets: tuple[str, ...], templates: list[str]
    ) -> None:
        """A section for a dataset by another name, in the same pool, for prune_defer looks at the name's."""
        free = [one for one in datasets if one not in sections and not self._is_reached(one, sections)]
        if free:
            path = self.random.choice(free)
            name = f"{pool_of(path)}/alias"
            sections[name] = self._section(name, templates) | {"path": path}
            sections[name].pop("skip_children", None)
            if " " in path or any(is_below(one, path) for one in sections):
                sections[name].pop("recursive", None)

    def _is_reached(self, dataset: str, sections: dict[str, dict[str, str]]) -> bool:
        return any(is_below(dataset, name) and "recursive" in keys for name, keys in sections.items())

    def _keys(self, count: int) -> dict[str, str]:
        keys = {}
        for _ in range(count):
            key = self.random.choice((*KINDS, *KINDS, *_OTHERS))
            keys[key] = self._value(key)
        return keys

    def _value(self, key: str) -> str:
        if key in KINDS:
            return self._spelt(self.random.choice(COUNTS))
        if key in ("autosnap", "autoprune"):
            return self.random.choice((*YES, *NO, *NO, "", "nO", "yes # always", "2"))
        if key == "prune_defer":
            return str(self.random.choice((0, 49, 50, 51, 100)))
        if key == "frequent_period":
            return self._spelt(self.random.choice(self.periods))
        if key.endswith("_min"):
            return self._spelt(self.random.choice(self.minutes))
        if key.endswith("_hour"):
            return self._spelt(self.random.choice(self.hours))
        if key.endswith("_mday"):
            return self._spelt(self.random.choice(self.days))
        if key == "weekly_wday":
            return self._spelt(self.random.randint(0, 6))
        return self._spelt(self.random.randint(1, 12))

    def _spelt(self, number: int) -> str:
        return self.random.choice(("{}", "{}", "{}", "{}  ", "0{}", "{} # of them", "{}x", "+{}")).format(
            number
        )

    def _text(self, sections: list[tuple[str, dict[str, str]]]) -> str:
        lines = ["# made up", ""]
        late = []
        for name, keys in sections:
            lines.append(self.random.choice(("[{}]", "  [ {} ]  ", "[{}]")).format(name))
            items = list(keys.items())
            if self._one_in(4):
                # The rest of the section comes at the end of the file.
                late += [f"[{name}]", *(self._line(*item) for item in items[2:])]
                items = items[:2]
            for key, value in items:
                lines.append(self._line(key, value))
                if self._one_in(12) and self._first_counts(name):
                    lines.append(f"{key} = {self._value(key) if key in _OTHERS else 1}")
            lines.append(self.random.choice(("", "; a comment", "\t# hourly = 3")))
        return self.random.choice(("\n", "\n", "\r\n")).join([*lines, *late, ""])

    def _first_counts(self, section: str) -> bool:
        """Whether the oracle takes the first of two values there."""
        if section.startswith("template_"):
            return section != "template_default" and self.version >= (2, 3)
        return self.version >= (2, 2)

    def _line(self, key: str, value: str) -> str:
        return self.random.choice(("{} = {}", "\t{}={}", "{}   =   {}")).format(key, value)

    # The histories

    def _snapshots(self, datasets: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        for dataset in datasets:
            names = set()
            for kind in KINDS:
                if self._one_in(4):
                    continue
                for creation in self._creations(kind):
                    names.add((self._name(kind, creation), creation))
            seen = set()
            for name, creation in sorted(names):
                if name not in seen:
                    seen.add(name)
                    yield f"{dataset}@{name}", creation
            for name in self.random.sample(FOREIGN, 2):
                yield f"{dataset}@{name}", self.now - self.random.randrange(10**8)

    def _creations(self, kind: str) -> Iterator[int]:
        period = PERIODS.get(kind) or self.random.choice(self.periods) * MINUTE
        youngest = self.random.choice((self.now, self._slot(kind), self.now - self.random.randrange(period)))
        for back in range(self.random.choice((1, 2, 4, 7))):
            yield youngest - back * period + self.random.choice((0, 0, 0, -1, 1))
        if self._one_in(3):
            # At the limit of what is kept, and just beside it; two of one age.
            limit = self.now - self.random.choice(COUNTS) * period
            yield from (limit, limit, limit - 1, limit + 1)
        if self._one_in(12):
            yield self.now + self.random.randrange(DAY)

    def _slot(self, kind: str) -> int:
        """Some moment at which one of *kind* may have been due, or a second beside it."""
        at = datetime.fromtimestamp(self.now, UTC).replace(second=0, minute=self.random.choice(self.minutes))
        if kind in ("yearly", "monthly", "weekly", "daily"):
            at = at.replace(hour=self.random.choice(self.hours))
        if kind in ("yearly", "monthly"):
            at = at.replace(day=self.random.choice(self.days))
        if kind == "monthly" and self._one_in(2):
            at -= timedelta(days=31)
        if kind == "weekly":
            at -= timedelta(days=self.random.randrange(8))
        if kind == "yearly":
            at = at.replace(day=min(at.day, 28), month=self.random.randint(1, 12))
        return int(at.timestamp()) + self.random.choice((-1, 0, 1))

    def _name(self, kind: str, creation: int) -> str:
        if self._one_in(8):
            return self.random.choice(LOOSE).format(n=self.random.randrange(1000), kind=kind)
        dst = "dst" if self._one_in(10) else ""
        return f"{datetime.fromtimestamp(creation, UTC):autosnap_%Y-%m-%d_%H:%M:%S}{dst}_{kind}"

    def _one_in(self, chances: int) -> bool:
        return self.random.randrange(chances) == 0


_OTHERS = (
    *("autosnap", "autoprune", "prune_defer", "frequent_period", "hourly_min", "daily_hour", "daily_min"),
    *("weekly_wday", "weekly_hour", "weekly_min", "monthly_mday", "monthly_hour", "monthly_min"),
    *("yearly_mon", "yearly_mday", "yearly_hour", "yearly_min"),
)
