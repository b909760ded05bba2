"""What the [[replicate]] sections come to, and what is wrong with them."""

import pytest

from node.settings import ConfigError, parse
from node.status import LATE_AFTER
from replication.guard import Patience
from replication.selector import EVERY, Selector
from replication.window import Window

RULE = '[[replicate]]\nfrom = "tank/a"\nto = ["nas", "cloud"]\n'


def test_what_is_not_said_is_as_it_always_was() -> None:
    (rule,) = parse([("a", RULE)]).replicate
    first, second = rule.specs()
    assert (first.dataset, first.target, second.target) == ("tank/a", "nas", "cloud")
    assert (first.recursive, first.paused, first.window, first.initial) == (False, False, None, "all")
    assert (first.late_after, first.selector, first.patience) == (LATE_AFTER, EVERY, Patience())


def test_all_that_can_be_said() -> None:
    text = RULE + (
        'recursive = true\nexclude = ["tank/a/x"]\nlate_after = "2h"\nsnapshots = ["daily"]\n'
        'snapshot_names = "v.*"\ninitial = "newest"\nwindow = "22:00-05:00"\npaused = true\n'
        'base_hold = "3d"\nbase_hold_size = "5G"\nrate_limit = "8MiB/s"\n'
        '[snapshots]\ntimezone = "Europe/Berlin"\n[replication]\nparallel = 7\n'
    )
    settings = parse([("a", text)])
    spec = next(iter(settings.replicate[0].specs()))
    assert (spec.recursive, spec.exclude, spec.late_after) == (True, ("tank/a/x",), 7200)
    assert (spec.selector, spec.initial, spec.paused) == (Selector(("daily",), "v.*"), "newest", True)
    assert spec.window == Window(22 * 60, 5 * 60, "Europe/Berlin")
    assert (spec.patience, spec.rate_limit) == (Patience(3 * 86400, 5 << 30), 8 << 20)
    assert settings.parallel == 7


def test_a_window_has_the_zone_of_its_rule_if_there_is_one() -> None:
    (rule,) = parse([("a", RULE + 'window = "01:00-06:00"\ntimezone = "Asia/Tokyo"\n')]).replicate
    assert rule.window == Window(60, 360, "Asia/Tokyo")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('exclude = ["tank/a/x"]', "means nothing without recursive = true"),
        ('recursive = true\nexclude = ["tank/b"]', '"tank/b" is not below tank/a'),
        ('window = "1-6"', "is no window"),
        ('snapshot_names = "("', "is no regular expression"),
        ('snapshots = ["dayly"]', "daily"),
        ('timezone = "Asia/Tokyo"', "means nothing without a window"),
        ('initial = "last"', "newest"),
        ('base_hold = "soon"', "is not a duration"),
        ('drill = "daily"', "is not a duration"),
        ('drill = "2h"', "from 1d to ten years"),
        ("drill = 30", 'must be "weekly", "monthly", "off"'),
        ('drill = "30d"\ndrill_key_file = "key"', "no absolute path"),
        ('drill_key_file = "/root/key"', 'means nothing without drill = "monthly"'),
    ],
)
def test_mistakes_are_told_where_they_stand(line: str, told: str) -> None:
    with pytest.raises(ConfigError, match="a mistake") as caught:
        parse([("a", RULE + line + "\n")])
    assert told in caught.value.why
    assert caught.value.why.startswith("a:")
    assert "replicate[0]" in caught.value.why


def test_at_least_one_stream_runs() -> None:
    with pytest.raises(ConfigError, match="a mistake") as caught:
        parse([("a", "[replication]\nparallel = 0\n")])
    assert "must be at least 1" in caught.value.why


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("", None),
        ('drill = "off"', None),
        ('drill = "weekly"', 7 * 86400),
        ('drill = "monthly"', 30 * 86400),
        ('drill = "90d"', 90 * 86400),
    ],
)
def test_a_drill_is_due_as_often_as_the_rule_says(line: str, seconds: int | None) -> None:
    (rule,) = parse([("a", RULE + line + "\n")]).replicate
    assert [spec.drill for spec in rule.specs()] == [seconds, seconds]


def test_a_drill_runs_at_night_by_the_clocks_of_the_rule_or_in_its_window() -> None:
    zone = '[snapshots]\ntimezone = "Europe/Berlin"\n'
    (rule,) = parse([("a", RULE + 'drill = "weekly"\ndrill_key_file = "/root/key"\n' + zone)]).replicate
    spec = next(iter(rule.specs()))
    assert (spec.quiet, spec.window) == (Window(60, 360, "Europe/Berlin"), None)
    assert spec.drill_key_file == "/root/key"
    (rule,) = parse([("a", RULE + 'window = "22:00-05:00"\ndrill = "weekly"\n')]).replicate
    assert rule.quiet == Window(22 * 60, 5 * 60)
